"""The push of code that was taken back."""

from pathlib import Path

import pytest

from runbook_lib import run as run_module
from runbook_lib.errors import AdapterError, PreconditionError
from runbook_lib.journal import Journal
from runbook_lib.results import Status, When
from runbook_lib.run import engine
from runbook_lib.steps import Effect, step_named

from ...support.code_steps import PUSH, REVERT, Run, git


def test_a_push_puts_the_reverts_where_the_next_deployment_reads_them(run: Run) -> None:
    run.approve(REVERT, PUSH)
    preview = run.step(PUSH).preview()
    assert run.step(PUSH).probe().effect is Effect.NOT_DONE
    run.apply(REVERT)

    assert {r.status for r in run.step(PUSH).preconditions()} == {Status.PASS}
    run.apply(PUSH)

    assert f"push {len(preview.table) - 1} commits to origin/main: " in preview.would[0]
    assert all(row[1].startswith("Revert ") for row in preview.table[1:])
    assert run.step(PUSH).probe().effect is Effect.DONE
    assert run.remote_tip() == run.git("rev-parse", "HEAD")
    assert run.step(PUSH).preview().facts == preview.facts  # nothing drifts by being done


def test_a_preview_of_a_push_writes_neither_here_nor_there(run: Run) -> None:
    def files() -> dict[Path, bytes]:
        folders = run.path(), run.path().with_name("frontend.git")
        return {p: p.read_bytes() for folder in folders for p in folder.rglob("*") if p.is_file()}

    before = files()

    run.step(PUSH).preview()
    run.step(PUSH).probe()

    assert files() == before


def test_an_undone_push_brings_the_feature_back_by_commits_on_top(run: Run) -> None:
    run.approve(REVERT, PUSH)
    was = run.remote_tip()
    run.apply(REVERT)
    pushed = run.apply(PUSH)["commit"]

    run.step(PUSH).undo()

    bare = run.path().with_name("frontend.git")
    assert git(bare, "diff", was, "main") == ""
    git(bare, "merge-base", "--is-ancestor", pushed, "main")
    assert run.step(PUSH).probe().effect is Effect.NOT_DONE
    run.step(REVERT).undo()
    run.git("pull", "--quiet", "--ff-only")


def push_from_elsewhere(run: Run) -> str:
    elsewhere = run.path().with_name("elsewhere")
    git(run.path().parent, "clone", "--quiet", "frontend.git", str(elsewhere))
    git(elsewhere, "commit", "--quiet", "--allow-empty", "--message=Somebody else's")
    git(elsewhere, "push", "--quiet")
    return run.remote_tip()


def test_a_branch_that_the_push_made_is_not_undone_by_it(run: Run) -> None:
    git(run.path().with_name("frontend.git"), "update-ref", "-d", "refs/heads/main")
    run.approve(REVERT, PUSH)
    assert run.step(PUSH).preview().would[0].startswith("create the branch origin/main at ")
    run.apply(REVERT)
    run.apply(PUSH)

    with pytest.raises(PreconditionError, match="did not exist before this run"):
        run.step(PUSH).undo()

    assert run.step(PUSH).probe().effect is Effect.DONE


@pytest.mark.parametrize("mode", ["revert", "reset"])
def test_a_remote_that_has_moved_is_left_alone(run: Run, resettable: Run, mode: str) -> None:
    run.now(choices={"CODE": mode})
    run.approve(REVERT, PUSH)
    theirs = push_from_elsewhere(run)
    run.apply(REVERT)

    (result,) = run.step(PUSH).preconditions(When.BEFOREHAND)
    with pytest.raises(AdapterError):
        run.apply(PUSH)

    assert (result.name, result.status) == (PUSH, Status.FAIL)
    assert "holds commits that this checkout did not have" in result.summary
    assert "stop: origin/main holds commits" in run.step(PUSH).preview().would[0]
    assert run.remote_tip() == theirs


@pytest.mark.parametrize("mode", ["revert", "reset"])
def test_a_waiver_of_the_push_never_replaces_what_somebody_else_pushed(run: Run, resettable: Run, mode: str) -> None:
    run.now(choices={"CODE": mode})
    theirs = push_from_elsewhere(run)

    run.approve(REVERT, PUSH)  # as with a waiver of the push, which lets a preview be approved that says to stop
    run.apply(REVERT)
    with pytest.raises(AdapterError):
        run.apply(PUSH)

    assert "replaces" not in run.context.state.approved_facts(PUSH)
    assert run.remote_tip() == theirs


def test_a_reset_replaces_what_was_approved_and_can_put_it_back(resettable: Run) -> None:
    run = resettable
    was = run.remote_tip()
    run.approve(REVERT, PUSH)
    assert run.context.state.approved_facts(PUSH)["replaces"] == was
    assert run.step(PUSH).preview().irreversible
    run.apply(REVERT)

    assert {r.status for r in run.step(PUSH).preconditions()} == {Status.PASS}
    run.apply(PUSH)
    assert run.remote_tip() == run.git("rev-parse", "v1.4.0^{commit}")
    run.step(PUSH).undo()

    assert run.remote_tip() == was


def test_a_reset_is_not_put_back_over_what_somebody_pushed_since(resettable: Run) -> None:
    run = resettable
    run.approve(REVERT, PUSH)
    run.apply(REVERT)
    run.apply(PUSH)
    theirs = push_from_elsewhere(run)

    with pytest.raises(PreconditionError, match="has later pushes"):
        run.step(PUSH).undo()

    assert run.remote_tip() == theirs


@pytest.mark.parametrize(
    ("spoil", "status", "told"),
    [
        pytest.param(["remote", "remove", "origin"], Status.FAIL, "has no upstream branch", id="no remote"),
        pytest.param(["remote", "set-url", "origin", "/nowhere"], Status.UNKNOWN, "does not answer", id="remote away"),
    ],
)
def test_without_a_remote_the_step_stops_unless_waived(run: Run, spoil: list[str], status: Status, told: str) -> None:
    run.git(*spoil)
    run.approve(REVERT, PUSH)
    run.apply(REVERT)

    (result,) = run.step(PUSH).preconditions(When.BEFOREHAND)

    assert (result.name, result.status) == (PUSH, status)
    assert told in result.summary
    assert told in run.step(PUSH).preview().would[0]
    assert run.step(PUSH).verify()[0].status is Status.FAIL


def test_a_waiver_by_its_name_leaves_the_push_for_later(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    context = run.context
    run.now(type="frontend")
    about = {"target": "t", "environment": "rehearsal", "operator": "Dana", "reason": "", "incident": "", "plan": "p"}
    Journal(context.folder.journal_path).append("opened", type="frontend", option="A", **about)
    monkeypatch.setattr(run_module, "steps_of", lambda context: {n: step_named(context, n) for n in (REVERT, PUSH)})
    run.git("remote", "remove", "origin")
    recorded = run_module.Run(context.folder, context)
    digest, _ = recorded.previews()

    with pytest.raises(PreconditionError, match="has no upstream branch"):
        recorded.approve(digest, "Dana")
    recorded.waive(PUSH, "the remote moves house tonight")
    recorded.approve(digest, "Dana")
    engine.apply(recorded, REVERT)
    done = engine.apply(recorded, PUSH)

    assert done.how == "failed, and waived: the remote moves house tonight"
    assert not recorded.state.step(PUSH).is_done


def test_code_that_was_not_taken_back_is_not_pushed(run: Run) -> None:
    run.approve(REVERT, PUSH)

    (result,) = run.step(PUSH).preconditions(When.AT_THE_STEP)

    assert (result.status, "not the reverted code" in result.summary) == (Status.FAIL, True)
