"""A clearing in batches that another process pauses, resumes and ends; and the pending cleanup of an undo with conflicts."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, LiteralString

import psycopg
import pytest

from runbook_lib import run as run_module
from runbook_lib.context import Context
from runbook_lib.errors import Declined, PreconditionError, StepFailed
from runbook_lib.postgres.backfill_removal import throttle
from runbook_lib.postgres.connection import Connection, Postgres
from runbook_lib.postgres.sessions import cancelled_by
from runbook_lib.rehearsal.database import Database
from runbook_lib.run import Run, cleanup, engine
from runbook_lib.run.lifecycle import open_new
from runbook_lib.steps import Effect, Step
from runbook_lib.steps.clear_backfill import ClearBackfill

from ..support.places import PLAN, TARGET

pytestmark = pytest.mark.newest

NAME = "clear-backfill"

Told = Callable[[dict[str, Any]], None]


@pytest.fixture
def begin(postgres: Postgres, database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Run]:
    """An approved run of one step on the clone, by a strategy; batches are of one page."""
    for name in ("ROOT", "BACKEND_URL", "FRONTEND_URL", "API_TOKEN", "PG_BIN", "PYTHON"):
        monkeypatch.setenv(f"REHEARSAL_{name}", "http://localhost:1")
    monkeypatch.setenv("REHEARSAL_PG_BIN", str(database.server.tools))
    monkeypatch.setenv("REHEARSAL_APPLICATION_ROLE", database.application.name)
    monkeypatch.setattr(throttle, "FIRST", 1)
    monkeypatch.setattr(throttle, "TOGETHER", 1)
    target = tmp_path / "target.yaml"
    target.write_text(TARGET.read_text().replace("service: rehearsal", f"service: {postgres.service}"))

    def steps_of(context: Context) -> dict[str, Step]:
        return {NAME: ClearBackfill(NAME, context)}

    monkeypatch.setattr(run_module, "steps_of", steps_of)
    plan = tmp_path / "plan.yaml"
    plan.write_text(PLAN.read_text().replace("touch_column: updated_at", "touch_column: null"))

    def begin(strategy: str) -> Run:
        made = open_new(plan, target, "full", operator="Ann", reason="a test of it", outputs=tmp_path)
        made.choose("STRATEGY", strategy, "Ann")
        made.approve(made.previews()[0], "Ann")
        made.journal.append("found", step="stop-services", title="Stop the services", outcome={"found": "none run"})
        return made

    return begin


@pytest.fixture
def run(begin: Callable[[str], Run]) -> Run:
    return begin("batched")


def command(name: str, run: Run) -> subprocess.CompletedProcess[str]:
    """A command of the command line, in a process of its own."""
    arguments = [sys.executable, "-c", "from runbook_lib.cli import main; main()", name, str(run.folder.path), "--json"]
    return subprocess.run(arguments, capture_output=True, text=True, check=False)


def listening(run: Run, told: Told, of: str = "progress") -> None:
    """Tell of each batch, or of each event of another kind, when it is journaled."""
    report = run.context.reporter.append

    def and_tell(kind: str, /, **data: Any) -> None:
        report(kind, **data)
        if kind == of:
            told(data)

    run.context.reporter = replace(run.context.reporter, append=and_tell)


def left(run: Run) -> int:
    with run.context.adapters.postgres.connect() as connection:
        return run.context.backfill(connection).count(connection)


def steered(run: Run) -> list[tuple[str, str]]:
    return [(e.data["wanted"], e.data["by"]) for e in run.journal.events() if e.kind == "steered"]


@pytest.mark.parametrize(
    ("mode", "begun", "error"), [("ACCESS EXCLUSIVE", False, Declined), ("ACCESS SHARE", True, StepFailed)]
)
def test_an_abort_reaches_a_step_that_waits_for_a_lock(
    begin: Callable[[str], Run], database: Database, mode: LiteralString, begun: bool, error: type[Exception]
) -> None:
    run, codes = begin("swap"), list[int]()
    listening(run, lambda _: codes.append(command("abort", run).returncode), of="waiting")

    with psycopg.connect(database.conninfo()) as session:
        session.execute(f"LOCK messages IN {mode} MODE")
        with pytest.raises(error, match="aborted on request"):
            engine.apply(run, NAME)
        session.rollback()

    assert codes == [0]
    assert (run.state.step(NAME).status == "failed") is begun
    run.context.reporter = replace(run.context.reporter, append=run.journal.append)
    engine.apply(run, NAME)
    assert left(run) == 0


def test_another_process_pauses_between_batches_and_resumes(run: Run) -> None:
    whole, paused = left(run), []

    def told(data: dict[str, Any]) -> None:
        if data["text"] == "paused":
            paused.append(left(run))
            assert command("resume", run).returncode == 0
        elif data["done"] and not paused:
            assert command("pause", run).returncode == 0

    listening(run, told)

    engine.apply(run, NAME)

    assert len(paused) >= 1
    assert 0 < paused[0] < whole
    assert left(run) == 0
    assert {("pause", "Ann"), ("resume", "Ann")} == set(steered(run))


def test_a_step_that_another_process_ended_between_batches_is_resumed(run: Run) -> None:
    def told(data: dict[str, Any]) -> None:
        if data["done"] and not steered(run):
            assert json.loads(command("abort", run).stdout)["wanted"] == "abort"

    whole = left(run)
    listening(run, told)

    with pytest.raises(StepFailed, match="aborted between two batches, as requested"):
        engine.apply(run, NAME)

    assert 0 < left(run) < whole
    assert run.steps[NAME].probe().effect is Effect.HALF_DONE
    assert engine.apply(run, NAME).how == "resumed and completed"
    assert left(run) == 0


def test_what_another_process_ended_can_be_undone(run: Run) -> None:
    whole, once = left(run), iter(["abort"])
    listening(run, lambda data: [run.request(each) for each in once] if data["done"] else None)  # type: ignore[arg-type]
    with pytest.raises(StepFailed):
        engine.apply(run, NAME)

    engine.undo(run, NAME)

    assert (left(run), run.state.pending) == (whole, {})


def test_a_statement_under_way_is_cancelled_once_it_is_to_end(connection: Connection) -> None:
    def look() -> None:
        raise Declined("It is to end.")

    with pytest.raises(Declined), cancelled_by(connection, look), connection.transaction():
        connection.execute("SELECT pg_sleep(60)")

    assert connection.execute("SELECT 1 AS it").fetchall() == [{"it": 1}]


def test_where_nothing_acts_there_is_nothing_to_steer(run: Run) -> None:
    run.journal.append("started", step=NAME, title="begun by a process that is dead by now")

    done = command("resume", run)

    assert done.returncode == 3
    assert "No step of this run acts now." in json.loads(done.stdout)["error"]
    assert steered(run) == []


def test_a_step_that_does_not_work_in_batches_is_not_steered(run: Run) -> None:
    run.journal.append("started", step="back-up", title="Back up")

    with run.folder.lock(), pytest.raises(PreconditionError, match="is not at work in batches"):
        run.request("pause")


def test_a_clearing_that_has_not_come_to_its_batches_is_not_steered(run: Run) -> None:
    run.journal.append("started", step=NAME, title="Clear")

    with run.folder.lock(), pytest.raises(PreconditionError, match="is not at work in batches"):
        run.request("pause")


@pytest.mark.parametrize("strategy", ["batched", "swap"])
def test_conflicts_kept_by_an_undo_are_pending_until_purged(begin: Callable[[str], Run], strategy: str) -> None:
    run = begin(strategy)
    engine.apply(run, NAME)
    with run.context.adapters.postgres.connect() as connection:
        connection.execute("UPDATE messages SET attachments = '[{}]' WHERE id = 3")

    done = engine.undo(run, NAME)

    assert done.outcome["conflicts"] == 1
    assert list(run.state.pending) == ["undo-rows"]
    assert "1 rows that someone changed" in run.state.pending["undo-rows"]["text"]
    assert kept(run) == {"batched": {"bundles", "writes", "proof"}, "swap": {"conflicts", "proof"}}[strategy]
    digest, _ = cleanup.preview(run)
    cleanup.clean_up(run, digest, digest)
    assert (run.state.pending, kept(run)) == ({}, {"control"})  # which says that it was purged


@pytest.mark.parametrize("strategy", ["batched", "swap"])
def test_an_undo_without_conflicts_keeps_nothing(begin: Callable[[str], Run], strategy: str) -> None:
    run = begin(strategy)
    engine.apply(run, NAME)

    engine.undo(run, NAME)

    assert (run.state.pending, kept(run)) == ({}, set())


def kept(run: Run) -> set[str]:
    """The tables that this run keeps of its clearing."""
    query = "SELECT relname AS it FROM pg_class WHERE relnamespace = 'runbook'::regnamespace AND relkind = 'r'"
    with run.context.adapters.postgres.connect() as connection:
        names = [str(row["it"]) for row in connection.execute(query)]
    return {name.removesuffix(f"_{run.context.folder.short}") for name in names if name.endswith(run.context.folder.short)}
