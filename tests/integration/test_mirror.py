"""The journal's copy in the target's database."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from runbook_lib.config.plan import Plan
from runbook_lib.config.target import Target
from runbook_lib.context import Context
from runbook_lib.context.adapters import Adapters
from runbook_lib.errors import JournalError, ParametersError
from runbook_lib.journal import Journal, line_of
from runbook_lib.journal.folder import RunFolder
from runbook_lib.journal.state import replay
from runbook_lib.postgres import mirror
from runbook_lib.postgres.connection import Connection, Postgres
from runbook_lib.run import Run
from runbook_lib.ui import mirror as mirroring

pytestmark = pytest.mark.newest

DATABASE = SimpleNamespace(service="test", dbname=None, schema_=None)
TARGET = SimpleNamespace(name="test", is_production=False, database=DATABASE)


@pytest.fixture
def run(plan: Plan, postgres: Postgres, tmp_path: Path) -> Run:
    """An approved run whose database is the test's."""
    folder = RunFolder.create(tmp_path, "INC-1", "full")
    journal = Journal(folder.journal_path)
    about = {"operator": "Dana", "environment": "rehearsal", "reason": "", "incident": "", "target": "test"}
    journal.append("opened", plan=plan.feature, type="full", option="A", **about)
    journal.append("previewed", digest="d", steps={}, shown=[])
    journal.append("approved", digest="d", by="Dana")
    adapters, state = Adapters(TARGET, folder, postgres=postgres), replay(journal.events())  # type: ignore[arg-type]
    context = Context(plan, TARGET, folder, adapters, state, "Dana")  # type: ignore[arg-type]
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


def test_an_unreachable_database_breaks_nothing_and_catches_up_later(
    run: Run, monkeypatch: pytest.MonkeyPatch, postgres: Postgres
) -> None:
    run.context.adapters = run.context.adapters.but(postgres=Postgres("nowhere", "test"))
    assert mirroring.send(run) == 0

    run.context.adapters = run.context.adapters.but(postgres=postgres)
    assert mirroring.send(run) == 3


def test_a_journal_continued_elsewhere_adds_nothing_and_is_outdated(run: Run, tmp_path: Path) -> None:
    mirroring.send(run)
    elsewhere = Journal(tmp_path / "copy.jsonl")
    elsewhere.path.write_bytes(run.journal.path.read_bytes())
    kept = elsewhere.append("noted", text="there")
    assert not run.context.adapters.lease.is_outdated(run.journal.events())

    with run.context.adapters.postgres.connect() as connection:
        mirror.send(connection, run.folder.id, [(kept.seq, line_of(kept))])
    run.journal.append("noted", text="here")
    run.journal.append("noted", text="and once more")

    assert run.context.adapters.lease.is_outdated(run.journal.events())
    assert mirroring.send(run) == 0
    assert read()[1] == ["opened", "previewed", "approved", "noted"]


def test_the_files_that_another_machine_needs_are_there_as_they_are_now(run: Run, connection: Connection) -> None:
    for name, text in {"evidence/rows.json": "[1]", ".lock": "pid", "report.html": "<p>", "03-full.ipynb": "{}"}.items():
        run.folder.write_text(name, text)
    mirroring.send(run)
    run.folder.write_text("evidence/rows.json", "[1, 2]")
    mirroring.send(run)

    assert mirror.received_files(connection, run.folder.id) == {"evidence/rows.json": b"[1, 2]"}


@pytest.mark.parametrize("name", ["../planted", "/tmp/planted"])
def test_a_file_whose_name_leads_out_of_the_folder_is_refused(
    run: Run, connection: Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    mirroring.send(run)
    mirror.keep(connection, run.folder.id, {name: b"planted"})
    monkeypatch.setattr(mirroring, "load_target", lambda _: TARGET)

    with pytest.raises(ParametersError, match="which is outside the run's folder"):
        mirroring.take_up(Path("any.yaml"), "", "Kim", outputs=tmp_path / "elsewhere")

    assert not (tmp_path / "elsewhere" / run.folder.id).exists()
    assert not (tmp_path / "elsewhere" / "planted").exists()


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

    assert (run.state.operator, run.context.operator, run.state.handovers) == (
        "Kim",
        "Kim",
        ({"from": "Dana", "to": "Kim"},),
    )
    assert read()[1][-1] == "handed-over"


@pytest.mark.parametrize("to", ["", "  ", "Dana"])
def test_a_handover_needs_somebody_else(run: Run, to: str) -> None:
    with pytest.raises(ParametersError, match="needs the name of another person"):
        mirroring.hand_over(run, to)
