"""A long step in a real kernel with a front end: its controls work while it runs, and what fails is asked about."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.manager import KernelManager

from runbook_lib.documents import load_plan
from runbook_lib.journal import Journal
from runbook_lib.journal.event import Event
from runbook_lib.postgres.connection import Postgres
from runbook_lib.rehearsal.database import create_database
from runbook_lib.rehearsal.postgres import binaries, embedded_server

from ..support.kernels import Cell, kernel
from ..support.places import PLAN, ROOT

APPLY = "await apply(run, 'revert-frontend')"

Execute = Callable[[str], Cell]


@pytest.fixture
def kept(request: pytest.FixtureRequest) -> Iterator[tuple[KernelManager, BlockingKernelClient]]:
    if "service" in request.fixturenames:
        request.getfixturevalue("service")
    with kernel() as both:
        yield both


@pytest.fixture
def execute(kept: tuple[KernelManager, BlockingKernelClient], tmp_path: Path) -> Execute:
    """Execute a cell; `run = seated(...)` in it is a run in a folder of the test's own."""
    _, client = kept
    opened = f"import functools, sys; sys.path.insert(0, {str(ROOT)!r})\n"
    opened += "from runbook_lib.notebook import apply; from tests.support import seated as made\n"
    opened += f"seated = functools.partial(made.seated, {str(tmp_path)!r})"
    first = Cell(client, opened)
    first.until(lambda: first.idle)
    return lambda code: Cell(client, code)


def done(execute: Execute, code: str) -> Cell:
    cell = execute(code)
    cell.until(lambda: cell.idle)
    return cell


def events(tmp_path: Path) -> list[Event]:
    return Journal(next(tmp_path.glob("*/journal.jsonl"))).events()


def kinds(tmp_path: Path) -> list[str]:
    told = ("started", "failed", "applied", "steered", "chosen-after-failure")
    return [event.kind for event in events(tmp_path) if event.kind in told]


def test_the_page_has_a_widget_before_the_first_question(execute: Execute) -> None:
    opened = done(execute, "run = seated()")

    assert opened.of("ButtonModel")


def test_abort_ends_a_running_step_which_can_be_resumed(execute: Execute, tmp_path: Path) -> None:
    done(execute, "run = seated(endless=True)")

    cell = execute(APPLY)
    cell.click(cell.button("Abort"))
    cell.click(cell.button("stop"))
    cell.until(lambda: cell.idle)

    assert kinds(tmp_path) == ["started", "steered", "failed", "chosen-after-failure"]
    assert cell.says("10 of 100 rows")
    assert cell.says("Ended between two batches")


def test_an_abort_clicked_before_the_step_begins_reaches_it_once_it_does(execute: Execute, tmp_path: Path) -> None:
    held_by = tmp_path / "held"
    held_by.touch()
    done(execute, f"from pathlib import Path; run = seated(endless=True, held_by=Path({str(held_by)!r}))")

    cell = execute(APPLY)
    cell.click(cell.button("Abort"))
    cell.until(lambda: cell.says("requested: abort; it takes effect as soon as possible"))
    assert kinds(tmp_path) == []
    held_by.unlink()
    cell.click(cell.button("stop"))
    cell.until(lambda: cell.idle)

    assert kinds(tmp_path) == ["started", "steered", "failed", "chosen-after-failure"]
    assert cell.says("Ended between two batches")


def test_an_interrupt_ends_the_step_and_the_cell_can_be_run_again(
    execute: Execute, kept: tuple[KernelManager, BlockingKernelClient], tmp_path: Path
) -> None:
    done(execute, "run = seated(endless=True)")

    cell = execute(APPLY)
    cell.until(lambda: cell.says("10 of 100 rows"))
    kept[0].interrupt_kernel()
    cell.until(lambda: cell.idle)
    assert cell.says("KeyboardInterrupt")
    assert kinds(tmp_path) == ["started", "failed"]

    done(execute, "run.steps['revert-frontend'].endless = False")
    again = done(execute, APPLY)
    assert again.says("done (")
    assert kinds(tmp_path)[2:] == ["started", "applied"]


@pytest.fixture
def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Postgres]:
    """A real database, reached as the rehearsal's is; the kernel inherits the way to it."""
    with embedded_server(binaries()) as server:
        database = create_database(server, 10)
        lines = (f"{name}={value}" for name, value in database.parameters(database.runbook).items())
        (tmp_path / "services").write_text("\n".join(["[rehearsal]", *lines, ""]))
        monkeypatch.setenv("PGSERVICEFILE", str(tmp_path / "services"))
        yield Postgres("rehearsal", "looking on")


def test_an_interrupt_cancels_a_long_statement_and_the_step_can_resume(
    service: Postgres, execute: Execute, kept: tuple[KernelManager, BlockingKernelClient], tmp_path: Path
) -> None:
    with service.connect() as looking_on:
        looking_on.execute("CREATE TABLE kept (at timestamptz)")
        done(execute, "run = seated(statements=['INSERT INTO kept VALUES (now())', 'SELECT pg_sleep(300)'])")
        asleep = "SELECT pid FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(300)' AND state = 'active'"

        cell = execute(APPLY)
        cell.until(lambda: looking_on.execute(asleep).fetchall())
        kept[0].interrupt_kernel()
        cell.until(lambda: cell.idle)
        assert cell.says("KeyboardInterrupt")
        assert looking_on.execute(asleep).fetchall() == []
        assert looking_on.execute("SELECT FROM kept").fetchall() == []

        done(execute, "run.steps['revert-frontend'].statements = ['INSERT INTO kept VALUES (now())']")
        done(execute, APPLY)
        assert kinds(tmp_path) == ["started", "steered", "failed", "started", "applied"]
        assert len(looking_on.execute("SELECT FROM kept").fetchall()) == 1


def test_retry_does_the_failed_step_again_in_the_same_cell(execute: Execute, tmp_path: Path) -> None:
    done(execute, "run = seated(fails=1)")

    cell = execute(APPLY)
    cell.click(cell.button("retry"))
    cell.until(lambda: cell.idle)

    assert [text for text in ("The tool broke.", "Half of it is there.", "Fix it.") if not cell.says(text)] == []
    assert kinds(tmp_path) == ["started", "failed", "chosen-after-failure", "started", "applied"]


def test_a_failed_step_waits_for_an_answer_and_an_interrupt_ends_it(
    execute: Execute, kept: tuple[KernelManager, BlockingKernelClient]
) -> None:
    done(execute, "run = seated(fails=1)")

    cell = execute(APPLY)
    cell.button("retry")
    assert not cell.idle
    kept[0].interrupt_kernel()
    cell.until(lambda: cell.idle)

    assert cell.says("StepFailed")


def test_every_cell_is_journaled_without_its_secrets(execute: Execute, tmp_path: Path) -> None:
    done(execute, "run = seated()")
    done(execute, "print('password=hunter22')")
    done(execute, "1/0")

    told = [(e.kind, e.data) for e in events(tmp_path) if e.kind.startswith("cell-")]
    assert told[0][1]["source"] == "run = seated()"
    assert told[2][1]["source"] == "print('password=[redacted]')"
    assert [data["outcome"] for kind, data in told if kind == "cell-ended"] == ["ok", "ok", "ZeroDivisionError"]


@pytest.mark.parametrize("code", ["{}", "from IPython.display import display; display({})"])
def test_the_hash_of_a_cells_outputs_is_that_of_what_it_showed(execute: Execute, tmp_path: Path, code: str) -> None:
    done(execute, "run = seated()")
    for shown in (42, 43, 42):
        done(execute, code.format(shown))

    first, second, third = [e.data["outputs"] for e in events(tmp_path) if e.kind == "cell-ended"][1:]
    assert (first == third, first == second) == (True, False)


def test_the_banner_follows_the_run(execute: Execute) -> None:
    opened = done(execute, "run = seated()")
    steps = len(load_plan(PLAN).steps_of("frontend", "A"))
    assert opened.says(f"step 1 of {steps}: ")
    assert opened.says("since opened")

    cell = execute(APPLY)
    cell.until(lambda: cell.idle)

    assert cell.says("since the first step")
