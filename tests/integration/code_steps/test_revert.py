"""The steps that take code back: which commits, and a revert of them."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from runbook_lib import run as run_module
from runbook_lib.checks.prerequisites import looked
from runbook_lib.config.plan import Repository
from runbook_lib.context import old_code
from runbook_lib.errors import PreconditionError, UnknownOutcome
from runbook_lib.journal import Journal
from runbook_lib.results import Status
from runbook_lib.steps import Effect, step_named

from ...support.code_steps import REVERT, Run


def test_every_commit_of_the_feature_is_shown_with_its_result(run: Run) -> None:
    preview = run.step("revert-backend").preview()

    head, *rows = preview.table
    merged = [row for row in rows if row[3].startswith("goes-with-merge: ")]
    assert head == ["commit", "subject", "found by", "what is done, and why"]
    assert {row[2] for row in rows} == {"trailer"}
    assert [row[3].split(":")[0] for row in rows if row not in merged] == ["revert", "revert-merge", "revert"]
    assert len(merged) == 2
    assert [line for line in preview.would if line.endswith("(a merge, by its first parent)")] != []


def test_commits_that_the_plan_lists_or_spans_are_taken_back_too(make: Callable[..., Run]) -> None:
    run = make()
    listed, first, last = run.commit("A"), run.commit("B"), run.commit("C", extra="here\n")
    run.commit("Later work")
    run.context.plan = run.context.plan.model_copy(
        update={"repositories": {"frontend": Repository(commits=[listed[:12]], range=f"{first}..{last}")}}
    )

    table = run.step(REVERT).preview().table

    assert {row[1]: row[2:] for row in table if row[1] in "ABC"} == {
        "A": ["included", "already-reverted: it changes nothing"],
        "C": ["included", "revert: it is in the plan's range"],
    }


def test_a_commit_that_the_plan_lists_and_nobody_knows_is_named(make: Callable[..., Run]) -> None:
    run = make(Repository(commits=["0123abc"]))

    with pytest.raises(PreconditionError, match=r"lists 0123abc under repositories.frontend.commits, which is not a commit"):
        run.step(REVERT).preview()


def test_a_commit_that_the_plan_lists_from_another_branch_is_shown_as_such(make: Callable[..., Run]) -> None:
    run = make()
    run.git("switch", "--quiet", "--create", "side")
    side = run.commit("Elsewhere")
    run.git("switch", "--quiet", "main")
    run.context.plan = run.context.plan.model_copy(update={"repositories": {"frontend": Repository(commits=[side])}})

    row = [side[:12], "Elsewhere", "included", "keep: it is not in the checked-out branch"]
    assert row in run.step(REVERT).preview().table


# --- commits that somebody has to decide about


@pytest.fixture
def mention(run: Run) -> str:
    """A commit of the frontend that names the feature in passing; returns its id."""
    return run.commit(f"Check tokens\n\nFound while reviewing {run.context.plan.feature}.", tokens="checked\n")


def listed(run: Run, **repository: Any) -> None:
    """Have the plan say what the frontend's commits are."""
    repositories = {**run.context.plan.repositories, "frontend": Repository(**repository)}
    run.context.plan = run.context.plan.model_copy(update={"repositories": repositories})


def test_a_mention_stops_the_preview_and_is_a_choice_of_its_own(run: Run, mention: str) -> None:
    with pytest.raises(
        UnknownOutcome, match=rf"{mention[:12]} “Check tokens” \(its message only mentions the feature\)"
    ) as caught:
        run.step(REVERT).preview()

    choice = f"COMMIT_{mention[:12]}"
    assert f"{choice}=keep" in caught.value.safe_next
    assert list(run.step(REVERT).choices()[choice]) == ["ask", "revert", "keep"]
    assert run.step(REVERT).chosen(choice) == "ask"


def test_a_preview_with_an_undecided_commit_cannot_be_approved(
    run: Run, mention: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = run.context
    run.now(type="frontend")
    about = {"target": "t", "environment": "rehearsal", "operator": "Dana", "reason": "", "incident": "", "plan": "p"}
    Journal(context.folder.journal_path).append("opened", type="frontend", option="A", **about)
    monkeypatch.setattr(run_module, "steps_of", lambda context: {REVERT: step_named(context, REVERT)})
    recorded = run_module.Run(context.folder, context)

    with pytest.raises(UnknownOutcome, match="It is undecided whether these commits are the feature's"):
        recorded.approve(recorded.previews()[0], "Dana")

    recorded.choose(f"COMMIT_{mention[:12]}", "keep", "operator")
    recorded.approve(recorded.previews()[0], "Dana")
    assert recorded.state.approved


@pytest.mark.parametrize(("answer", "stays"), [("keep", True), ("revert", False)])
@pytest.mark.parametrize("by_plan", [True, False], ids=["the plan lists it", "somebody chose"])
def test_what_was_decided_of_a_mention_is_done(run: Run, mention: str, answer: str, stays: bool, by_plan: bool) -> None:
    if by_plan:
        listed(run, **{"exclude" if stays else "commits": [mention[:12]]})
    else:
        run.now(choices={f"COMMIT_{mention[:12]}": answer})

    run.approve(REVERT)
    run.apply(REVERT)

    assert (run.path() / "tokens").exists() == stays
    assert {r.status for r in run.step(REVERT).verify()} == {Status.PASS}
    assert run.step(REVERT).probe().effect is Effect.DONE


# --- revert


def test_a_feature_that_a_merged_pull_request_reverted_stays_reverted(run: Run) -> None:
    found = old_code.look(run.context, "frontend")
    run.git("switch", "--quiet", "--create", "revert-1")
    run.git("revert", "--no-edit", *(commit.id for commit in found.reverts))
    run.git("switch", "--quiet", "main")
    feature = run.context.plan.feature
    run.git("merge", "--quiet", "--no-ff", f"--message=Merge pull request #2 from a/revert-1-{feature}", "revert-1")
    before = run.git("rev-parse", "HEAD")

    assert run.step(REVERT).preview().would == ["nothing: no commit of the feature is in effect"]
    assert run.step(REVERT).probe().effect is Effect.DONE
    run.approve(REVERT)
    run.apply(REVERT)

    assert run.git("rev-parse", "HEAD") == before
    assert {r.status for r in run.step(REVERT).verify()} == {Status.PASS}


def test_the_check_reads_files_and_not_messages(run: Run) -> None:
    before = run.git("rev-parse", "HEAD")
    run.approve(REVERT)
    run.apply(REVERT)
    run.git("checkout", "--quiet", before, "--", "src/app.js")
    run.git("commit", "--quiet", "--message=Tidy up")

    (result,) = run.step(REVERT).verify()

    assert result.status is Status.FAIL
    assert "1 files unlike the approved ones" in result.summary
    assert run.step(REVERT).probe().effect is not Effect.DONE


def test_a_conflict_is_known_by_the_preview_and_changes_nothing(run: Run) -> None:
    later = run.commit("Rewrite", **{"src/app.js": "something else altogether\n"})

    with pytest.raises(PreconditionError, match=r"conflicts with later work in: src/app.js") as caught:
        run.step(REVERT).preview()

    assert (caught.value.state, bool(caught.value.safe_next)) == ("The deployed checkout was not touched.", True)
    assert (run.git("rev-parse", "HEAD"), run.git("status", "--porcelain")) == (later, "")


@pytest.mark.parametrize("spoil", [["switch", "--quiet", "--detach"], ["config", "core.bare", "true"]])
def test_what_is_in_the_way_fails_the_prerequisite_with_its_way_on(run: Run, spoil: list[str]) -> None:
    run.git(*spoil)

    result = looked(run.context, "checkouts")

    assert result.status is Status.FAIL
    assert result.summary.endswith(("git switch -c NAME`.", "it must be the checkout that you deploy from."))


def test_a_revert_is_undone_by_moving_back(run: Run) -> None:
    before = run.git("rev-parse", "HEAD")
    run.approve(REVERT)

    run.apply(REVERT)
    assert run.step(REVERT).probe().effect is Effect.DONE
    assert {r.status for r in run.step(REVERT).verify()} == {Status.PASS}
    run.step(REVERT).undo()

    assert run.git("rev-parse", "HEAD") == before
    assert run.step(REVERT).probe().effect is Effect.NOT_DONE


def test_the_prepared_commit_is_in_the_checkout_before_the_step_moves(run: Run) -> None:
    step = run.step(REVERT)
    before, commit = run.git("rev-parse", "HEAD"), step.preview().facts["commit"]

    step.make_ready()

    assert run.git("cat-file", "-t", commit).strip() == "commit"
    assert run.git("rev-parse", "HEAD") == before
    assert run.git("status", "--porcelain") == ""
    assert step.probe().effect is Effect.NOT_DONE
    step.apply()
    assert run.git("rev-parse", "HEAD").strip() == commit


def test_a_move_that_was_cut_short_is_seen_and_ended(run: Run) -> None:
    run.approve(REVERT)
    wanted = run.context.state.approved_facts(REVERT)["commit"]
    old = old_code.prepare(run.context, "frontend")
    run.context.checkout("frontend").bring(old.path, wanted)
    run.git("read-tree", "-m", "-u", "HEAD", wanted)  # what git does before it moves the branch

    assert run.step(REVERT).probe().effect is Effect.HALF_DONE
    run.apply(REVERT)

    assert run.step(REVERT).probe().effect is Effect.DONE
    assert run.git("status", "--porcelain") == ""


def test_an_undo_that_was_cut_short_completes_over_the_lock_of_its_git(run: Run) -> None:
    before = run.git("rev-parse", "HEAD")
    run.approve(REVERT)
    run.apply(REVERT)
    run.git("read-tree", "-m", "-u", "HEAD", before)
    (run.path() / "src" / "app.js").unlink()
    (run.path() / ".git" / "index.lock").touch()
    now = datetime.now(UTC)
    known = run.context.state.step(REVERT)
    run.now(steps={REVERT: replace(known, status="started")}, tries={REVERT: (now - timedelta(seconds=9), now)})

    assert looked(run.context, "checkouts").summary.endswith(f"half-way to {before[:12]}, which the step completes")
    run.step(REVERT).undo()

    assert (run.git("rev-parse", "HEAD"), run.git("status", "--porcelain")) == (before, "")


def test_a_checkout_that_is_none_is_named_before_anything_is_asked_of_git(run: Run) -> None:
    shutil.rmtree(run.path())

    assert looked(run.context, "checkouts").summary.startswith(f"There is no directory {run.path()}.")


def test_a_change_of_somebodys_own_is_not_taken_for_a_move_cut_short(run: Run) -> None:
    run.approve(REVERT)
    (run.path() / "README.md").write_text("mine\n")

    assert run.step(REVERT).probe().effect is Effect.NOT_DONE
    with pytest.raises(PreconditionError, match=r"uncommitted changes: README.md"):
        run.apply(REVERT)
    assert (run.path() / "README.md").read_text() == "mine\n"
