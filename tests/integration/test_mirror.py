"""The journal's copy in the target's database."""

from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import pytest

from runbook_lib.adapters.postgres import mirror
from runbook_lib.adapters.postgres.connection import Connection, Postgres
from runbook_lib.context import Context
from runbook_lib.errors import JournalError, ParametersError
from runbook_lib.folder import RunFolder
from runbook_lib.journal import Journal
from runbook_lib.plan import Plan
from runbook_lib.run import Run
from runbook_lib.seat import mirroring
from runbook_lib.target import Target

TARGET = SimpleNamespace(name="test", is_production=False, database=SimpleNamespace(service="test"))


@pytest.fixture
def run(plan: Plan, postgres: Postgres, tmp_path: Path) -> Run:
    """An approved run whose database is the test's."""
    folder = RunFolder.create(tmp_path, "INC-1", "full")
    journal = Journal(folder.journal_path)
    about = {"operator": "Dana", "environment": "rehearsal", "reason": "", "incident": "", "target": "test"}
    journal.append("opened", plan=plan.feature, type="full", option="A", **about)
    journal.append("previewed", digest="d", steps={}, shown=[])
    journal.append("approved", digest="d", by="Dana")
    context = Context(plan, TARGET, folder, "full", "A", "Dana", datetime.now(UTC))  # type: ignore[arg-type]
    context.__dict__["postgres"] = postgres
    return Run(folder, context)


def read(run: str = "") -> tuple[str, list[str]]:
    target: Target = TARGET  # type: ignore[assignment]
    name, events = mirroring.read(target, run)
    return name, [event.kind for event in events]


def test_another_machine_reads_what_was_journaled(run: Run) -> None:
    assert mirroring.send(run) == 3
    run.journal.append("noted", text="password=hunter22")

    assert mirroring.send(run) == 1
    assert read() == read(run.folder.id) == (run.folder.id, ["opened", "previewed", "approved", "noted"])


def test_nothing_is_written_before_an_approval(run: Run, connection: Connection) -> None:
    run.journal.path.write_text("".join(run.journal.path.read_text().splitlines(keepends=True)[:2]))

    assert mirroring.send(run) == 0
    assert mirror.runs(connection) == []


def test_nothing_is_written_while_a_database_is_put_in_anothers_place(run: Run) -> None:
    run.journal.append("started", step="swap-database", title="Swap")

    assert mirroring.send(run) == 0

    run.journal.append("applied", step="swap-database", seconds=1.0, outcome={})
    assert mirroring.send(run) == 5


def test_a_database_that_cannot_be_reached_breaks_nothing_and_is_caught_up_with(
    run: Run, monkeypatch: pytest.MonkeyPatch, postgres: Postgres
) -> None:
    run.context.__dict__["postgres"] = Postgres("nowhere", "test")
    assert mirroring.send(run) == 0

    run.context.__dict__["postgres"] = postgres
    assert mirroring.send(run) == 3


def test_lines_are_only_added(run: Run, connection: Connection) -> None:
    mirroring.send(run)

    connection.execute("UPDATE runbook.journal SET line = ''")
    connection.execute("DELETE FROM runbook.journal")

    assert len(read()[1]) == 3


def test_a_changed_copy_is_not_believed(run: Run, connection: Connection) -> None:
    mirroring.send(run)
    connection.execute("DROP RULE no_update ON runbook.journal")
    connection.execute("UPDATE runbook.journal SET line = replace(line, 'Dana', 'Dora')")

    with pytest.raises(JournalError, match="broken at line 1"):
        read()


def test_a_run_that_is_not_there_is_an_error_that_names_those_that_are(run: Run) -> None:
    with pytest.raises(ParametersError, match="holds no run"):
        read()
    mirroring.send(run)

    with pytest.raises(ParametersError) as error:
        read("other")
    assert run.folder.id in error.value.safe_next


def test_a_handover_names_both_and_is_seen_from_elsewhere(run: Run) -> None:
    assert mirroring.hand_over(run, " Kim ") == "Dana"

    assert (run.state.operator, run.context.operator, run.state.handovers) == ("Kim", "Kim", [{"from": "Dana", "to": "Kim"}])
    assert read()[1][-1] == "handed-over"


@pytest.mark.parametrize("to", ["", "  ", "Dana"])
def test_a_handover_needs_somebody_else(run: Run, to: str) -> None:
    with pytest.raises(ParametersError, match="somebody else"):
        mirroring.hand_over(run, to)
