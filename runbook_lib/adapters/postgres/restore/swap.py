"""Puts one database in another's place by renaming both at once: writes fenced, connections refused, then the exchange.

Writes are fenced by a lock on every table, under which reading goes on. Connections are refused for the exchange alone: new
ones first, then the present ones are ended, so that none comes back in between.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from psycopg import errors, sql

from runbook_lib.adapters.postgres.catalog import OWN_SCHEMA, make_own_schema
from runbook_lib.adapters.postgres.connection import MAINTENANCE, Connection, Postgres, one
from runbook_lib.adapters.postgres.dump import DumpTools
from runbook_lib.adapters.postgres.locks import LADDER, Blocker, watched
from runbook_lib.adapters.postgres.restore.side import tables
from runbook_lib.errors import PreconditionError

GRACE = 5.0  # seconds that sessions have to end
POLL = 0.005  # seconds
RECORDS_TIMEOUT = 600.0  # seconds
TRIES = (*LADDER, 2000)  # milliseconds to wait for the fence; the last outlasts the time after which autovacuum gives way


@dataclass(frozen=True)
class Session:
    """A connection to a database."""

    pid: int
    user: str
    application: str
    query: str

    def __str__(self) -> str:
        return f"pid {self.pid} ({self.user}, {self.application or 'no name'}): {self.query}"


def sessions(maintenance: Connection, database: str, but: int = 0) -> list[Session]:
    """Who is connected to a database, without autovacuum, which gives way by itself. Read-only."""
    rows = maintenance.execute(
        """SELECT pid, coalesce(usename, backend_type) AS user, application_name AS application, left(query, 100) AS query
           FROM pg_stat_activity
           WHERE datname = %s AND pid NOT IN (%s, pg_backend_pid()) AND backend_type <> 'autovacuum worker' ORDER BY pid""",
        [database, but],
    )
    return [Session(**row) for row in rows]


@contextmanager
def fenced(postgres: Postgres, live: str, waiting: Callable[[Sequence[Blocker]], None]) -> Iterator[Connection]:
    """Let nothing be written to any table of a database while the block runs; reading goes on. Changes the target.

    Yields the connection that holds the fence, in a transaction.

    Raises:
        PreconditionError: The locks were not to be had.
    """
    with postgres.connect(live) as holder:
        for timeout in TRIES:
            with watched(lambda: postgres.connect(MAINTENANCE), holder.info.backend_pid) as in_the_way:
                if _locked(holder, tables(holder), timeout):
                    break
            waiting(in_the_way)
        else:
            listed = "; ".join(map(str, in_the_way)) or "nobody who could be seen"
            raise PreconditionError(
                f"Writes could not be fenced; in the way: {listed}",
                where=f"database {live}",
                state="Nothing was changed: each try was rolled back.",
                safe_next="Let those sessions end, or end them one by one by their pid; then run the step again.",
            )
        yield holder


def exchange(
    postgres: Postgres,
    live: str,
    incoming: str,
    outgoing: str,
    holder: Connection,
    *,
    last: Callable[[], None],
    renamed: Callable[[Connection], None],
    ended: Callable[[list[Session]], None],
) -> float:
    """Rename `live` to `outgoing` and `incoming` to `live`, in one transaction. Changes the target.

    Args:
        holder: The connection that fences the live database; it is closed when its turn has come.
        last: What is done once nobody else is connected, while `holder` still is; it leaves no connection of its own.
        renamed: What belongs into the transaction of the exchange.
        ended: Is told which sessions were ended.

    Returns:
        The seconds for which nobody could connect.

    Raises:
        PreconditionError: A session could not be ended; connections are let in again.
    """
    with postgres.connect(MAINTENANCE) as maintenance:
        begun = time.monotonic()
        let_in(maintenance, live, False)
        try:
            ended(_emptied(maintenance, live, holder.info.backend_pid))
            one(holder, "SELECT 1 AS it")  # a fence that was lost must be known before anything is renamed
            last()
            holder.close()
            ended([*_emptied(maintenance, live), *_emptied(maintenance, incoming)])
            with maintenance.transaction():
                for old, new in ((live, outgoing), (incoming, live)):
                    maintenance.execute(
                        sql.SQL("ALTER DATABASE {} RENAME TO {}").format(sql.Identifier(old), sql.Identifier(new))
                    )
                let_in(maintenance, outgoing, True)
                renamed(maintenance)
        except BaseException:
            let_in(maintenance, live, True)
            raise
        return time.monotonic() - begun


def let_in(maintenance: Connection, database: str, it_does: bool) -> None:
    """Have a database take connections or refuse them. Changes the target."""
    word = sql.SQL("true" if it_does else "false")
    maintenance.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS {}").format(sql.Identifier(database), word))


def sequences_behind(source: Connection, target: Connection) -> dict[str, int]:
    """The sequences that `target` has not as far as `source`, with the value last issued there. Read-only."""
    issued = source.execute(
        "SELECT schemaname, sequencename, last_value FROM pg_sequences WHERE last_value IS NOT NULL AND schemaname <> %s",
        [OWN_SCHEMA],
    ).fetchall()
    rows = target.execute(
        """SELECT format('%%I.%%I', schemaname, sequencename) AS name, value
           FROM pg_sequences s JOIN unnest(%s::text[], %s::text[], %s::bigint[]) i (schema, name, value)
             ON (schema, name) = (schemaname, sequencename)
           WHERE s.last_value IS NULL OR (value - s.last_value) * sign(increment_by) > 0 ORDER BY 1""",
        [[row[name] for row in issued] for name in ("schemaname", "sequencename", "last_value")],
    )
    return {row["name"]: row["value"] for row in rows}


def raise_sequences(source: Connection, target: Connection) -> None:
    """Move each sequence of `target` on to where that of `source` is, if that is further. Changes the target.

    A value once issued is not issued again, whoever has seen it.
    """
    behind = sequences_behind(source, target)
    target.execute(
        "SELECT setval(name::regclass, value) FROM unnest(%s::text[], %s::bigint[]) s (name, value)",
        [list(behind), list(behind.values())],
    )


def carry_records(tools: DumpTools, holder: Connection, target: Connection, scratch: Path) -> None:
    """Bring the runbook's own tables from the live database into `target`, in place of what is there. Changes the target.

    They stay locked in the live one until `holder` ends, so that no record is lost.
    """
    own = [
        (OWN_SCHEMA, row["name"])
        for row in holder.execute("SELECT tablename AS name FROM pg_tables WHERE schemaname = %s", [OWN_SCHEMA])
    ]
    if not own:
        return
    _lock(holder, own)
    path = scratch / "records.dump"
    tools.dump_part(path, RECORDS_TIMEOUT, f"--table={OWN_SCHEMA}.*")
    make_own_schema(target)
    target.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(sql.SQL(", ").join(sql.Identifier(*name) for name in own)))
    tools.restore(path, target.info.dbname, RECORDS_TIMEOUT)


def _locked(holder: Connection, names: Sequence[tuple[str, str]], timeout: int) -> bool:
    """Whether a transaction was begun that holds a lock against writing on each table."""
    holder.execute("BEGIN")
    try:
        holder.execute(f"SET LOCAL lock_timeout = '{timeout}ms'")
        holder.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
        _lock(holder, names)
    except (errors.LockNotAvailable, errors.DeadlockDetected):
        holder.execute("ROLLBACK")
        return False
    return True


def _lock(holder: Connection, names: Sequence[tuple[str, str]]) -> None:
    listed = sql.SQL(", ").join(sql.Identifier(*name) for name in names)
    holder.execute(sql.SQL("LOCK TABLE {} IN SHARE MODE").format(listed))


def _emptied(maintenance: Connection, database: str, but: int = 0) -> list[Session]:
    """End every session of a database; returns those that were there."""
    found: dict[int, Session] = {}
    deadline = time.monotonic() + GRACE
    while there := sessions(maintenance, database, but):
        found |= {session.pid: session for session in there}
        stuck = [session for session in there if not _ended(maintenance, session.pid)]
        if stuck or time.monotonic() > deadline:
            raise PreconditionError(
                f"Sessions could not be ended: {'; '.join(map(str, stuck or there))}.",
                where=f"database {database}",
                state="The names of the databases are as before, and connections are let in again.",
                safe_next="Have a superuser end those sessions by their pid; then run the step again.",
            )
        time.sleep(POLL)
    return list(found.values())


def _ended(maintenance: Connection, pid: int) -> bool:
    try:
        maintenance.execute("SELECT pg_terminate_backend(%s)", [pid])
    except errors.InsufficientPrivilege:
        return False
    return True
