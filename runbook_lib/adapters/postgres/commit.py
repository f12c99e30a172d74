"""Commits, and finds out what became of a COMMIT whose answer was lost."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

import psycopg

from runbook_lib.adapters.postgres.connection import Connection, Row, one
from runbook_lib.errors import AdapterError, UnknownOutcome
from runbook_lib.waiting import until

if TYPE_CHECKING:
    from runbook_lib.adapters.postgres.locks import Open

PATIENCE = 120.0  # seconds for which the server may be out of reach, or the lost session may still be at work
POLL = 0.1  # seconds

T = TypeVar("T")


def committed(open_: Open, work: Callable[[Connection], T], recorded: Callable[[Connection], T | None]) -> T:
    """Do `work` in one transaction and commit it. Changes what `work` changes, or nothing.

    Where the connection breaks in the COMMIT, whether it took effect is read from what `work` wrote in the same transaction.

    Args:
        open_: Opens a connection to the target.
        work: What to do; it writes its progress row too.
        recorded: Reads that row on another connection: what `work` returned, or None where the row is not there.

    Raises:
        AdapterError: The connection broke, and nothing was committed: doing it again is safe.
        UnknownOutcome: The server did not come back, or the lost session did not end.
    """
    lost: Row | None = None
    with open_() as connection:
        try:
            with connection.transaction():
                result = work(connection)
                lost = session_of(connection)
            return result
        except psycopg.OperationalError:
            if lost is None or not connection.broken:
                raise
    return found_out(open_, lost, recorded)


def found_out(open_: Open, lost: Row, recorded: Callable[[Connection], T | None]) -> T:
    """What a transaction left whose COMMIT was not answered, by `recorded`, once its session has ended.

    Raises:
        AdapterError: It left nothing: doing it again is safe.
        UnknownOutcome: The server did not come back, or the lost session did not end.
    """
    await_settled(open_, lost)
    with open_() as connection:
        found = recorded(connection)
    if found is None:
        raise AdapterError(
            "The connection broke in a commit, and the transaction was not committed.",
            where=f"server session {lost['pid']}",
            state="That transaction left no trace; those before it stand.",
            safe_next="Run the step again: it goes on where it stopped.",
        )
    return found


def session_of(connection: Connection) -> Row:
    """The server's session behind a connection, as `await_settled` takes it. Read-only."""
    return one(connection, "SELECT pid, backend_start FROM pg_stat_activity WHERE pid = pg_backend_pid()")


def await_settled(open_: Open, lost: Row) -> None:
    """Wait until the transaction of a session whose connection broke is over; one that waits for its client is ended.

    Raises:
        UnknownOutcome: The server did not come back, or the session did not end.
    """
    if not until(lambda: _settled(open_, lost), PATIENCE, POLL):
        raise UnknownOutcome(
            f"The connection broke in a commit, and what became of it could not be found out in {PATIENCE:g} s.",
            where=f"server session {lost['pid']}",
            state="The transaction is committed as a whole, or not at all.",
            safe_next="See that the server runs and that this session has ended; then run the step again.",
        )


def _settled(open_: Open, lost: Row) -> bool:
    """Whether the lost session's transaction is over; a session that waits for a client in vain is ended with its locks."""
    try:
        with open_() as connection:
            row = connection.execute(
                """SELECT state = 'idle' AS over, CASE WHEN state LIKE 'idle%%' THEN pg_terminate_backend(pid) END
                   FROM pg_stat_activity WHERE pid = %(pid)s AND backend_start = %(backend_start)s""",
                lost,
            ).fetchone()
    except AdapterError:
        return False
    return row is None or bool(row["over"])
