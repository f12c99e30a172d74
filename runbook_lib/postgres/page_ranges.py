"""Ranges of a table's pages, each handed out once, and the worker threads that take them."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

from psycopg import sql

from runbook_lib.postgres import Connection
from runbook_lib.postgres.connection import one

Range = tuple[int, int]  # pages: the first, and the one after the last


class PageQueue:
    """The pages that a table has now, from `first` on; several threads may take from it."""

    def __init__(self, connection: Connection, table: sql.Identifier, first: int = 0) -> None:
        query = "SELECT pg_relation_size(%s::regclass) / current_setting('block_size')::int AS n"
        self.count: int = one(connection, query, [table.as_string(connection)])["n"]
        self._next = first
        self._lock = threading.Lock()

    def take(self, size: int, ranges: int = 1) -> list[Range]:
        """Take the next few ranges of `size` pages; none if all are taken."""
        with self._lock:
            taken: list[Range] = []
            while len(taken) < ranges and self._next < self.count:
                beyond = min(self._next + size, self.count)
                taken.append((self._next, beyond))
                self._next = beyond
            return taken

    def each(self, size: int) -> Iterator[Range]:
        """Take one range of `size` pages after another."""
        while taken := self.take(size):
            yield taken[0]


def within(row: str, pages: Range) -> sql.Composed:
    """Return the condition that a row, named `row` in the query, is on these pages. Pure."""
    first, beyond = (sql.Literal(f"({page},0)") for page in pages)
    place = sql.Identifier(row, "ctid")
    return sql.SQL("{place} >= {first}::tid AND {place} < {beyond}::tid").format(place=place, first=first, beyond=beyond)


def run_workers(number: int, work: Callable[[threading.Event], object]) -> None:
    """Run `work` in so many threads and wait for all to end. Changes what `work` changes.

    Args:
        number: How many threads.
        work: Receives an event that is set once another thread has failed; then it must end.

    Raises:
        Exception: The exception of the first thread that failed.
    """
    failed = threading.Event()

    def of_one() -> None:
        try:
            work(failed)
        except BaseException:
            failed.set()
            raise

    with ThreadPoolExecutor(number) as pool:
        try:
            for done in [pool.submit(of_one) for _ in range(number)]:
                done.result()
        except BaseException:  # an interrupt of this thread ends the others too
            failed.set()
            raise
