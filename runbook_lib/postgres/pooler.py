"""PgBouncer in front of the database: the state in its admin console, PAUSE with a time limit, and RESUME.

PAUSE itself has no limit, and lasts until RESUME, whoever disconnects. It closes each server connection once that is free.
So clients get new ones after RESUME: no cached plan and no session of an earlier database survives.
"""

import re
import select
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg import pq
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import dict_row

from runbook_lib.errors import AdapterError, PreconditionError
from runbook_lib.postgres import Connection, Row

DEFAULT_FOLDER = "/var/run/postgresql"  # the socket folder of a pooler that names no host
LOOK = 0.02  # seconds between checks whether PAUSE is complete
NOT_PAUSED = ("is not paused", "no such database")
RECONNECTS = (1, 10)  # the first version that has RECONNECT
_NO_DATABASE = "runbook_may_it_pause"
_REFUSALS = {
    "no such database": "",  # the expected refusal of a user who may PAUSE
    "admin access needed": "its user is not in admin_users there: it may look, but not PAUSE",
    "already suspended/paused": "all of it is paused or suspended, but not by this run",
}


class StillInUse(PreconditionError):
    """PAUSE did not complete within its limit; everything was resumed."""


@dataclass(frozen=True)
class Pooled:
    """One database of a pooler: where its connections lead, and how they are pooled."""

    name: str
    host: str | None
    port: int
    database: str
    mode: str
    paused: bool
    disabled: bool
    clients: int


@dataclass(frozen=True)
class Shown:
    """A pooler's state from its console: its databases by name, and what affects PAUSE."""

    databases: dict[str, Pooled]
    reconnects: bool  # whether it has RECONNECT
    patience: float  # seconds after which waiting clients get an error; 0 for never
    shares_port: bool  # whether other processes may listen at the console's address


@dataclass(frozen=True)
class Pooler:
    """A PgBouncer: its admin console, its databases, and the seconds that PAUSE may wait."""

    console: str  # a libpq connection string, without a password
    databases: tuple[str, ...]
    limit: float
    password: str | None = field(default=None, repr=False)

    @property
    def name(self) -> str:
        """Its name: the libpq service, else host and port. Pure."""
        known = conninfo_to_dict(self.console)
        return str(known["service"] if "service" in known else f"{known['host']}:{known['port']}")

    def __str__(self) -> str:
        return f"PgBouncer {self.name} ({', '.join(self.databases)})"

    @contextmanager
    def connect(self) -> Iterator[Connection]:
        """Connect to the admin console; closed afterwards.

        Raises:
            AdapterError: It cannot be reached, or did not answer.
        """
        try:
            connection = psycopg.connect(
                make_conninfo(self.console, password=self.password),
                connect_timeout=5,
                autocommit=True,
                row_factory=dict_row,
            )
        except psycopg.OperationalError as error:
            raise self._unanswered("cannot be reached", error) from None
        try:
            yield connection
        except psycopg.Error as error:
            raise self._unanswered("did not answer", error) from None
        finally:
            connection.close()

    def shown(self, role: str) -> Shown:
        """Return the console's state, for the connections of one role. Read-only."""
        with self.connect() as console:
            config = {row["key"]: row["value"] for row in console.execute("SHOW CONFIG")}
            modes = {row["name"]: row["pool_mode"] for row in console.execute("SHOW USERS")}
            clients = Counter(row["database"] for row in console.execute("SHOW CLIENTS"))
            databases = {
                row["name"]: Pooled(
                    row["name"],
                    row["host"],
                    int(row["port"]),
                    row["database"],
                    modes.get(row["force_user"] or role) or row["pool_mode"] or config["pool_mode"],
                    _is_set(row["paused"]),
                    _is_set(row["disabled"]),
                    clients[row["name"]],
                )
                for row in console.execute("SHOW DATABASES")
            }
            patience = [float(config.get(key) or 0) for key in ("query_wait_timeout", "client_login_timeout")]
            return Shown(
                databases,
                tuple(map(int, re.findall(r"\d+", console.info.parameter_status("server_version") or ""))) >= RECONNECTS,
                min(filter(None, patience), default=0.0),
                _is_set(config.get("so_reuseport", 0)) and not console.info.host.startswith("/"),
            )

    def cannot_pause(self) -> str:
        """Return why our user there may not PAUSE, "" if it may; tried with a database that does not exist. Read-only."""
        with self.connect() as console:
            said = _refused(console, f"PAUSE {_NO_DATABASE}")
            if not said:  # a wildcard entry accepts it
                _refused(console, f"RESUME {_NO_DATABASE}")
                return ""
        return next((why for refusal, why in _REFUSALS.items() if refusal in said), f"it answers PAUSE with: {said}")

    def sessions(self, database: str) -> list[int]:
        """Return the pids of its server connections for one database; a Unix socket may hide them. Read-only."""
        with self.connect() as console:
            return [int(row["remote_pid"]) for row in console.execute("SHOW SERVERS") if row["database"] == database]

    def release(self) -> None:
        """Have it close each of its server connections once no client uses it. Changes the pooler."""
        with self.connect() as console:
            for name in self.databases:
                if said := _refused(console, f"RECONNECT {_quoted(name)}"):
                    raise psycopg.OperationalError(said)

    def _unanswered(self, what: str, error: psycopg.Error) -> AdapterError:
        return AdapterError(
            f"The admin console of PgBouncer {what}: {str(error).strip()}",
            where=f"its console, {self.console}",
            state="Nothing was changed there.",
            safe_next="Make sure that PgBouncer runs, that the target's `pooler` leads to it (a service with "
            "dbname=pgbouncer), and that its user is one of admin_users; then try again.",
        )


def pause(poolers: Sequence[Pooler], meanwhile: Callable[[], object] = lambda: None) -> None:
    """PAUSE all poolers at once: their clients wait once each of their transactions has ended. Changes the poolers.

    Args:
        poolers: Which, each with its limit in seconds.
        meanwhile: Called repeatedly until the pause is complete.

    Raises:
        StillInUse: It did not complete within the limit.
        PreconditionError: One was paused before, or refused.
        AdapterError: One cannot be reached.
    """
    with ExitStack() as opened:
        asked: dict[pq.abc.PGconn, tuple[Pooler, str]] = {}
        for pooler in poolers:
            for name in pooler.databases:
                console = opened.enter_context(pooler.connect())
                if any(_is_set(row["paused"]) for row in console.execute("SHOW DATABASES") if row["name"] == name):
                    raise _cannot(pooler, name, "it is paused already, but not by this run")
                asked[console.pgconn] = pooler, name
        begun = time.monotonic()
        for pgconn, (_, name) in asked.items():
            pgconn.send_query(f"PAUSE {_quoted(name)}".encode())
        while asked:
            late = [each for each in asked.values() if time.monotonic() - begun > each[0].limit]
            if late:
                raise _still_in_use(late)
            ready, _, _ = select.select([pgconn.socket for pgconn in asked], [], [], LOOK)
            for pgconn in [each for each in asked if each.socket in ready]:
                if _has_answered(pgconn, *asked[pgconn]):
                    del asked[pgconn]
            meanwhile()


def resume(poolers: Sequence[Pooler]) -> list[str]:
    """RESUME the poolers' clients; return those that somebody else had already resumed. Changes the poolers.

    Raises:
        AdapterError: One cannot be reached, or refused; all others are resumed.
    """
    others, errors = [], list[AdapterError]()
    for pooler in poolers:
        try:
            with pooler.connect() as console:
                for name in pooler.databases:
                    said = _refused(console, f"RESUME {_quoted(name)}")
                    if any(each in said for each in NOT_PAUSED):
                        others.append(f"{name} of {pooler.name}")
                    elif said:
                        raise psycopg.OperationalError(said)
        except AdapterError as error:
            errors.append(error)
    if errors:
        raise errors[0]
    return others


def sessions_here(connection: Connection, pids: Sequence[int]) -> list[int]:
    """Return those of the pids that are sessions on this database. Read-only."""
    query = "SELECT pid FROM pg_stat_activity WHERE pid = ANY (%s) AND datname = current_database()"
    return [row["pid"] for row in connection.execute(query, [list(pids)])]


def system_at(service: str, host: str | None, port: int) -> str:
    """Return the system identifier of the server at a pooler's host and port, as seen from here, "" if none. Read-only."""
    where = make_conninfo(service=service, host=host or DEFAULT_FOLDER, port=port)
    try:
        with psycopg.connect(where, connect_timeout=5) as connection:
            row = connection.execute("SELECT system_identifier::text FROM pg_control_system()").fetchone()
    except psycopg.OperationalError:
        return ""
    return str(row[0]) if row else ""


def _is_set(shown: Any) -> bool:
    return str(shown) not in ("0", "f")


def _quoted(name: str) -> str:
    return '"{}"'.format(name.replace('"', '""'))


def _refused(console: psycopg.Connection[Row], command: str) -> str:
    """Return why the console refused a command, "" if it did not."""
    result = console.pgconn.exec_(command.encode())
    if result.status in (pq.ExecStatus.COMMAND_OK, pq.ExecStatus.TUPLES_OK):
        return ""
    return result.error_message.decode(errors="replace").strip() or "no answer"


def _has_answered(pgconn: pq.abc.PGconn, pooler: Pooler, name: str) -> bool:
    """Whether PAUSE is complete.

    Raises:
        PreconditionError: It was refused.
        AdapterError: The console's connection is gone.
    """
    try:
        pgconn.consume_input()
    except psycopg.OperationalError as error:
        raise pooler._unanswered("broke off", error) from None
    if pgconn.is_busy():
        return False
    while result := pgconn.get_result():
        if result.status not in (pq.ExecStatus.COMMAND_OK, pq.ExecStatus.TUPLES_OK):
            raise _cannot(pooler, name, result.error_message.decode(errors="replace").strip())
    return True


def _still_in_use(late: Sequence[tuple[Pooler, str]]) -> StillInUse:
    names = ", ".join(f"{name} of {pooler.name}, {pooler.limit:g} s" for pooler, name in late)
    return StillInUse(
        f"Running transactions took longer than PAUSE of PgBouncer may wait ({names}).",
        state="Nothing was changed; its clients continue.",
        safe_next="Let those transactions end, or end each session by its pid; then run the step again.",
    )


def _cannot(pooler: Pooler, name: str, why: str) -> PreconditionError:
    return PreconditionError(
        f"The database {name} of PgBouncer cannot be paused: {why}.",
        where=f"its console, {pooler.console}",
        state="Nothing was changed.",
        safe_next="Find out who paused it, or correct the target's `pooler`; then run the step again.",
    )
