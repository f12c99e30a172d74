"""The plan's three troubles on real parts: the notebook finds each, and the step loop fixes it."""

import shutil
from collections.abc import Callable

import psycopg
import pytest

from runbook_lib.errors import PreconditionError
from runbook_lib.headless import conductor
from runbook_lib.rehearsal.stack import Stack
from runbook_lib.run import Run, engine, lifecycle

from ..support.stacks import as_previewed, ignore, up

Begin = Callable[..., Run]
NOTEBOOK = "07-troubleshooting"


def found(run: Run) -> list[str]:
    return next(e.data["troubles"] for e in run.journal.events() if e.kind == "diagnosed")


def diagnosed(run: Run) -> str:
    """What becomes of the notebook without an approval."""
    problem = conductor.execute(run.folder.path, NOTEBOOK, {}, ignore)
    assert problem is not None
    return problem.status


def test_a_frontend_built_from_a_stale_cache_is_found_and_rebuilt(broken_frontend: Stack, begin: Begin) -> None:
    built = broken_frontend.root / "frontend" / "dist"
    shutil.copytree(built, broken_frontend.root / "feature")
    rollback = begin("frontend")
    rollback.look_before()
    rollback.approve(rollback.previews()[0], "tester")
    for name in rollback.steps:
        engine.apply(rollback, name)
    lifecycle.verify(rollback)
    assert lifecycle.close(rollback).status == "verified"  # which gives the target back
    version = (built / "version.json").read_text()
    shutil.rmtree(built)
    shutil.copytree(broken_frontend.root / "feature", built)
    (built / "version.json").write_text(version)  # what every version number says is right
    run = begin("")

    assert diagnosed(run) == "declined"
    assert (found(run), run.state.type) == (["frontend-stale"], "rebuild-frontend")
    outcome = conductor.carry_out(run.folder.path, as_previewed, {}, ignore)

    assert outcome.status == "verified", outcome
    assert run.state.step("revert-frontend").status == "found done"
    assert run.state.step("rebuild-frontend").outcome["replaced"] == ["dist"]
    assert run.state.checks["after"]["frontend-displays-media"]["status"] == "PASS"


def test_a_session_left_open_is_found_and_ended_by_its_pid(begin: Begin) -> None:
    with up("none") as running:
        for name in ("frontend", "worker", "backend"):
            running.supervisor.stop(name)
        with psycopg.connect(running.database.conninfo(running.database.application)) as left_open:
            left_open.execute("LOCK TABLE messages")
            earlier = begin("end-sessions")
            earlier.approve(earlier.previews()[0], "tester")
            with psycopg.connect(running.database.conninfo(running.database.application)) as newcomer:
                with pytest.raises(PreconditionError, match="drifted"):  # a session that nobody has approved
                    engine.apply(earlier, "end-sessions")
                assert [each.execute("SELECT 1").fetchone() for each in (left_open, newcomer)] == [(1,), (1,)]
            run = begin("")

            assert diagnosed(run) == "declined"
            assert (found(run), run.state.type) == (["restore-blocked"], "end-sessions")
            outcome = conductor.carry_out(run.folder.path, as_previewed, {}, ignore)

            assert outcome.status == "verified", outcome
            shown = run.state.previews[run.state.approved]["end-sessions"]["facts"]["sessions"]
            assert [f"pid {left_open.info.backend_pid} " in name for name in shown] == [True]
            with pytest.raises(psycopg.OperationalError):
                left_open.execute("SELECT 1")


def test_a_lost_media_column_is_found_and_restored_from_the_backup(begin: Begin) -> None:
    with up("none") as running:
        with psycopg.connect(running.database.conninfo(running.database.application), autocommit=True) as application:
            application.execute("ALTER TABLE messages DROP COLUMN media_url")
        run = begin("")

        assert diagnosed(run) == "declined"

        assert found(run) == ["media-url-missing"]
        assert run.state.type == run.context.plan.troubles["media-url-missing"].fix
        said = next(e.data["error"] for e in run.journal.events() if e.kind == "stopped")
        assert str(run.context.plan.types[run.state.type].notebook) in said
        assert run.state.steps == {}
        outcome = conductor.carry_out(run.folder.path, as_previewed, {}, ignore)

        assert outcome.status == "verified", outcome
        assert run.state.checks["after"]["media-url-as-in-backup"]["status"] == "PASS"
