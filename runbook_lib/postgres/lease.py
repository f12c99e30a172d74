"""One run per target: an advisory lock that is held while a step acts, and a row in the target that names the run.

The lock is held in the maintenance database, because a restore renames the target and ends every connection to it; it
lives and dies with its connection. The row outlasts it. Its epoch rises each time the lock is taken, and whoever would
commit under an older one is refused: a process that lost its connection cannot write once another has taken its place.
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

LEFT_BEHIND = "left behind or waiting"  # how a run is described that has a target and does not act now


@dataclass(frozen=True)
class Holder:
    """Whose turn it is: a run, its operator, where it acted last, and since when it has the target."""

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
    """The number by which the server knows the lock of that name."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], signed=True)


@contextmanager
def exclusively(session: Connection, key: int, patience: str) -> Iterator[bool]:
    """Hold a lock while the block runs; tells whether it was acquired within `patience`, a time as the server reads it.

    It is let go before the session is closed: closing tells the server, which ends the session some time later, and whoever
    asks next would find it in the way. Changes nothing else.
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


GRACE = "1s"  # for the session of a process that has just died to be gone
PATIENCE = 10.0  # seconds for which a transaction is waited for that a process before this one has left open
TABLE = sql.Identifier(OWN_SCHEMA, "lease")


class Lease:
    """A run's hold on a target; several processes of one run share it, one at a time."""

    def __init__(self, postgres: Postgres, run: str, operator: str) -> None:
        self.postgres = postgres
        self.run = run
        self.operator = operator or getpass.getuser()
        self.epoch: int | None = None  # the row's, while the target is held and the row could be seen
        self.holds = False

    @contextmanager
    def held(self, *, acted: bool) -> Iterator[None]:
        """Hold the target while the block runs. Changes the target's lease row only.

        Args:
            acted: Whether this run has acted on the target; it may then go on where the target takes no connections.

        Raises:
            PreconditionError: Another run acts now, was left behind or waits, or a pooler stands in between.
            AdapterError: The server cannot be reached.
        """
        with self._locked() as session:
            self.epoch, self.holds = self._taken(session, acted), True
            try:
                yield
            finally:
                self.epoch, self.holds = None, False

    def check(self, connection: Connection) -> None:
        """Raise where this process has lost the target, and keep the row as it is until the transaction ends.

        Every transaction of the run that writes to the target asks it before it commits; outside `held` it says nothing.
        Read-only.

        Raises:
            PreconditionError: Another process has taken the target.
        """
        if not self.holds:
            return
        found = holder(connection, "FOR SHARE")
        if found is None or found.released_at or found.run != self.run or self.epoch not in (None, found.epoch):
            raise PreconditionError(
                "This process does not hold the target any more: " + (f"{found} has it" if found else "no lease is there"),
                where=f"database {connection.info.dbname}",
                state="The transaction that was to be committed is rolled back; those before it stand.",
                safe_next="Stop here. Ask who has it; to go on, take the target over again, with a reason.",
            )
        self.epoch = found.epoch

    def is_outdated(self, events: Sequence[Event]) -> bool:
        """Whether the target holds more of this run's journal than these events: it was carried on elsewhere. Read-only.

        Where the target takes no connections nothing is known of that, as while this run puts another database in its place.
        """
        with suppress(AdapterError), self.postgres.connect() as connection:
            return mirror.is_ahead(mirror.last(connection, self.run), events)
        return False

    def take_over(self, journal: Callable[[Holder, int], object]) -> None:
        """Take the target from a run that was left behind; `journal` gets whose it was, and the new epoch.

        Nothing happens where no other run has it. Changes the target's lease row only.

        Raises:
            PreconditionError: That run acts now, or a transaction of its is not ended yet.
        """

        def work(connection: Connection) -> None:
            found = holder(connection, "FOR UPDATE")
            if found and self._is_of_another(found):
                journal(found, self._upserted(connection))

        with self._locked():
            with_short_lock(self.postgres.connect, work, lambda blockers: None, PATIENCE)

    def release(self) -> bool:
        """Let go of the target, if this run has it; tells whether it had. Changes the target's lease row only."""
        with self.postgres.connect() as connection:
            if holder(connection) is None:
                return False
            query = sql.SQL("UPDATE {} SET released_at = now() WHERE run = %s AND released_at IS NULL").format(TABLE)
            return connection.execute(query, [self.run]).rowcount == 1

    def end(self) -> bool:
        """Let go of the target while no process acts on it; tells whether this run had it. Changes the lease row only.

        Raises:
            PreconditionError: A process acts on the target now.
            AdapterError: The server cannot be reached.
        """
        with self._locked():
            return self.release()

    def in_the_way(self) -> str:
        """What would keep this run from acting now, "" for nothing. Read-only.

        Raises:
            PreconditionError: A pooler stands in between.
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
                return None  # this run closed it; the row is looked at as soon as it can be
            raise

    def _upserted(self, connection: Connection) -> int:
        """Write the row as this run's and return its new epoch. Changes the row."""
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
            safe_next="Ask its operator, and go on in that run's folder. If it is given up, take the target over: "
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
            safe_next="Wait for it. Where it is dead, or its network is gone, the server notices within half a minute; "
            "then run the cell again.",
        )


def guard(lease: Callable[[], Lease]) -> Callable[[Connection], None]:
    """What each transaction asks before it commits: the check of a lease that is made later, on the same database."""
    return lambda connection: lease().check(connection)


def holder(connection: Connection, lock: str = "") -> Holder | None:
    """Whose turn it is by the row of a database; None where no run has ever held it. Read-only."""
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
    """The server's session that holds the lock, "" where none does. Read-only."""
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
