"""A reader that keeps reading the table, as the application would, and records how long each read took."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg

from runbook_lib.rehearsal.database import Database

BETWEEN = 0.005  # seconds


@contextmanager
def reading(database: Database) -> Iterator[list[float]]:
    """Read the table all the time from elsewhere while the block runs; gives the seconds that each read took."""
    ended, took = threading.Event(), list[float]()

    def read() -> None:
        with psycopg.connect(database.conninfo(), autocommit=True) as connection:
            while not ended.is_set():
                begun = time.monotonic()
                connection.execute("SELECT id FROM messages LIMIT 1")
                took.append(time.monotonic() - begun)
                ended.wait(BETWEEN)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        yield took
    finally:
        ended.set()
        reader.join()
