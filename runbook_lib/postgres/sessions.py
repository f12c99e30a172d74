"""The sessions on a database: list them, cancel their statements, and end them."""

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import psycopg
from psycopg import errors, sql

from runbook_lib.errors import AdapterError, PreconditionError
from runbook_lib.postgres import Connection, Row
from runbook_lib.postgres.connection import MAINTENANCE, Postgres, one

POLL = 0.005  # seconds between checks whether sessions have ended
_LISTED = sql.SQL(
    """SELECT pid, coalesce(backend_start::text, '') AS started, coalesce(usename, backend_type) AS user,
           coalesce(application_name, '') AS program, coalesce(state, '') AS state, left(query, 200) AS query,
           coalesce(extract(epoch FROM clock_timestamp() - state_change), 0)::float AS seconds
       FROM pg_stat_activity WHERE {} ORDER BY pid"""
)


@dataclass(frozen=True)
class Session:
    """A session, identified by pid and start together, because pids are reused."""

    pid: int
    started: str
    user: str
    program: str
    state: str
    seconds: float  # since its state last changed
    query: str

    @property
    def name(self) -> str:
        """Its identity for an approval."""
        return f"pid {self.pid} since {self.started} ({self.user}, {self.program or 'no name'})"

    def __str__(self) -> str:
        return f"{self.name}, {self.state or 'state not seen'} for {self.seconds:.0f} s: {self.query[:80] or 'no query'}"


def of_others(connection: Connection) -> list[Session]:
    """List the clients' sessions on this database, except the runbook's own, by their pid. Read-only."""
    others = """datname = current_database() AND backend_type = 'client backend'
        AND NOT (usename = current_user AND application_name LIKE 'runbook %')"""
    return _sessions(connection.execute(_LISTED.format(sql.SQL(others))).fetchall())


def of_role(connection: Connection, role: str) -> list[Session]:
    """List the sessions that a role has on this database, by their pid. Read-only."""
    own = "datname = current_database() AND usename = %s AND pid <> pg_backend_pid()"
    return _sessions(connection.execute(_LISTED.format(sql.SQL(own)), [role]).fetchall())


def of_database(connection: Connection, database: str, but: int = 0) -> list[Session]:
    """List the sessions on a database of the server, without autovacuum, which ends by itself. Read-only.

    Args:
        connection: To any database of the server.
        database: Its name.
        but: The pid of a session to leave out.
    """
    condition = "datname = %s AND pid NOT IN (%s, pg_backend_pid()) AND backend_type <> 'autovacuum worker'"
    return _sessions(connection.execute(_LISTED.format(sql.SQL(condition)), [database, but]).fetchall())


def _sessions(rows: Iterable[Row]) -> list[Session]:
    return [Session(**row) for row in rows]


def out_of_reach(connection: Connection, users: Iterable[str]) -> list[str]:
    """Return those of the roles whose sessions our role may not end. Read-only."""
    rows = connection.execute(
        """SELECT rolname AS name FROM pg_roles
           WHERE rolname = ANY(%s) AND NOT (SELECT rolsuper FROM pg_roles WHERE rolname = current_user)
             AND (rolsuper OR NOT pg_has_role(oid, 'USAGE') AND NOT pg_has_role('pg_signal_backend', 'USAGE')) ORDER BY 1""",
        [sorted(set(users))],
    )
    return [row["name"] for row in rows]


def end(connection: Connection, sessions: Iterable[Session]) -> list[str]:
    """End sessions that are still the listed ones; return those. Changes the server's sessions.

    Raises:
        PreconditionError: Our role may not end one of them; earlier ones are ended.
    """
    ended: list[str] = []
    for session in sessions:
        try:
            if _ended(connection, session):
                ended.append(session.name)
        except errors.InsufficientPrivilege as error:
            raise PreconditionError(
                f"{session.name} may not be ended by our role: {str(error).strip()}.",
                state=f"Ended before it: {', '.join(ended) or 'none'}.",
                safe_next="Have it ended by its owner or a superuser; then run the step again.",
            ) from None
    return ended


def end_all(
    connection: Connection,
    find: Callable[[], list[Session]],
    patience: float,
    *,
    where: str,
    state: str,
    ending: Callable[[Session], object] = lambda _: None,
) -> list[Session]:
    """End the sessions that `find` finds, until it finds none; return all that were found. Changes the server's sessions.

    Args:
        connection: To any database of the server.
        find: Lists the present sessions.
        patience: Seconds that they have to end.
        where: What they are connected to, for the error.
        state: The state if some do not end, for the error.
        ending: Receives each before it is ended.

    Raises:
        PreconditionError: Our role may not end some, or they still exist after that time.
    """
    found: dict[str, Session] = {}
    deadline = time.monotonic() + patience
    while there := find():
        stuck = []
        for session in there:
            if session.name not in found:
                found[session.name] = session
                ending(session)
            try:
                _ended(connection, session)
            except errors.InsufficientPrivilege:
                stuck.append(session)
        if stuck or time.monotonic() > deadline:
            raise PreconditionError(
                f"Sessions could not be ended: {'; '.join(map(str, stuck or there))}.",
                where=where,
                state=state,
                safe_next="Have a superuser end those sessions by their pid; then run the step again.",
            )
        time.sleep(POLL)
    return list(found.values())


def _ended(connection: Connection, session: Session) -> bool:
    """End a session if it is still the listed one; return whether it was."""
    row = connection.execute(_END, [session.pid, session.started]).fetchone()
    return bool(row and row["it"])


_END = """SELECT pg_terminate_backend(pid) AS it FROM pg_stat_activity
WHERE pid = %s AND coalesce(backend_start::text, '') = %s"""


def end_by_hand(connection: Connection, found: Sequence[Session]) -> str:
    """Return a script that ends sessions if they are still the listed ones. Pure."""
    cursor = psycopg.ClientCursor(connection)
    return "\n".join(f"{cursor.mogrify(_END, [session.pid, session.started])};" for session in found)


LOOK = 0.2  # seconds between two checks whether to cancel


def cancel(postgres: Postgres) -> int:
    """Cancel every running statement of this run's sessions; return their number.

    The server rolls their transactions back.

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
    """Cancel the connection's statement once `look`, called repeatedly, raises; then raise that.

    Raises:
        Exception: The exception of `look`, if a statement was cancelled for it.
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


@dataclass(frozen=True)
class Taken:
    """How often a statement was run, and its total milliseconds."""

    query: str
    calls: int
    milliseconds: float


def taken(postgres: Postgres, role: str) -> Mapping[str, Taken] | None:
    """Map the ids of a role's statements on this database to their totals; None without the extension. Read-only.

    One database of the server with it is enough: this one, or the maintenance database.

    Raises:
        AdapterError: The server cannot be reached, or hides them from us.
    """
    for database in (None, MAINTENANCE):
        with postgres.connect(database) as connection:
            if (schema := _schema(connection)) is not None:
                return _of(connection, schema, role, postgres.database)
    return None


MOST_FREQUENT = 500  # statements requested


def frequent(postgres: Postgres, role: str) -> list[str] | None:
    """Return the texts of the role's statements on this database, most frequent first, with parameters. Read-only.

    None if pg_stat_statements is not on this server.

    Raises:
        AdapterError: The server cannot be reached, or hides them from us.
    """
    for database in (None, MAINTENANCE):
        with postgres.connect(database) as connection:
            if (schema := _schema(connection)) is not None:
                _require_visible(connection, postgres.database)
                query = sql.SQL("""SELECT min(query) AS query FROM {} s
                    WHERE queryid IS NOT NULL AND query IS NOT NULL AND userid = to_regrole(quote_ident(%s))
                      AND dbid = (SELECT oid FROM pg_database WHERE datname = %s)
                    GROUP BY queryid ORDER BY sum(calls) DESC, 1 LIMIT %s""")
                filled = query.format(sql.Identifier(schema, "pg_stat_statements"))
                return [row["query"] for row in connection.execute(filled, [role, postgres.database, MOST_FREQUENT])]
    return None


def during(before: Mapping[str, Taken], after: Mapping[str, Taken]) -> list[Taken]:
    """Return what was run between two looks, slowest average first. Pure."""
    empty = Taken("", 0, 0.0)
    found = [
        Taken(now.query, now.calls - then.calls, now.milliseconds - then.milliseconds)
        for id_, now in after.items()
        if now.calls > (then := before.get(id_, empty)).calls
    ]
    return sorted(found, key=lambda each: each.milliseconds / each.calls, reverse=True)


def _schema(connection: Connection) -> str | None:
    row = connection.execute(
        "SELECT extnamespace::regnamespace::text AS it FROM pg_extension WHERE extname = 'pg_stat_statements'"
    ).fetchone()
    return row["it"] if row else None


def _of(connection: Connection, schema: str, role: str, database: str) -> dict[str, Taken]:
    _require_visible(connection, database)
    query = sql.SQL("""SELECT queryid::text AS id, min(query) AS query, sum(calls)::bigint AS calls,
               sum(total_exec_time)::float AS milliseconds
        FROM {} s WHERE queryid IS NOT NULL AND userid = to_regrole(quote_ident(%s))
          AND dbid = (SELECT oid FROM pg_database WHERE datname = %s) GROUP BY queryid""")
    rows = connection.execute(query.format(sql.Identifier(schema, "pg_stat_statements")), [role, database])
    return {row["id"]: Taken(" ".join(row["query"].split()), row["calls"], row["milliseconds"]) for row in rows}


def _require_visible(connection: Connection, database: str) -> None:
    if not one(connection, "SELECT pg_has_role('pg_read_all_stats', 'USAGE') AS it")["it"]:
        raise AdapterError("Our role does not see other roles' statements (pg_read_all_stats).", where=database)
