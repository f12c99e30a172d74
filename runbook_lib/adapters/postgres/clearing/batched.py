"""Clears many rows while others use the table: short transactions over ranges of pages, in passes."""

import threading
import time

from psycopg import errors, sql

from runbook_lib.adapters.postgres.backfill import Backfill
from runbook_lib.adapters.postgres.clearing.batch import clear
from runbook_lib.adapters.postgres.clearing.crew import PaceOn, Pages, Range, at_once, within
from runbook_lib.adapters.postgres.clearing.keyed import clear_by_key
from runbook_lib.adapters.postgres.clearing.pacing import Pace, resized
from runbook_lib.adapters.postgres.clearing.passes import TOGETHER, Lines, among, in_passes, passes_of
from runbook_lib.adapters.postgres.connection import Connection, one
from runbook_lib.adapters.postgres.locks import Open
from runbook_lib.adapters.postgres.parallel import in_parallel

_ANY_MARKED = sql.SQL("SELECT count(*) > 0 AS it FROM {table} t WHERE t.{column} @> {marker}")  # quicker than all terms
TOO_LONG = (errors.LockNotAvailable, errors.DeadlockDetected, errors.QueryCanceled)


def clear_by_pages(open_: Open, backfill: Backfill, pace_on: PaceOn, workers: int) -> None:
    """Clear every affected row, range by range, but those that others move meanwhile. Changes the target.

    Args:
        open_: Opens a connection to the target.
        backfill: What to clear.
        pace_on: Makes what stands before each batch, on a connection of its own.
        workers: How many connections work at once; more than one only where nobody else uses the table.

    Raises:
        Declined: The clearing was ended between two batches.
        StepFailed: A transaction would have changed anything else; it was rolled back.
    """
    with open_() as connection:
        pages = Pages(connection, backfill.table)

    def work(connection: Connection, pace: Pace, failed: threading.Event) -> None:
        _work(connection, backfill, pages, pace, failed)

    at_once(open_, pace_on, workers, work)


def clear_moved(open_: Open, backfill: Backfill, pace_on: PaceOn, *, in_a_hurry: bool) -> None:
    """Clear what others have moved from page to page past the ranges. Changes the target.

    Args:
        open_: Opens a connection to the target.
        backfill: What to clear.
        pace_on: Makes what stands before each batch, on a connection of its own.
        in_a_hurry: Whether nobody else uses the table, so that all cores may look.

    Raises:
        Declined: The clearing was ended between two batches.
        StepFailed: A transaction would have changed anything else; it was rolled back.
    """
    with open_() as connection, in_parallel(connection, in_a_hurry):
        if in_a_hurry:  # the server's statistics still are those of before, and tell it not to use an index
            connection.execute("SET LOCAL enable_seqscan = off")
        perhaps_moved = one(connection, backfill.filled(_ANY_MARKED, marker=backfill.marker))["it"]
    if perhaps_moved:
        with open_() as connection, open_() as looking:
            clear_by_key(connection, backfill, pace_on(looking))


def _work(connection: Connection, backfill: Backfill, pages: Pages, pace: Pace, failed: threading.Event) -> None:
    longest = 0.0

    def cleared(pages_of_one: Range, lines: Lines) -> int:
        nonlocal longest
        begun = time.monotonic()
        rows = _patiently(connection, backfill, pages_of_one, lines)
        longest = max(longest, time.monotonic() - begun)
        return rows

    size, untold = pace.first, 0
    while not failed.is_set() and (ranges := pages.take(size, TOGETHER)):
        longest = 0.0
        passes = {pages_of_one: passes_of(connection, backfill, pages_of_one, backfill.affected) for pages_of_one in ranges}
        untold = in_passes(passes, pace, failed, cleared, untold)
        size = resized(size, longest, pace.largest)
    pace(untold)


def _patiently(connection: Connection, backfill: Backfill, pages: Range, lines: Lines) -> int:
    """Clear some lines of a range; where that waits too long for others, its halves one after the other."""
    first, beyond = pages
    try:
        return clear(connection, backfill, within("t", pages), among(lines))
    except TOO_LONG:
        if beyond - first == 1:
            raise
    middle = (first + beyond) // 2
    return sum(_patiently(connection, backfill, half, lines) for half in ((first, middle), (middle, beyond)))
