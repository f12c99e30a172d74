"""Allows one run per target: an advisory lock while a step acts, and a row in the target that names the run.

The lock is held in the maintenance database, because a restore renames the target and ends every connection to it. The lock
ends with its connection; the row stays. The row's epoch rises each time the lock is taken, and a commit under an older epoch
is refused. So a process that lost its connection cannot write once another has taken its place.

A target that keeps to one schema holds a lock and a row of that schema, and the database's lock together with other such
targets. So runs on schemas of one database act at once, and each of them and a run on the whole database exclude each other.
"""

from __future__ import annotations

import getpass
import hashlib
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, fields
from datetime import datetime

import psycopg
from psycopg import errors, sql

from runbook_lib.errors import AdapterError, PreconditionError
from runbook_lib.journal.event import Event
from runbook_lib.postgres import Connection, mirror
from runbook_lib.postgres.catalog import OWN_SCHEMA, make_own_schema
from runbook_lib.postgres.connection import MAINTENANCE, Postgres, exists, identity, one, require_direct
from runbook_lib.postgres.lock_budget import with_short_lock

LEFT_BEHIND = "left behind or waiting"  # describes a run that has a target and does not act now


@dataclass(frozen=True)
class Holder:
    """The lease's holder: a run, its operator, where it acted last, and since when it has the target."""

    run: str
    operator: str
    host: str
    pid: int
    taken_at: datetime
    epoch: int
    released_at: datetime | None

    def __str__(self) -> str:
        return f"{self.operator} on {self.host}, pid {self.pid}, run {self.run}, since {self.taken_at:%Y-%m-%d %H:%M:%S %Z}"


def key_of(name: str) -> int:
    """Return the number of the advisory lock of that name."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], signed=True)


@contextmanager
def exclusively(session: Connection, key: int, patience: str) -> Iterator[bool]:
    """Hold a lock while the block runs; yield whether it was acquired within `patience`, a time in the server's format.

    The lock is released before the session closes. The server ends a closed session only some time later, and until then it
    would block the next caller. Changes nothing else.
    """
    with _holding(session, key, patience, "pg_advisory_lock", "pg_advisory_unlock") as got:
        yield got


@contextmanager
def _together(session: Connection, key: int, patience: str) -> Iterator[bool]:
    """Hold a lock that others may hold at the same time in this way; else as `exclusively`."""
    with _holding(session, key, patience, "pg_advisory_lock_shared", "pg_advisory_unlock_shared") as got:
        yield got


@contextmanager
def _holding(session: Connection, key: int, patience: str, lock: str, unlock: str) -> Iterator[bool]:
    got = _acquired(session, key, patience, lock)
    try:
        yield got
    finally:
        if got:
            with suppress(psycopg.Error):
                session.execute(sql.SQL("SELECT {}(%s)").format(sql.Identifier(unlock)), [key])


def _acquired(session: Connection, key: int, patience: str, lock: str) -> bool:
    try:
        with session.transaction():
            session.execute("SELECT set_config('lock_timeout', %s, true)", [patience])
            session.execute(sql.SQL("SELECT {}(%s)").format(sql.Identifier(lock)), [key])
    except errors.LockNotAvailable:
        return False
    return True


GRACE = "1s"  # for the session of a process that has just died to end
PATIENCE = 10.0  # seconds to wait for a transaction that an earlier process left open
TABLE = sql.Identifier(OWN_SCHEMA, "lease")
SCHEMAS = sql.Identifier(OWN_SCHEMA, "lease_of_schema")


class Lease:
    """A run's lease of a target; several processes of one run share it, one at a time."""

    def __init__(self, postgres: Postgres, run: str, operator: str, schema: str | None = None) -> None:
        """`schema`: the one that the target keeps to; None for the whole database."""
        self.postgres = postgres
        self.run = run
        self.schema = schema
        self.operator = operator or getpass.getuser()
        self.epoch: int | None = None  # the row's, while the target is held and the row was readable
        self.holds = False

    @contextmanager
    def held(self, *, acted: bool) -> Iterator[None]:
        """Hold the target while the block runs. Changes the target's lease row only.

        Args:
            acted: Whether this run has acted on the target; it may then continue while the target takes no connections.

        Raises:
            PreconditionError: Another run acts now, was left behind or waits, or the connection goes through a pooler.
            AdapterError: The server cannot be reached.
        """
        with self._locked() as session:
            self.epoch, self.holds = self._taken(session, acted), True
            try:
                yield
            finally:
                self.epoch, self.holds = None, False

    def check(self, connection: Connection) -> None:
        """Raise if this process has lost the target; lock the row until the transaction ends. Read-only.

        Every transaction of the run that writes to the target calls it before its commit. Outside `held` it does nothing.

        Raises:
            PreconditionError: Another process has taken the target.
        """
        if not self.holds:
            return
        found = holder(connection, "FOR SHARE", self.schema)
        if found is None or found.released_at or found.run != self.run or self.epoch not in (None, found.epoch):
            raise PreconditionError(
                "This process does not hold the target any more: " + (f"{found} has it" if found else "no lease exists"),
                where=self._where(connection.info.dbname),
                state="The transaction was rolled back instead of committed; earlier ones are kept.",
                safe_next="Stop here. Ask who has it. To continue, take the target over again, with a reason.",
            )
        self.epoch = found.epoch

    def is_outdated(self, events: Sequence[Event]) -> bool:
        """Report whether the target holds more of this run's journal than these events, from elsewhere. Read-only.

        This is unknown while the target takes no connections, as when this run swaps databases.
        """
        with suppress(AdapterError), self.postgres.connect() as connection:
            return mirror.is_ahead(mirror.last(connection, self.run), events)
        return False

    def take_over(self, journal: Callable[[Holder, int], object]) -> None:
        """Take the target from a run that was left behind; `journal` gets the previous holder and the new epoch.

        Does nothing if no other run has it. Changes the target's lease rows only.

        Raises:
            PreconditionError: That run acts now, or one of its transactions is still open; or it has the whole database,
                and this one keeps to a schema.
        """

        def work(connection: Connection) -> None:
            found = [each for each in self._holders(connection, "FOR UPDATE") if self._is_of_another(each)]
            if self.schema and (whole := holder(connection)) and self._is_of_another(whole):
                raise self._has_all(whole)
            if found:
                _prepare(connection)
                connection.execute(
                    sql.SQL("""UPDATE {} SET released_at = now(), epoch = epoch + 1
                        WHERE released_at IS NULL AND run = ANY(%s)""").format(SCHEMAS),
                    [[each.run for each in found]],
                )
                epoch = self._upserted(connection)
                for each in found:
                    journal(each, epoch)

        with self._locked():
            with_short_lock(self.postgres.connect, work, lambda blockers: None, PATIENCE)

    def release(self) -> bool:
        """Release the target; return whether this run had it. Changes the target's lease row only."""
        table = SCHEMAS if self.schema else TABLE
        with self.postgres.connect() as connection:
            if not exists(connection, table):
                return False
            query = sql.SQL("UPDATE {} SET released_at = now() WHERE run = %s AND released_at IS NULL").format(table)
            return connection.execute(query, [self.run]).rowcount == 1

    def end(self) -> bool:
        """Release the target if no process acts on it; return whether this run had it. Changes the lease row only.

        Raises:
            PreconditionError: A process acts on the target now.
            AdapterError: The server cannot be reached.
        """
        with self._locked():
            return self.release()

    def in_the_way(self) -> str:
        """Name what keeps this run from acting now; "" for nothing. Read-only.

        Raises:
            PreconditionError: The connection goes through a pooler.
        """
        with self.postgres.connect(MAINTENANCE) as session:
            require_direct(session)
            acting = self._acting(session)
        with self.postgres.connect() as connection:
            found = next((each for each in self._holders(connection) if self._is_of_another(each)), None)
        if found:
            return f"{'acting now' if acting else LEFT_BEHIND}: {found}"
        return f"acting now: {acting}" if acting else ""

    @contextmanager
    def _locked(self) -> Iterator[Connection]:
        with self.postgres.connect(MAINTENANCE) as session, ExitStack() as held:
            require_direct(session)
            session.execute("SET idle_session_timeout = 0")
            for key, hold in zip(
                self._keys(session), (_together, exclusively) if self.schema else (exclusively,), strict=True
            ):
                if not held.enter_context(hold(session, key, GRACE)):
                    raise self._refused(self._acting(session))
            yield session

    def _acting(self, session: Connection) -> str:
        """Describe the server session that keeps this run from acting; "" if none does. Read-only."""
        database, *schema = self._keys(session)
        modes = ["ExclusiveLock"] if schema else ["ExclusiveLock", "ShareLock"]
        return next((found for key in (database, *schema) if (found := _acting(session, key, modes))), "")

    def _holders(self, connection: Connection, lock: str = "") -> list[Holder]:
        """Read the holder of what this run wants, then those of what it includes or is part of. Read-only."""
        own = holder(connection, lock, self.schema)
        others = [holder(connection)] if self.schema else _of_schemas(connection, lock)
        return [each for each in (own, *others) if each]

    def _taken(self, session: Connection, acted: bool) -> int | None:
        def work(connection: Connection) -> int:
            _prepare(connection)
            if found := next((each for each in self._holders(connection) if self._is_of_another(each)), None):
                raise self._left_behind(found)
            return self._upserted(connection)

        try:
            return with_short_lock(self.postgres.connect, work, lambda blockers: None, PATIENCE)
        except AdapterError:
            if acted and not _takes_connections(session, self.postgres.database):
                return None  # this run closed it; the row is read once it can be
            raise

    def _upserted(self, connection: Connection) -> int:
        """Write this run into the row, and return its new epoch. Changes the row."""
        table, key = (SCHEMAS, "schema_name") if self.schema else (TABLE, "single")
        query = sql.SQL("""
            INSERT INTO {table} AS l ({key}, run, operator, host, pid, epoch)
            VALUES (%(key)s, %(run)s, %(operator)s, %(host)s, %(pid)s, 1)
            ON CONFLICT ({key}) DO UPDATE SET
                run = excluded.run, operator = excluded.operator, host = excluded.host, pid = excluded.pid,
                epoch = l.epoch + 1, released_at = NULL,
                taken_at = CASE WHEN l.run = excluded.run AND l.released_at IS NULL THEN l.taken_at ELSE now() END
            RETURNING epoch""").format(table=table, key=sql.Identifier(key))
        here = {"host": socket.gethostname(), "pid": os.getpid()}
        me = {"key": self.schema or True, "run": self.run, "operator": self.operator, **here}
        return int(one(connection, query, me)["epoch"])

    def _is_of_another(self, found: Holder) -> bool:
        return found.run != self.run and not found.released_at

    def _left_behind(self, found: Holder) -> PreconditionError:
        return PreconditionError(
            f"Another run was left behind on this target, or waits: {found}.",
            where=self._where(self.postgres.database),
            state="Nothing was begun. That run may have left the target half-way: look at its journal.",
            safe_next="Ask its operator, and resume in that run's folder. If that run is abandoned, take the target over: "
            'runbook run RUN --take-over "REASON", or in the notebook: await take_over(run, "REASON").',
        )

    def _has_all(self, found: Holder) -> PreconditionError:
        return PreconditionError(
            f"The run that was left behind has the whole database, and this one keeps to the schema {self.schema}: {found}.",
            where=self._where(self.postgres.database),
            state="Nothing was taken over.",
            safe_next="Ask its operator. Resume that run in its folder, or end it with `runbook end`; then run this again.",
        )

    def _where(self, database: str) -> str:
        return f"database {database}" + (f", schema {self.schema}" if self.schema else "")

    def _keys(self, session: Connection) -> list[int]:
        database = f"{identity(session).system}/{self.postgres.database}"
        return [key_of(name) for name in (database, *([f"{database}/{self.schema}"] if self.schema else []))]

    def _refused(self, acting: str) -> PreconditionError:
        found: Holder | None = None
        with suppress(AdapterError), self.postgres.connect() as connection:
            holders = self._holders(connection)
            found = next((each for each in holders if not each.released_at), next(iter(holders), None))
        return PreconditionError(
            f"Another process acts on this target now: {found or 'no lease is on record yet'} ({acting}).",
            where=self._where(self.postgres.database),
            state="This process changed nothing.",
            safe_next="Wait for it. If it has died or lost its network, the server notices within half a minute; "
            "then run the cell again.",
        )


def guard(lease: Callable[[], Lease]) -> Callable[[Connection], None]:
    """Return the check that each transaction makes before it commits, for a lease created later."""
    return lambda connection: lease().check(connection)


def holder(connection: Connection, lock: str = "", schema: str | None = None) -> Holder | None:
    """Read the holder from a database's lease row, or from a schema's; None if no run has ever held it. Read-only."""
    table, where = (SCHEMAS, "WHERE schema_name = %s") if schema else (TABLE, "")
    return next(iter(_read(connection, table, f"{where} {lock}", [schema] if schema else [])), None)


def _of_schemas(connection: Connection, lock: str) -> list[Holder]:
    """Read the holders of schemas that were not released. Read-only."""
    return _read(connection, SCHEMAS, f"WHERE released_at IS NULL ORDER BY schema_name {lock}", [])


def _read(connection: Connection, table: sql.Identifier, which: str, values: list[str]) -> list[Holder]:
    if not exists(connection, table):
        return []
    names = sql.SQL(", ").join(sql.Identifier(field.name) for field in fields(Holder))
    query = sql.SQL("SELECT {} FROM {} {}").format(names, table, sql.SQL(which))
    return [Holder(**row) for row in connection.execute(query, values)]


_COLUMNS = """run text NOT NULL, operator text NOT NULL, host text NOT NULL, pid integer NOT NULL,
    taken_at timestamptz NOT NULL DEFAULT now(), epoch bigint NOT NULL, released_at timestamptz"""


def _prepare(connection: Connection) -> None:
    """Make the tables unless they exist; runs on two schemas may do so at once. Changes the runbook's own schema only."""
    make_own_schema(connection)
    keys = ((TABLE, "single boolean PRIMARY KEY DEFAULT true CHECK (single)"), (SCHEMAS, "schema_name text PRIMARY KEY"))
    for table, key in keys:
        made = sql.SQL("CREATE TABLE IF NOT EXISTS {} ({}, {})").format(table, sql.SQL(key), sql.SQL(_COLUMNS))
        with suppress(errors.UniqueViolation), connection.transaction():
            connection.execute(made)


def _acting(session: Connection, key: int, modes: list[str]) -> str:
    """Describe the server session that holds the lock in one of those modes; "" if none does. Read-only."""
    row = session.execute(
        """SELECT a.pid, a.usename, a.application_name, coalesce(a.client_addr::text, 'a local socket') AS place
           FROM pg_locks l JOIN pg_stat_activity a USING (pid)
           WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1 AND l.pid <> pg_backend_pid() AND l.mode = ANY(%s)
             AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
             AND (l.classid::bigint << 32) | l.objid::bigint = %s""",
        [modes, key],
    ).fetchone()
    return "server session {pid} of {usename}, {application_name}, from {place}".format(**row) if row else ""


def _takes_connections(session: Connection, database: str) -> bool:
    row = session.execute("SELECT datallowconn AS it FROM pg_database WHERE datname = %s", [database]).fetchone()
    return bool(row and row["it"])
