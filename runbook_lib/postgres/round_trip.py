"""Sends what is to be done under strong locks in one message, so that they are held no longer where the server is far away.

The work is first gone through without its locks: a look is executed and recorded, a write is recorded alone. Under the locks
the server itself sees that all that was looked at is still so, and then writes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Self, TypeVar

import psycopg
from psycopg import sql

from runbook_lib.errors import AdapterError, UnknownOutcome
from runbook_lib.postgres import Connection, Open, Row
from runbook_lib.postgres.connection import one
from runbook_lib.system.processes import until

OUTDATED = "RB001"  # the server's code for something that was looked at and is not so any more

_ALL_ROWS = """SELECT string_agg(to_json(q)::text, E'\\n' ORDER BY to_json(q)::text COLLATE "C") AS it FROM (
{query}
) q"""
_STILL_SO = """IF ({rows}) IS DISTINCT FROM {seen} THEN
    RAISE EXCEPTION USING ERRCODE = '{code}', MESSAGE = 'what was looked at has changed since';
END IF"""

T = TypeVar("T")


class Statements:
    """The looks and the writes of a transaction of the caller's, executed as they come."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection  # on which others may look too

    def look(self, query: Any, params: Any = None) -> psycopg.Cursor[Row]:
        """Execute a query that only reads. Read-only."""
        return self.connection.execute(query, params)

    def write(self, query: Any, params: Any = None) -> None:
        """Execute a statement of which nothing is fetched. Changes the target."""
        self.connection.execute(query, params)


class Recorder(Statements):
    """The looks and the writes of a transaction to come: a look is executed and recorded, a write is recorded alone."""

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection)
        self.looks: list[str] = []
        self.writes: list[str] = []

    def write(self, query: Any, params: Any = None) -> None:
        """Record a statement of which nothing is fetched, and which no look depends on. Changes nothing yet."""
        self.writes.append(psycopg.ClientCursor(self.connection).mogrify(query, params).strip())

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Record as a look whatever is executed on the connection; nothing can be written by it meanwhile. Read-only."""
        looks = self.looks

        class Looking(psycopg.ClientCursor[Row]):
            def execute(
                self, query: Any, params: Any = None, *, prepare: bool | None = None, binary: bool | None = None
            ) -> Self:
                rows = sql.SQL(_ALL_ROWS.format(query=self.mogrify(query, params).strip()))
                seen = super().execute(rows).fetchone()
                looks.append(_still_so(rows, seen["it"] if seen else None).as_string(self.connection))
                return super().execute(query, params)

        with self.connection.transaction(force_rollback=True):
            self.connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            usual, self.connection.cursor_factory = self.connection.cursor_factory, Looking
            try:
                yield
            finally:
                self.connection.cursor_factory = usual


def gone_through(connection: Connection, work: Callable[[Statements], T]) -> Callable[[Connection], T]:
    """Go through `work` without doing it; gives what does it in one message, and returns what `work` did. Read-only.

    Args:
        connection: On which it is gone through, in autocommit mode.
        work: It looks at nothing that it has written itself.
    """
    recorder = Recorder(connection)
    with recorder.recording():
        result = work(recorder)

    def done(connection: Connection) -> T:
        if recorder.looks or recorder.writes:
            connection.execute(_message(recorder.looks, recorder.writes).as_string(connection).encode())
        return result

    return done


def _still_so(rows: sql.SQL, seen: str | None) -> sql.Composed:
    return sql.SQL(_STILL_SO.replace("{code}", OUTDATED)).format(rows=rows, seen=sql.Literal(seen))


def _message(looks: list[str], writes: list[str]) -> sql.Composed:
    """The locks first, then a look at all that was read, then the rest."""
    locked = max((number for number, text in enumerate(writes, 1) if text.startswith("LOCK")), default=0)
    body = "#variable_conflict use_column\nBEGIN\n" + "".join(f"{look};\n" for look in looks) + "END"
    look = sql.SQL("DO {}").format(sql.Literal(body))
    return sql.SQL(";\n").join([*map(sql.SQL, writes[:locked]), look, *map(sql.SQL, writes[locked:])])


PATIENCE = 120.0  # seconds for which the server may be out of reach, or the lost session may still be at work
POLL = 0.1  # seconds

R = TypeVar("R")


def found_out(open_: Open, lost: Row, recorded: Callable[[Connection], R | None]) -> R:
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
