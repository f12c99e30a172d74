"""Cancels what sessions are doing: of a run, where their own thread cannot be woken, or one, when that is wanted."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import psycopg
from psycopg import errors

from runbook_lib.adapters.postgres.connection import MAINTENANCE, Connection, Postgres

LOOK = 0.2  # seconds between two times that it is asked whether to cancel


def cancel(postgres: Postgres) -> int:
    """Cancel every statement that sessions of this run are at; returns how many.

    The transactions concerned are rolled back by the server.

    Raises:
        AdapterError: The server cannot be reached.
    """
    with postgres.connect(MAINTENANCE) as connection:
        return len(
            connection.execute(
                """SELECT pg_cancel_backend(pid) FROM pg_stat_activity
                   WHERE application_name = %s AND state = 'active' AND pid <> pg_backend_pid()""",
                [postgres.application_name],
            ).fetchall()
        )


@contextmanager
def cancelled_by(connection: Connection, look: Callable[[], object]) -> Iterator[None]:
    """Cancel what the connection is at once `look`, called again and again meanwhile, raises; that is raised then.

    Raises:
        Exception: What `look` raised, where a statement was cancelled for it.
    """
    ended = threading.Event()
    said: list[Exception] = []

    def watch() -> None:
        while not ended.wait(LOOK):
            try:
                look()
            except Exception as error:
                said.append(error)
                with suppress(psycopg.Error):
                    connection.cancel_safe(timeout=1.0)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    except errors.QueryCanceled:
        if said:
            raise said[0] from None
        raise
    finally:
        ended.set()
        watcher.join()
