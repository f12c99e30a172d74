"""Clears many rows while others use the table: short transactions over ranges of pages.

Each range is passed over several times, each pass taking a growing share of its rows, picked by a hash of the key: the first
moves a few row versions to other pages, and once those are pruned each later pass finds room in the page itself and leaves
the indexes alone (a HOT update). Passes over one range alternate with those over others, so that no snapshot of this run's
own keeps the old versions alive.
"""

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from psycopg import errors, sql

from runbook_lib.adapters.postgres.backfill import Backfill
from runbook_lib.adapters.postgres.clearing.batch import clear
from runbook_lib.adapters.postgres.clearing.keyed import clear_by_key
from runbook_lib.adapters.postgres.clearing.pacing import FIRST, Pace, resized
from runbook_lib.adapters.postgres.connection import Connection, one
from runbook_lib.adapters.postgres.locks import Open

Range = tuple[int, int]  # pages: the first, and the one behind the last
SHARES = ((0, 0), (1, 2), (3, 5), (6, 9), (10, 15))  # of 16: a row's hash says in which pass it is cleared
TOGETHER = 4  # ranges whose passes alternate
TOO_LONG = (errors.LockNotAvailable, errors.DeadlockDetected, errors.QueryCanceled)


class Pages:
    """The pages of a table, handed out once each; several threads may ask."""

    def __init__(self, count: int) -> None:
        self._next = 0
        self._count = count
        self._lock = threading.Lock()

    def take(self, size: int, ranges: int) -> list[Range]:
        """The next few ranges of `size` pages, none where all are handed out."""
        with self._lock:
            taken: list[Range] = []
            while len(taken) < ranges and self._next < self._count:
                beyond = min(self._next + size, self._count)
                taken.append((self._next, beyond))
                self._next = beyond
            return taken


def clear_by_pages(
    open_: Open, backfill: Backfill, pace_on: Callable[[Connection], Pace], workers: int, share: Sequence[Range] = SHARES
) -> None:
    """Clear every affected row, range by range, then what was moved meanwhile. Changes the target.

    Args:
        open_: Opens a connection to the target.
        backfill: What to clear.
        pace_on: Makes what stands before each batch, on a connection of its own.
        workers: How many connections work at once; more than one only where nobody else uses the table.
        share: The passes, as ranges of hashes of 16.

    Raises:
        Declined: The clearing was ended between two batches.
        StepFailed: A transaction would have changed anything else; it was rolled back.
    """
    with open_() as connection:
        relation = backfill.table.as_string(connection)
        size = one(connection, "SELECT pg_relation_size(%s::regclass) / current_setting('block_size')::int AS n", [relation])
    pages, ended = Pages(size["n"]), threading.Event()

    def work() -> None:
        with open_() as connection, open_() as looking:
            try:
                _work(connection, backfill, pages, pace_on(looking), ended, share)
            finally:
                ended.set()  # where one fails, the others end after the batch they are in

    with ThreadPoolExecutor(workers) as pool:
        try:
            for done in [pool.submit(work) for _ in range(workers)]:
                done.result()
        finally:
            ended.set()
    with open_() as connection, open_() as looking:
        clear_by_key(connection, backfill, pace_on(looking))


def _work(
    connection: Connection, backfill: Backfill, pages: Pages, pace: Pace, ended: threading.Event, share: Sequence[Range]
) -> None:
    size, cleared = FIRST, 0
    while ranges := pages.take(size, TOGETHER):
        concerned = [r for r in ranges if _concerned(connection, backfill, r)]
        longest = 0.0
        for hashes in share:
            for pages_of_one in concerned:
                if ended.is_set():
                    return
                pace(cleared)
                begun = time.monotonic()
                cleared = _patiently(connection, backfill, pages_of_one, hashes)
                longest = max(longest, time.monotonic() - begun)
        size = resized(size, longest)
    pace(cleared)


def _patiently(connection: Connection, backfill: Backfill, pages: Range, hashes: Range) -> int:
    """Clear a share of a range; where that waits too long for others, its halves one after the other."""
    first, beyond = pages
    try:
        return clear(connection, backfill, sql.SQL("{} AND {}").format(_within(pages), _share(backfill, hashes)))
    except TOO_LONG:
        if beyond - first == 1:
            raise
    middle = (first + beyond) // 2
    return sum(_patiently(connection, backfill, half, hashes) for half in ((first, middle), (middle, beyond)))


def _concerned(connection: Connection, backfill: Backfill, pages: Range) -> bool:
    query = sql.SQL("SELECT EXISTS (SELECT FROM {table} t WHERE {within} AND {affected}) AS it")
    return bool(one(connection, backfill.filled(query, within=_within(pages)))["it"])


def _within(pages: Range) -> sql.Composable:
    first, beyond = (sql.Literal(f"({page},0)") for page in pages)
    return sql.SQL("t.ctid >= {}::tid AND t.ctid < {}::tid").format(first, beyond)


def _share(backfill: Backfill, hashes: Range) -> sql.Composable:
    return sql.SQL("(hash_record_extended(ROW(t.{}), 0) & 15) BETWEEN {} AND {}").format(
        backfill.key, *(sql.Literal(number) for number in hashes)
    )
