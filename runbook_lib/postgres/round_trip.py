"""Do the work under strong locks in one round trip, so that a distant server does not hold them longer.

A rehearsal of the work without its locks comes first: it executes and records reads, and only records writes. Under the
locks the server itself checks that every read still gives the same, and then writes.
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

OUTDATED = "RB001"  # the SQLSTATE for a read whose result has changed

_ALL_ROWS = """SELECT string_agg(to_json(q)::text, E'\\n' ORDER BY to_json(q)::text COLLATE "C") AS it FROM (
{query}
) q"""
_STILL_SO = """IF ({rows}) IS DISTINCT FROM {seen} THEN
    RAISE EXCEPTION USING ERRCODE = '{code}', MESSAGE = 'data that was read has changed since';
END IF"""

T = TypeVar("T")


class Statements:
    """The reads and writes of the caller's transaction, executed as they come."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection  # others may read on it too

    def look(self, query: Any, params: Any = None) -> psycopg.Cursor[Row]:
        """Execute a query that only reads. Read-only."""
        return self.connection.execute(query, params)

    def write(self, query: Any, params: Any = None) -> None:
        """Execute a statement without a result. Changes the target."""
        self.connection.execute(query, params)


class Recorder(Statements):
    """The reads and writes of a future transaction: reads are executed and recorded, writes only recorded."""

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection)
        self.looks: list[str] = []
        self.writes: list[str] = []

    def write(self, query: Any, params: Any = None) -> None:
        """Record a statement without a result, which no read depends on. Changes nothing yet."""
        self.writes.append(psycopg.ClientCursor(self.connection).mogrify(query, params).strip())

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Record everything executed on the connection as reads; it cannot write meanwhile. Read-only."""
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
    """Rehearse `work`; return a function that does it in one round trip and returns the result of `work`. Read-only.

    Args:
        connection: For the rehearsal, in autocommit mode.
        work: It must not read anything that it has written itself.
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
    """Compose the locks first, then a check of everything read, then the rest."""
    locked = max((number for number, text in enumerate(writes, 1) if text.startswith("LOCK")), default=0)
    body = "#variable_conflict use_column\nBEGIN\n" + "".join(f"{look};\n" for look in looks) + "END"
    look = sql.SQL("DO {}").format(sql.Literal(body))
    return sql.SQL(";\n").join([*map(sql.SQL, writes[:locked]), look, *map(sql.SQL, writes[locked:])])


PATIENCE = 120.0  # seconds to wait for an unreachable server, or for the end of the lost session
POLL = 0.1  # seconds

R = TypeVar("R")


def found_out(open_: Open, lost: Row, recorded: Callable[[Connection], R | None]) -> R:
    """Return the outcome of a transaction whose COMMIT was not answered, by `recorded`, once its session has ended.

    Raises:
        AdapterError: It left nothing: repeating it is safe.
        UnknownOutcome: The server could not be reached again, or the lost session did not end.
    """
    await_settled(open_, lost)
    with open_() as connection:
        found = recorded(connection)
    if found is None:
        raise AdapterError(
            "The connection broke in a commit, and the transaction was not committed.",
            where=f"server session {lost['pid']}",
            state="That transaction left no trace; earlier ones are committed.",
            safe_next="Run the step again: it resumes where it stopped.",
        )
    return found


def session_of(connection: Connection) -> Row:
    """Return the server's session of a connection, for `await_settled`. Read-only."""
    return one(connection, "SELECT pid, backend_start FROM pg_stat_activity WHERE pid = pg_backend_pid()")


def await_settled(open_: Open, lost: Row) -> None:
    """Wait until the transaction of a session with a broken connection is over; end it if it waits for its client.

    Raises:
        UnknownOutcome: The server could not be reached again, or the session did not end.
    """
    if not until(lambda: _settled(open_, lost), PATIENCE, POLL):
        raise UnknownOutcome(
            f"The connection broke in a commit, and its outcome could not be determined within {PATIENCE:g} s.",
            where=f"server session {lost['pid']}",
            state="The transaction is committed as a whole, or not at all.",
            safe_next="Make sure that the server runs and that this session has ended; then run the step again.",
        )


def _settled(open_: Open, lost: Row) -> bool:
    """Whether the lost session's transaction is over; end a session that waits for its client, and so free its locks."""
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
