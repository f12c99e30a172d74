"""A reset of code to before the feature."""

import pytest

from runbook_lib.errors import PreconditionError
from runbook_lib.results import Status
from runbook_lib.steps import Effect

from ...support.code_steps import REVERT, Run


def test_a_reset_that_would_lose_later_work_is_refused_by_its_name(run: Run) -> None:
    run.now(choices={"CODE": "reset"})

    with pytest.raises(PreconditionError, match=r"would lose work of others \(1 commits\): .*[Tt]itle") as caught:
        run.step(REVERT).preview()

    assert caught.value.safe_next == "Choose CODE=revert, which keeps that."


def test_a_reset_is_refused_on_a_dirty_tree(resettable: Run) -> None:
    resettable.approve(REVERT)
    (resettable.path() / "README.md").write_text("mine\n")

    with pytest.raises(PreconditionError, match="uncommitted changes"):
        resettable.apply(REVERT)

    assert (resettable.path() / "README.md").read_text() == "mine\n"


def test_a_reset_goes_below_the_feature_and_the_old_head_survives_gc(resettable: Run) -> None:
    run = resettable
    before = run.git("rev-parse", "HEAD")
    run.approve(REVERT)

    run.apply(REVERT)
    assert run.git("rev-parse", "HEAD") == run.git("rev-parse", "v1.4.0^{commit}")
    assert {r.status for r in run.step(REVERT).verify()} == {Status.PASS}
    assert list(run.debts) == ["former-head-frontend"]
    run.git("update-ref", "-d", "refs/remotes/origin/main")
    run.git("reflog", "expire", "--expire=now", "--all")
    run.git("gc", "--quiet", "--prune=now")
    run.step(REVERT).undo()

    assert run.git("rev-parse", "HEAD") == before
    assert (run.debts, run.git("for-each-ref", "refs/runbook")) == ({}, "")


def test_a_purge_releases_the_previous_head(resettable: Run) -> None:
    run = resettable
    run.approve(REVERT)
    run.apply(REVERT)

    assert run.step(REVERT).purge_preview("former-head-frontend").irreversible
    run.step(REVERT).purge("former-head-frontend")

    assert (run.debts, run.git("for-each-ref", "refs/runbook")) == ({}, "")


def test_where_the_schema_stays_a_kept_migration_is_no_leftover(run: Run) -> None:
    run.approve("revert-backend")
    run.apply("revert-backend")

    (found,) = run.step("revert-backend").verify()

    assert run.git("log", "-1", "--format=%s", repository="backend").startswith("Keep migration 039")
    assert (found.status, found.summary.split(",")[0]) == (Status.PASS, "0 commits of the feature in effect")


def test_where_the_schema_stays_a_reset_keeps_the_migrations_file(run: Run) -> None:
    run.git("reset", "--quiet", "--hard", "HEAD~1", repository="backend")  # without the later work
    run.now(choices={"CODE": "reset"})
    run.approve("revert-backend")

    run.apply("revert-backend")

    assert run.git("diff", "--name-only", "v1.4.0", "HEAD", repository="backend").startswith("migrations/039")
    assert run.step("revert-backend").probe().effect is Effect.DONE
