"""In the middle of a step: the page closed, the kernel interrupted, then restarted; the run resumes from its journal."""

from collections.abc import Callable, Iterator
from time import monotonic, sleep

import pytest
from playwright.sync_api import Browser, expect
from psycopg import sql

from runbook_lib.journal.control import ControlFile
from runbook_lib.postgres.connection import Connection
from runbook_lib.run import Run

from ..support.browser_seat import STEP, Seat, Served, seated

CLEAR = 'apply(run, "clear-backfill")'
CLOSE = "await close(run)"
SECONDS = 60


def until(condition: Callable[[], object]) -> None:
    deadline = monotonic() + SECONDS
    while not condition():
        assert monotonic() < deadline, condition
        sleep(0.02)


@pytest.fixture(scope="module")
def channel(run: Run) -> ControlFile:
    return ControlFile(run.folder.path, "clear-backfill")


@pytest.fixture(scope="module")
def database(run: Run) -> Iterator[Connection]:
    with run.context.adapters.postgres.connect() as connection:
        yield connection


def pause_as_it_begins(run: Run, channel: ControlFile) -> None:
    """Pause a clearing before its first batch, as soon as it can be paused."""
    paused = '"text":"paused"'
    before = run.folder.journal_path.read_text().count(paused)
    until(lambda: channel.request("pause"))
    until(lambda: run.folder.journal_path.read_text().count(paused) > before)


def pause_in_mid_batch(run: Run, database: Connection, channel: ControlFile) -> None:
    """Resume a clearing that is paused before its first transaction, and pause it after that.

    The rows that it wants are held until then.
    """
    before = left(run, database)
    wanted = sql.SQL("SELECT FROM {table} t WHERE {affected} FOR UPDATE")
    with run.context.adapters.postgres.connect() as holding, holding.transaction():
        holding.execute(run.context.backfill(holding).filled(wanted))
        channel.request("resume")
        until(lambda: database.execute("SELECT FROM pg_locks WHERE NOT granted").fetchone() is not None)
        channel.request("pause")
    until(lambda: left(run, database) < before)


def answer_all(seat: Seat) -> None:
    seat.choose_where_asked("OPTION", "A:")
    seat.choose_details(STRATEGY="batched:")
    expect(seat.waiting("Execute preview")).to_be_visible(timeout=STEP)


def clear_and_pause(seat: Seat, run: Run, database: Connection, channel: ControlFile) -> None:
    """Run all cells up to the clearing, and pause that in mid-batch."""
    seat.run_all()
    answer_all(seat)
    seat.approve()
    pause_as_it_begins(run, channel)
    pause_in_mid_batch(run, database, channel)


def left(run: Run, database: Connection) -> int:
    return run.context.backfill(database).count(database)


@pytest.mark.slow
@pytest.mark.newest
def test_the_abort_button_in_mid_batch_keeps_what_is_done_and_stops(
    browser: Browser, lab: Served, run: Run, database: Connection, channel: ControlFile
) -> None:
    all_rows = left(run, database)
    with seated(browser, lab.link) as seat:
        clear_and_pause(seat, run, database, channel)
        expect(seat.output(CLEAR)).to_contain_text("rows")
        seat.show(seat.output(CLEAR))
        seat.picture("abort")
        seat.stray_keys(seat.cell(CLEAR))
        seat.panel.get_by_role("button", name="Abort this step").click()  # the same as the one in the cell
        expect(seat.panel).to_contain_text("“Option A: clear the backfilled entries” failed")
        expect(seat.panel).to_contain_text("Some services stay down until then")
        expect(seat.panel.get_by_role("button", name="Open 08-service-back")).to_be_attached()
        seat.picture("failure-menu")
        seat.output(CLEAR).get_by_role("button", name="stop:").click()
        seat.until_idle()
        expect(seat.output(CLEAR)).to_contain_text("FAILED: Option A: clear the backfilled entries")

        assert lab.state.step("clear-backfill").status == "failed"
        assert lab.acted[-1] == "clear-backfill"
        assert 0 < left(run, database) < all_rows


@pytest.mark.newest
@pytest.mark.slow
def test_a_closed_page_interrupt_or_restart_in_mid_batch_loses_nothing(
    browser: Browser, lab: Served, run: Run, database: Connection, channel: ControlFile
) -> None:
    all_rows = left(run, database)
    with seated(browser, lab.link) as seat:
        seat.restart()
        clear_and_pause(seat, run, database, channel)
        seat.picture("mid-step")

    with seated(browser, lab.link, idle=False) as seat:  # the page was closed, and is opened again
        seat.interrupt()
        seat.until_idle()
        seat.type_and_run("from runbook_lib.notebook import status; status(run)  # once more")
        seat.until_idle()
        seat.picture("after-interrupt")

        assert lab.state.step("clear-backfill").status in ("started", "failed")
        assert 0 < left(run, database) < all_rows
        expect(seat.output("# once more")).to_contain_text("Option A: clear the backfilled entries")

        before, begun = lab.acted, lab.begun("clear-backfill")
        seat.run(CLEAR)  # the kernel is restarted while it waits
        pause_as_it_begins(run, channel)
        until(lambda: lab.begun("clear-backfill") == begun + 1)
        seat.restart()
        seat.run_all()
        expect(seat.waiting("Execute preview")).to_be_visible(timeout=STEP)  # the choices stay; acting is asked again
        assert lab.acted == before

        seat.approve()
        expect(seat.output(CLOSE)).to_contain_text("VERIFIED", timeout=2 * STEP)
    assert left(run, database) == 0
