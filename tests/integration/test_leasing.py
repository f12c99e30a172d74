"""Runs that want the same target: what the loop, a takeover and the end of a run make of its lease."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from runbook_lib import cli
from runbook_lib import run as run_module
from runbook_lib.checks.prerequisites import prerequisites
from runbook_lib.context import Context
from runbook_lib.errors import Declined, ParametersError, PreconditionError, StepFailed, UnknownOutcome
from runbook_lib.headless import conductor
from runbook_lib.postgres import fence
from runbook_lib.postgres.connection import Connection, Postgres
from runbook_lib.postgres.lease import Lease, holder
from runbook_lib.rehearsal.database import Database
from runbook_lib.results import Precondition
from runbook_lib.run import Run, cleanup, engine, lease, lifecycle
from runbook_lib.run.lifecycle import Outcome, open_new
from runbook_lib.steps import Effect, Facts, Preview, Probe, Step, step_named
from runbook_lib.steps.by_hand import Instruction, in_words
from runbook_lib.steps.remove_columns import RemoveColumns
from runbook_lib.ui import mirror

from ..support.places import PLAN, TARGET

pytestmark = pytest.mark.newest

NAME = "back-up"
WHY = "Ann's laptop is broken"

Begin = Callable[..., Run]


class Note(Step):
    """A step that keeps a note in the target."""

    meanwhile: Callable[[], object] = staticmethod(lambda: None)

    def preview(self) -> Preview:
        return Preview(self.name, self.title, would=["keep a note"])

    def needs(self) -> list[Precondition]:
        return []

    def by_hand(self, preview: Preview) -> list[Instruction]:
        return [in_words("Do it.")]

    def probe(self) -> Probe:
        with self.context.adapters.postgres.connect() as connection:
            row = connection.execute("SELECT to_regclass('runbook.note') IS NOT NULL AS it").fetchone()
        return Probe(Effect.DONE if row and row["it"] else Effect.NOT_DONE, "looked")

    def apply(self) -> Facts:
        with self.context.adapters.postgres.connect() as connection:
            type(self).meanwhile()
            with connection.transaction():
                connection.execute("CREATE TABLE runbook.note ()")
        return {}

    def verify(self) -> list[object]:  # type: ignore[override]
        return []

    def undo(self) -> Facts:
        with self.context.adapters.postgres.connect() as connection:
            connection.execute("DROP TABLE runbook.note")
        return {}


@pytest.fixture
def begin(postgres: Postgres, database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Begin:
    """An approved run of one step on the clone."""
    for name in ("ROOT", "BACKEND_URL", "FRONTEND_URL", "API_TOKEN", "PG_BIN", "PYTHON"):
        monkeypatch.setenv(f"REHEARSAL_{name}", "http://localhost:1")
    monkeypatch.setenv("REHEARSAL_APPLICATION_ROLE", database.application.name)
    target = tmp_path / "target.yaml"
    target.write_text(TARGET.read_text().replace("service: rehearsal", f"service: {postgres.service}"))

    def steps_of(context: Context) -> dict[str, Step]:
        return {NAME: Note(NAME, context)}

    monkeypatch.setattr(run_module, "steps_of", steps_of)
    monkeypatch.setattr(Note, "meanwhile", staticmethod(lambda: None))
    monkeypatch.setattr("runbook_lib.context.comparison.keep_before", lambda context: None)

    def begin(operator: str, type_name: str = "full") -> Run:
        run = open_new(PLAN, target, type_name, operator=operator, reason="a test of it", outputs=tmp_path)
        if type_name == "full":
            run.approve(run.previews()[0], operator)
        return run

    return begin


def owner(connection: Connection) -> str:
    found = holder(connection)
    return "" if found is None or found.released_at else found.operator


def test_a_run_keeps_the_target_from_its_first_step_on(begin: Begin, connection: Connection) -> None:
    ann, bo = begin("Ann"), begin("Bo")
    assert owner(connection) == ""

    engine.apply(ann, NAME)

    assert owner(connection) == "Ann"
    with pytest.raises(PreconditionError, match="left behind on this target, or waits: Ann on "):
        engine.apply(bo, NAME)
    assert bo.state.steps == {}


def test_a_run_that_only_looked_keeps_nothing(begin: Begin, connection: Connection) -> None:
    connection.execute("CREATE SCHEMA runbook")
    connection.execute("CREATE TABLE runbook.note ()")
    ann = begin("Ann")

    assert engine.apply(ann, NAME).how == "already done: looked"

    assert owner(connection) == ""


def test_a_step_that_is_not_there_takes_nothing(begin: Begin, connection: Connection) -> None:
    with pytest.raises(Declined, match="has no step"):
        engine.apply(begin("Ann"), "no-such-step")

    assert holder(connection) is None


def test_a_run_that_is_undone_lets_go(begin: Begin, connection: Connection) -> None:
    ann = begin("Ann")
    engine.apply(ann, NAME)

    engine.undo(ann, NAME)

    assert owner(connection) == ""


@pytest.mark.parametrize(
    ("outcome", "kept"), [("verified", ""), ("failed", "Ann"), ("unknown", "Ann"), ("escalated", "Ann"), ("declined", "Ann")]
)
def test_a_closed_run_lets_go_where_nothing_is_left_to_finish(
    begin: Begin, connection: Connection, outcome: str, kept: str
) -> None:
    ann = begin("Ann")
    engine.apply(ann, NAME)

    lifecycle.close(ann, Outcome(outcome, "by this test"))

    assert owner(connection) == kept
    assert ("released" in [event.kind for event in ann.journal.events()]) is (kept == "")


def test_a_declined_run_leaves_no_trace_in_the_target(begin: Begin, connection: Connection) -> None:
    lifecycle.close(begin("Ann"), Outcome("declined", "by this test"))

    assert holder(connection) is None


def test_a_verified_run_that_acts_again_is_unfinished_again(begin: Begin, connection: Connection) -> None:
    ann = begin("Ann")
    engine.apply(ann, NAME)
    lifecycle.close(ann, Outcome("verified", "by this test"))
    engine.undo(ann, NAME)
    assert owner(connection) == ""

    engine.apply(ann, NAME)

    assert owner(connection) == "Ann"


def test_a_takeover_is_journaled_shown_and_continued(begin: Begin, connection: Connection) -> None:
    ann, bo = begin("Ann"), begin("Bo")
    engine.apply(ann, NAME)

    lease.take_over(bo, WHY)

    (told,) = bo.state.takeovers
    assert (told["reason"], told["by"], told["epoch"]) == (WHY, "Bo", 2)
    assert ann.folder.id in told["before"]
    assert engine.apply(bo, NAME).how == "already done: looked"
    assert owner(connection) == "Bo"
    with pytest.raises(PreconditionError, match="left behind on this target, or waits: Bo on "):
        engine.undo(ann, NAME)


def test_a_takeover_takes_over_the_fence_that_was_left_up(begin: Begin, connection: Connection, database: Database) -> None:
    ann, bo = begin("Ann"), begin("Bo")
    engine.apply(ann, NAME)
    fence.raise_fence(connection, database.application.name, ann.folder.id)

    lease.take_over(bo, WHY)

    assert ann.folder.id in bo.state.pending["fence"]["text"]
    step_named(bo.context, bo.state.pending["fence"]["step"]).purge("fence")
    assert bo.state.pending == {}


def test_a_takeover_needs_a_reason_that_says_something(begin: Begin, connection: Connection) -> None:
    ann, bo = begin("Ann"), begin("Bo")
    engine.apply(ann, NAME)

    with pytest.raises(ParametersError, match="is too short"):
        lease.take_over(bo, "because")

    assert owner(connection) == "Ann"


def test_a_step_that_was_taken_over_while_it_worked_does_not_commit(
    begin: Begin, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    ann, bo = begin("Ann"), begin("Bo")

    def lose_the_network() -> None:
        connection.execute("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'")
        while True:
            try:
                with bo.context.adapters.lease.held(acted=False):
                    return
            except PreconditionError as error:
                if "left behind" in error.what:
                    lease.take_over(bo, WHY)
                    return

    monkeypatch.setattr(Note, "meanwhile", staticmethod(lose_the_network))

    with pytest.raises(StepFailed, match="does not hold the target any more: Bo on ") as failed:
        engine.apply(ann, NAME)

    assert "rolled back" in failed.value.state
    assert connection.execute("SELECT to_regclass('runbook.note') AS it").fetchone() == {"it": None}


def test_a_run_without_the_database_does_not_act_next_to_one_with_it(begin: Begin, connection: Connection) -> None:
    ann, bo = begin("Ann"), begin("Bo", "frontend")
    engine.apply(ann, NAME)

    with pytest.raises(PreconditionError, match="left behind on this target, or waits: Ann on "), lease.leased(bo):
        pass

    assert owner(connection) == "Ann"


def test_a_run_without_the_database_sees_one_from_another_machine_in_it(
    begin: Begin, connection: Connection, postgres: Postgres
) -> None:
    with Lease(postgres, "run-of-kim", "Kim").held(acted=False):
        pass
    bo = begin("Bo", "frontend")

    with pytest.raises(PreconditionError, match="left behind on this target, or waits: Kim on "), lease.leased(bo):
        pass

    assert prerequisites(bo.context)[-1].summary.startswith("left behind or waiting: Kim on ")


def left_behind(run: Run) -> None:
    """What a killed run leaves: a freeze, in its journal and in the copy of that in the database."""
    engine.apply(run, NAME)
    run.journal.append("owed", debt="frozen: deploys", step="freeze", text="deploys is frozen: release it")
    run.journal.append("owed", debt="columns-set-aside", step="remove-columns", text="the columns are set aside")
    assert mirror.send(run) > 0


@pytest.mark.parametrize("folder_is_there", [True, False], ids=["by its folder", "by the copy in the database"])
def test_a_takeover_adopts_the_pending_cleanup_of_the_run_taken_over(begin: Begin, folder_is_there: bool) -> None:
    ann, bo = begin("Ann"), begin("Bo")
    left_behind(ann)
    if not folder_is_there:
        shutil.rmtree(ann.folder.path)

    lease.take_over(bo, WHY)
    lease.take_over(bo, WHY)

    other = f"columns-set-aside of {ann.folder.id}"
    assert set(bo.state.pending) == {"frozen: deploys", other}
    assert bo.state.pending[other]["of"] == ann.folder.id
    assert [event.kind for event in bo.journal.events()].count("adopted") == 1


def test_what_was_adopted_is_purged_as_the_run_that_left_it_would(begin: Begin, monkeypatch: pytest.MonkeyPatch) -> None:
    ann, bo = begin("Ann"), begin("Bo")
    left_behind(ann)
    lease.take_over(bo, WHY)
    seen: list[tuple[str, str]] = []

    def purge(step: RemoveColumns, debt: str) -> Facts:
        seen.append((step.context.folder.id, debt))
        step.reporter.close_cleanup(debt)
        return {}

    monkeypatch.setattr(RemoveColumns, "purge", purge)
    name = f"columns-set-aside of {ann.folder.id}"
    digest, _ = cleanup.preview(bo, name)
    cleanup.clean_up(bo, digest, digest, name)

    assert seen == [(ann.folder.id, "columns-set-aside")]
    assert set(bo.state.pending) == {"frozen: deploys"}


def test_a_run_taken_over_without_its_journal_is_unknown_until_waived(begin: Begin) -> None:
    ann, bo = begin("Ann"), begin("Bo")
    engine.apply(ann, NAME)
    shutil.rmtree(ann.folder.path)

    for _ in range(2):
        with pytest.raises(UnknownOutcome, match=f"the journal of run {ann.folder.id} is neither in"):
            lease.take_over(bo, WHY)
    bo.waive("taken-over", "deploys were looked at by hand")

    assert engine.apply(bo, NAME).how == "already done: looked"


def test_another_run_on_the_target_is_reported_before_any_downtime(begin: Begin) -> None:
    ann, bo = begin("Ann"), begin("Bo")
    engine.apply(ann, NAME)

    found = {r.name: r for r in prerequisites(bo.context)}

    assert found["alone"].status == "FAIL"
    assert "left behind or waiting: Ann on " in found["alone"].summary
    assert {r.name: r for r in prerequisites(ann.context)}["alone"].status == "PASS"


def test_the_command_line_takes_over(begin: Begin, connection: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    ann, bo = begin("Ann"), begin("Bo")
    engine.apply(ann, NAME)
    monkeypatch.setattr(conductor, "carry_out", lambda *_: Outcome("verified", "by this test"))

    done = CliRunner().invoke(cli.commands, ["run", str(bo.folder.path), "--take-over", WHY])

    assert done.exit_code == 0
    assert owner(connection) == "Bo"
