"""Several connections that work through the pages of a table at once, each taking the next few that nobody has taken."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from psycopg import sql

from runbook_lib.adapters.postgres.clearing.pacing import Pace
from runbook_lib.adapters.postgres.connection import Connection, one
from runbook_lib.adapters.postgres.locks import Open

Range = tuple[int, int]  # pages: the first, and the one behind the last
PaceOn = Callable[[Connection], Pace]


class Pages:
    """The pages of a table, handed out once each; several threads may ask."""

    def __init__(self, connection: Connection, table: sql.Identifier) -> None:
        self._next = 0
        self._count: int = one(
            connection,
            "SELECT pg_relation_size(%s::regclass) / current_setting('block_size')::int AS n",
            [table.as_string(connection)],
        )["n"]
        self._lock = threading.Lock()

    def take(self, size: int, ranges: int = 1) -> list[Range]:
        """The next few ranges of `size` pages, none where all are handed out."""
        with self._lock:
            taken: list[Range] = []
            while len(taken) < ranges and self._next < self._count:
                beyond = min(self._next + size, self._count)
                taken.append((self._next, beyond))
                self._next = beyond
            return taken


def within(row: str, pages: Range) -> sql.Composed:
    """That a row, called `row` in the query, lies on these pages."""
    first, beyond = (sql.Literal(f"({page},0)") for page in pages)
    place = sql.Identifier(row, "ctid")
    return sql.SQL("{place} >= {first}::tid AND {place} < {beyond}::tid").format(place=place, first=first, beyond=beyond)


def at_once(open_: Open, pace_on: PaceOn, workers: int, work: Callable[[Connection, Pace, threading.Event], object]) -> None:
    """Have `work` done by so many threads, each with connections of its own. Changes what `work` changes.

    Args:
        open_: Opens a connection to the target.
        pace_on: Makes what stands before each batch, on a connection of its own.
        workers: How many threads; more than one only where nobody else uses the table.
        work: Is given a connection, the pace, and an event that is set once another thread has failed: it then ends.

    Raises:
        Exception: What the first thread that failed had raised.
    """
    failed = threading.Event()

    def of_one() -> None:
        with open_() as connection, open_() as looking:
            try:
                work(connection, pace_on(looking), failed)
            except BaseException:
                failed.set()
                raise

    with ThreadPoolExecutor(workers) as pool:
        try:
            for done in [pool.submit(of_one) for _ in range(workers)]:
                done.result()
        except BaseException:  # an interrupt of this thread ends the others too
            failed.set()
            raise
