"""Allows one run per target: an advisory lock while a step acts, and a row in the target that names the run.

The lock is held in the maintenance database, because a restore renames the target and ends every connection to it. The lock
ends with its connection; the row stays. The row's epoch rises each time the lock is taken, and a commit under an older epoch
is refused. So a process that lost its connection cannot write once another has taken its place.
"""

from __future__ import annotations

import getpass
import hashlib
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
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
    got = _acquired(session, key, patience)
    try:
        yield got
    finally:
        if got:
            with suppress(psycopg.Error):
                session.execute("SELECT pg_advisory_unlock(%s)", [key])


def _acquired(session: Connection, key: int, patience: str) -> bool:
    try:
        with session.transaction():
            session.execute("SELECT set_config('lock_timeout', %s, true)", [patience])
            session.execute("SELECT pg_advisory_lock(%s)", [key])
    except errors.LockNotAvailable:
        return False
    return True


GRACE = "1s"  # for the session of a process that has just died to end
PATIENCE = 10.0  # seconds to wait for a transaction that an earlier process left open
TABLE = sql.Identifier(OWN_SCHEMA, "lease")


class Lease:
    """A run's lease of a target; several processes of one run share it, one at a time."""

    def __init__(self, postgres: Postgres, run: str, operator: str) -> None:
        self.postgres = postgres
        self.run = run
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
        found = holder(connection, "FOR SHARE")
        if found is None or found.released_at or found.run != self.run or self.epoch not in (None, found.epoch):
            raise PreconditionError(
                "This process does not hold the target any more: " + (f"{found} has it" if found else "no lease exists"),
                where=f"database {connection.info.dbname}",
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

        Does nothing if no other run has it. Changes the target's lease row only.

        Raises:
            PreconditionError: That run acts now, or one of its transactions is still open.
        """

        def work(connection: Connection) -> None:
            found = holder(connection, "FOR UPDATE")
            if found and self._is_of_another(found):
                journal(found, self._upserted(connection))

        with self._locked():
            with_short_lock(self.postgres.connect, work, lambda blockers: None, PATIENCE)

    def release(self) -> bool:
        """Release the target; return whether this run had it. Changes the target's lease row only."""
        with self.postgres.connect() as connection:
            if holder(connection) is None:
                return False
            query = sql.SQL("UPDATE {} SET released_at = now() WHERE run = %s AND released_at IS NULL").format(TABLE)
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
            acting = _acting(session, self._key(session))
        with self.postgres.connect() as connection:
            found = holder(connection)
        if found and self._is_of_another(found):
            return f"{'acting now' if acting else LEFT_BEHIND}: {found}"
        return f"acting now: {acting}" if acting else ""

    @contextmanager
    def _locked(self) -> Iterator[Connection]:
        with self.postgres.connect(MAINTENANCE) as session:
            require_direct(session)
            session.execute("SET idle_session_timeout = 0")
            key = self._key(session)
            with exclusively(session, key, GRACE) as got:
                if not got:
                    raise self._refused(_acting(session, key))
                yield session

    def _taken(self, session: Connection, acted: bool) -> int | None:
        def work(connection: Connection) -> int:
            _prepare(connection)
            if (found := holder(connection)) and self._is_of_another(found):
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
        query = sql.SQL("""
            INSERT INTO {} AS l (run, operator, host, pid, epoch) VALUES (%(run)s, %(operator)s, %(host)s, %(pid)s, 1)
            ON CONFLICT (single) DO UPDATE SET
                run = excluded.run, operator = excluded.operator, host = excluded.host, pid = excluded.pid,
                epoch = l.epoch + 1, released_at = NULL,
                taken_at = CASE WHEN l.run = excluded.run AND l.released_at IS NULL THEN l.taken_at ELSE now() END
            RETURNING epoch""").format(TABLE)
        me = {"run": self.run, "operator": self.operator, "host": socket.gethostname(), "pid": os.getpid()}
        return int(one(connection, query, me)["epoch"])

    def _is_of_another(self, found: Holder) -> bool:
        return found.run != self.run and not found.released_at

    def _left_behind(self, found: Holder) -> PreconditionError:
        return PreconditionError(
            f"Another run was left behind on this target, or waits: {found}.",
            where=f"database {self.postgres.database}",
            state="Nothing was begun. That run may have left the target half-way: look at its journal.",
            safe_next="Ask its operator, and resume in that run's folder. If that run is abandoned, take the target over: "
            'runbook run RUN --take-over "REASON", or in the notebook: await take_over(run, "REASON").',
        )

    def _key(self, session: Connection) -> int:
        return key_of(f"{identity(session).system}/{self.postgres.database}")

    def _refused(self, acting: str) -> PreconditionError:
        try:
            with self.postgres.connect() as connection:
                found = holder(connection)
        except AdapterError:
            found = None
        return PreconditionError(
            f"Another process acts on this target now: {found or 'no lease is on record yet'} ({acting}).",
            where=f"database {self.postgres.database}",
            state="This process changed nothing.",
            safe_next="Wait for it. If it has died or lost its network, the server notices within half a minute; "
            "then run the cell again.",
        )


def guard(lease: Callable[[], Lease]) -> Callable[[Connection], None]:
    """Return the check that each transaction makes before it commits, for a lease created later."""
    return lambda connection: lease().check(connection)


def holder(connection: Connection, lock: str = "") -> Holder | None:
    """Read the holder from a database's lease row; None if no run has ever held it. Read-only."""
    if not exists(connection, TABLE):
        return None
    names = sql.SQL(", ").join(sql.Identifier(field.name) for field in fields(Holder))
    query = sql.SQL("SELECT {} FROM {} {}").format(names, TABLE, sql.SQL(lock))
    row = connection.execute(query).fetchone()
    return Holder(**row) if row else None


def _prepare(connection: Connection) -> None:
    make_own_schema(connection)
    connection.execute(
        sql.SQL("""CREATE TABLE IF NOT EXISTS {} (
            single boolean PRIMARY KEY DEFAULT true CHECK (single),
            run text NOT NULL, operator text NOT NULL, host text NOT NULL, pid integer NOT NULL,
            taken_at timestamptz NOT NULL DEFAULT now(), epoch bigint NOT NULL, released_at timestamptz
        )""").format(TABLE)
    )


def _acting(session: Connection, key: int) -> str:
    """Describe the server session that holds the lock; "" if none does. Read-only."""
    row = session.execute(
        """SELECT a.pid, a.usename, a.application_name, coalesce(a.client_addr::text, 'a local socket') AS place
           FROM pg_locks l JOIN pg_stat_activity a USING (pid)
           WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1 AND l.pid <> pg_backend_pid()
             AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
             AND (l.classid::bigint << 32) | l.objid::bigint = %s""",
        [key],
    ).fetchone()
    return "server session {pid} of {usename}, {application_name}, from {place}".format(**row) if row else ""


def _takes_connections(session: Connection, database: str) -> bool:
    row = session.execute("SELECT datallowconn AS it FROM pg_database WHERE datname = %s", [database]).fetchone()
    return bool(row and row["it"])
