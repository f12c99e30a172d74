"""PgBouncer in front of the database: what its admin console shows, PAUSE within a limit of our own, and RESUME.

PAUSE itself has no limit, and lasts until RESUME whoever disconnects. It ends each connection to the server as soon as that
is free, so what comes after RESUME has a new one: no cached plan and no session of an earlier database outlasts it.
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

DEFAULT_FOLDER = "/var/run/postgresql"  # of the socket that a pooler takes where it names no host
LOOK = 0.02  # seconds between two looks at whether PAUSE has come about
NOT_PAUSED = ("is not paused", "no such database")
RECONNECTS = (1, 10)  # the first version that has RECONNECT
_NO_DATABASE = "runbook_may_it_pause"
_REFUSALS = {
    "no such database": "",  # which is asked for to be refused in this way alone
    "admin access needed": "its user is none of admin_users there: it may look, and not PAUSE",
    "already suspended/paused": "all of it is paused or suspended, and not by this run",
}


class StillInUse(PreconditionError):
    """PAUSE did not come about within its limit; everything was resumed."""


@dataclass(frozen=True)
class Pooled:
    """One database as a pooler has it: where its connections lead, and how they are handed out."""

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
    """What a pooler's console shows: its databases by name, and what bears on PAUSE."""

    databases: dict[str, Pooled]
    reconnects: bool  # whether it has RECONNECT
    patience: float  # seconds after which clients that wait get an error; 0 for never
    shares_port: bool  # whether other processes may listen at the console's address


@dataclass(frozen=True)
class Pooler:
    """A PgBouncer by its admin console, the databases in it, and the seconds that PAUSE may wait."""

    console: str  # as libpq takes it, without a password
    databases: tuple[str, ...]
    limit: float
    password: str | None = field(default=None, repr=False)

    @property
    def name(self) -> str:
        """What it is called: the libpq service, else host and port. Pure."""
        known = conninfo_to_dict(self.console)
        return str(known["service"] if "service" in known else f"{known['host']}:{known['port']}")

    def __str__(self) -> str:
        return f"PgBouncer {self.name} ({', '.join(self.databases)})"

    @contextmanager
    def connect(self) -> Iterator[Connection]:
        """The admin console, closed afterwards.

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
        """What its console shows, for the connections of one role. Read-only."""
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
        """Why our user there cannot have it PAUSE, "" where it can; tried at a database that does not exist. Read-only."""
        with self.connect() as console:
            said = _refused(console, f"PAUSE {_NO_DATABASE}")
            if not said:  # a wildcard makes it
                _refused(console, f"RESUME {_NO_DATABASE}")
                return ""
        return next((why for refusal, why in _REFUSALS.items() if refusal in said), f"it answers PAUSE with: {said}")

    def sessions(self, database: str) -> list[int]:
        """The pids of its connections to one database's server; of a Unix socket it may not know them. Read-only."""
        with self.connect() as console:
            return [int(row["remote_pid"]) for row in console.execute("SHOW SERVERS") if row["database"] == database]

    def release(self) -> None:
        """Have its connections to the server closed, each as soon as no client uses it. Changes the pooler."""
        with self.connect() as console:
            for name in self.databases:
                if said := _refused(console, f"RECONNECT {_quoted(name)}"):
                    raise psycopg.OperationalError(said)

    def _unanswered(self, what: str, error: psycopg.Error) -> AdapterError:
        return AdapterError(
            f"The admin console of PgBouncer {what}: {str(error).strip()}",
            where=f"its console, {self.console}",
            state="Nothing was changed there.",
            safe_next="See that PgBouncer runs, that the target's `pooler` leads to it (a service with "
            "dbname=pgbouncer), and that its user is one of admin_users; then try again.",
        )


def pause(poolers: Sequence[Pooler], meanwhile: Callable[[], object] = lambda: None) -> None:
    """Have the poolers' clients wait, once each transaction of theirs has ended; all at once. Changes the poolers.

    Args:
        poolers: Where, and within how many seconds.
        meanwhile: Is called again and again until it has come about.

    Raises:
        StillInUse: It did not come about within the limit.
        PreconditionError: One was paused before, or refuses it.
        AdapterError: One cannot be reached.
    """
    with ExitStack() as opened:
        asked: dict[pq.abc.PGconn, tuple[Pooler, str]] = {}
        for pooler in poolers:
            for name in pooler.databases:
                console = opened.enter_context(pooler.connect())
                if any(_is_set(row["paused"]) for row in console.execute("SHOW DATABASES") if row["name"] == name):
                    raise _cannot(pooler, name, "it is paused already, and not by this run")
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
    """Let the poolers' clients go on; returns those whom somebody else had let go on before. Changes the poolers.

    Raises:
        AdapterError: One cannot be reached, or refuses it; all others are resumed.
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
    """Those of the pids that are sessions on this database. Read-only."""
    query = "SELECT pid FROM pg_stat_activity WHERE pid = ANY (%s) AND datname = current_database()"
    return [row["pid"] for row in connection.execute(query, [list(pids)])]


def system_at(service: str, host: str | None, port: int) -> str:
    """The system identifier of the server that a pooler's host and port lead to from here, "" where to none. Read-only."""
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
    """Why a command of the console was refused, "" where it was not."""
    result = console.pgconn.exec_(command.encode())
    if result.status in (pq.ExecStatus.COMMAND_OK, pq.ExecStatus.TUPLES_OK):
        return ""
    return result.error_message.decode(errors="replace").strip() or "no answer"


def _has_answered(pgconn: pq.abc.PGconn, pooler: Pooler, name: str) -> bool:
    """Whether PAUSE has come about.

    Raises:
        PreconditionError: It was refused.
        AdapterError: The console is gone.
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
        f"Transactions in progress went on for longer than PAUSE of PgBouncer may wait ({names}).",
        state="Nothing was changed; its clients go on.",
        safe_next="Let those transactions end, or end them one by one by their pid; then run the step again.",
    )


def _cannot(pooler: Pooler, name: str, why: str) -> PreconditionError:
    return PreconditionError(
        f"The database {name} of PgBouncer cannot be paused: {why}.",
        where=f"its console, {pooler.console}",
        state="Nothing was changed.",
        safe_next="Find out who paused it, or correct the target's `pooler`; then run the step again.",
    )
