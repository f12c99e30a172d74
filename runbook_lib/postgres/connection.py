"""Connections that name the run, wait briefly for locks and detect a dead network."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain
from threading import Lock
from typing import Any

import psycopg
from psycopg import errors, sql
from psycopg.conninfo import make_conninfo
from psycopg.rows import dict_row

from runbook_lib.errors import AdapterError, PreconditionError, RunbookError
from runbook_lib.postgres import Connection, Row
from runbook_lib.postgres.blockers import holders
from runbook_lib.postgres.text_settings import fitted

MAINTENANCE = "postgres"  # the database that no rollback renames
LOCK_TIMEOUT = "2s"
KEEPALIVES = {"tcp_keepalives_idle": 10, "tcp_keepalives_interval": 5, "tcp_keepalives_count": 3}  # the server's side
SETTINGS = {
    "lock_timeout": LOCK_TIMEOUT,
    "statement_timeout": "10min",
    "idle_in_transaction_session_timeout": "1min",
    **KEEPALIVES,
}
AS_BEGUN = """SELECT pg_advisory_unlock_all(); RESET ALL; RESET SESSION AUTHORIZATION; CLOSE ALL; UNLISTEN *;
DISCARD TEMP; DISCARD SEQUENCES"""
STRAIGHT = "In the libpq service file, set host and port to those of PostgreSQL itself, not of a connection pooler."


@dataclass(frozen=True)
class Identity:
    """Which database this is, and our role in it."""

    system: str
    database: str
    server_version: int
    role: str


class _Guarded(psycopg.Connection[Row]):
    """A connection whose transactions call `guard` before they commit writes."""

    guard: Callable[[Connection], None] | None = None
    pausing: Callable[[], AbstractContextManager[None]] = nullcontext

    @contextmanager
    def transaction(self, savepoint_name: str | None = None, force_rollback: bool = False) -> Iterator[psycopg.Transaction]:
        outermost = self.info.transaction_status is psycopg.pq.TransactionStatus.IDLE
        with super().transaction(savepoint_name, force_rollback) as begun:
            yield begun
            if outermost and self.guard and one(self, "SELECT pg_current_xact_id_if_assigned() IS NOT NULL AS it")["it"]:
                self.guard(self)


class Sessions:
    """Reuses sessions inside a `kept` block; elsewhere each session ends with its connection."""

    def __init__(self) -> None:
        self._idle: dict[object, list[_Guarded]] | None = None
        self._lock = Lock()  # so that none is kept once the block has ended

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Keep unused sessions open until the block ends."""
        idle = self._idle = {}
        try:
            yield
        finally:
            with self._lock:
                self._idle = None
            for session in chain.from_iterable(idle.values()):
                session.close()

    def take(self, key: object) -> _Guarded | None:
        """Return a kept session that was opened with this key and still answers, or None."""
        while idle := (self._idle or {}).get(key):
            session = idle.pop()
            with suppress(psycopg.Error):
                session.execute("SELECT 1")
                return session
            session.close()
        return None

    @contextmanager
    def lent(self, key: object, session: _Guarded) -> Iterator[None]:
        """Lend a session to the block; afterwards end it, or reset and keep it."""
        with ExitStack() as closing:
            closing.enter_context(session)
            yield
            if self._idle is None or session.info.transaction_status is not psycopg.pq.TransactionStatus.IDLE:
                return
            with suppress(psycopg.Error):
                session.execute(AS_BEGUN)
                with self._lock:
                    if self._idle is not None:
                        self._idle.setdefault(key, []).append(session)
                        closing.pop_all()


@dataclass(frozen=True)
class Postgres:
    """A database reached by a libpq service; `run` appears in the server's list of connections.

    `guard` is called before the commit of each transaction that has written to the database itself. `pausing` makes the
    clients of poolers in front of it wait while a block runs.
    """

    service: str
    run: str
    guard: Callable[[Connection], None] | None = None
    pausing: Callable[[], AbstractContextManager[None]] = nullcontext
    dbname: str | None = field(default=None, kw_only=True)  # in place of the service's own
    keeps_triggers_out: bool = field(default=False, kw_only=True)  # for all rows that its sessions write
    sessions: Sessions = field(default_factory=Sessions, kw_only=True, compare=False, repr=False)

    @cached_property
    def database(self) -> str:
        """Name the database that the service connects to, without asking the server. Read-only."""
        connection = psycopg.pq.PGconn.connect_start(make_conninfo(service=self.service, dbname=self.dbname).encode())
        try:
            return connection.db.decode()
        finally:
            connection.finish()

    @property
    def application_name(self) -> str:
        """Name its sessions as they appear in the server's list."""
        return fitted(f"runbook {self.run}")

    @contextmanager
    def connect(self, database: str | None = None) -> Iterator[Connection]:
        """Open a connection in autocommit mode, to another database of the server if one is named; closed afterwards.

        Raises:
            AdapterError: The database cannot be reached, or a statement failed.
        """
        opened_with = (database, self.keeps_triggers_out)
        connection = self.sessions.take(opened_with) or self._opened(database)
        if database in (None, self.database):
            connection.guard, connection.pausing = self.guard, self.pausing
        try:
            with self.sessions.lent(opened_with, connection):
                yield connection
        except psycopg.Error as error:
            held = self._held(database) if isinstance(error, errors.LockNotAvailable) else ""
            raise AdapterError(
                f"A statement failed: {str(error).strip()}{held}",
                where=f"libpq service {self.service}",
                state="Its transaction left no trace.",
                safe_next="Read the cause, then run the step again: it resumes where it stopped.",
            ) from error

    def _opened(self, database: str | None) -> _Guarded:
        try:
            return _Guarded.connect(
                make_conninfo(service=self.service, dbname=database or self.dbname),
                application_name=self.application_name,
                options=" ".join(f"-c {name}={value}" for name, value in self._settings.items()),
                connect_timeout=5,
                keepalives_idle=10,
                keepalives_interval=5,
                keepalives_count=3,
                autocommit=True,
                row_factory=dict_row,
            )
        except psycopg.OperationalError as error:
            pooled = "unsupported startup parameter" in str(error)
            raise AdapterError(
                f"The database cannot be reached: {str(error).strip()}",
                where=f"libpq service {self.service}",
                state="Nothing was sent to it.",
                safe_next=STRAIGHT
                if pooled
                else "See that the server runs and that the service file names it; then try again.",
            ) from None

    @property
    def _settings(self) -> dict[str, object]:
        return {**SETTINGS, **({"session_replication_role": "replica"} if self.keeps_triggers_out else {})}

    def _held(self, database: str | None) -> str:
        """Name who may block a lock that was not granted, as the rest of a sentence. Read-only."""
        with suppress(RunbookError), self.connect(database) as connection:
            if found := holders(connection):
                return f"; locked by {'; '.join(map(str, found))}"
        return ""


def paused(connection: Connection) -> AbstractContextManager[None]:
    """Make clients of the poolers in front of a connection's database wait while the block runs. Changes the poolers."""
    return connection.pausing() if isinstance(connection, _Guarded) else nullcontext()


def require_direct(connection: Connection) -> None:
    """Check that a server session lasts as long as the connection, which a pooler does not ensure. Read-only.

    Raises:
        PreconditionError: It does not, so session locks and settings would be lost, or be another client's.
    """
    asked = "SELECT pg_backend_pid() AS pid, current_setting('lock_timeout') AS lock_timeout"
    found = [one(connection, asked) for _ in range(2)]
    own = {"pid": connection.info.backend_pid, "lock_timeout": LOCK_TIMEOUT}
    if any(row != own for row in found):
        raise PreconditionError(
            "Something between this machine and PostgreSQL shares out its sessions, as a connection pooler does. Two "
            f"queries ran in the sessions {found[0]} and {found[1]}, but the connection was opened with {own}.",
            where=f"host {connection.info.host}, port {connection.info.port}",
            state="Nothing was changed.",
            safe_next=STRAIGHT,
        )


def identity(connection: Connection) -> Identity:
    """Identify the database and our role in it. Read-only."""
    row = one(
        connection,
        """SELECT system_identifier::text AS system, current_database() AS database,
                  current_setting('server_version_num')::int AS server_version, current_user AS role
           FROM pg_control_system()""",
    )
    return Identity(**row)


def copied(source: Connection, rows: Any, target: Connection, into: Any) -> int:
    """Stream rows from one connection to another, and return how many there were. Changes the target.

    Args:
        source: Where `rows` is executed, a COPY … TO STDOUT.
        rows: What is read.
        target: Where `into` is executed, a COPY … FROM STDIN.
        into: Where the rows go.
    """
    cursor = target.cursor()
    with source.cursor().copy(rows) as reading, cursor.copy(into) as writing:
        for block in reading:
            writing.write(block)
    return cursor.rowcount


def owner_of(connection: Connection, database: str) -> str:
    """Name the owner of a database. Read-only."""
    query = "SELECT pg_get_userbyid(datdba) AS it FROM pg_database WHERE datname = %s"
    return str(one(connection, query, [database])["it"])


def one(connection: Connection, query: Any, parameters: Any = None) -> Row:
    """Return the single row of a query.

    Raises:
        AdapterError: The query returned none.
    """
    row = connection.execute(query, parameters).fetchone()
    if row is None:
        raise AdapterError("A query that must return a row returned none.", state="Nothing was changed by it.")
    return row


def exists(connection: Connection, table: sql.Composable) -> bool:
    """Report whether a table exists. Read-only."""
    return bool(one(connection, "SELECT to_regclass(%s) IS NOT NULL AS it", [table.as_string(connection)])["it"])


def rights_missing(connection: Connection, schema: str, table: str) -> list[str]:
    """List what our role may not do although the rollback needs it. Read-only."""
    row = one(
        connection,
        """SELECT has_table_privilege(to_regclass(%(t)s), 'SELECT, UPDATE') AS "read and update the table",
                  has_database_privilege(current_database(), 'CREATE') AS "make a schema for undo rows",
                  pg_has_role('pg_read_all_stats', 'USAGE') AS "see other roles' connections\"""",
        {"t": sql.Identifier(schema, table).as_string(connection)},
    )
    return [right for right, held in row.items() if not held]


def unreadable(connection: Connection) -> list[str]:
    """List what a dump would fail on: objects that our role may not read, or not with all rows. Read-only."""
    rows = connection.execute(
        """SELECT oid::regclass::text AS name FROM pg_class c
           WHERE relkind IN ('r', 'p', 'S') AND relpersistence <> 't'
             AND relnamespace::regnamespace::text NOT LIKE 'pg\\_%' AND relnamespace <> 'information_schema'::regnamespace
             AND NOT (has_schema_privilege(relnamespace, 'USAGE')
                 AND CASE relkind WHEN 'S' THEN has_sequence_privilege(oid, 'SELECT')
                     ELSE has_table_privilege(oid, 'SELECT') AND NOT row_security_active(oid) END)
             AND NOT EXISTS (SELECT FROM pg_depend WHERE classid = 'pg_class'::regclass AND objid = c.oid AND deptype = 'e')
           UNION ALL SELECT 'large object ' || oid FROM pg_largeobject_metadata
           WHERE NOT pg_has_role(lomowner, 'USAGE') AND NOT EXISTS (
               SELECT FROM aclexplode(lomacl) a
               WHERE privilege_type = 'SELECT' AND (grantee = 0 OR pg_has_role(grantee, 'USAGE')))
           ORDER BY 1"""
    )
    return [row["name"] for row in rows]


def limit_statements(connection: Connection, limit: str) -> None:
    """End each later statement of the session that takes longer than `limit`, as "5s". Changes the session only."""
    connection.execute("SELECT set_config('statement_timeout', %s, false)", [limit])
