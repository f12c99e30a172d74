"""A whole stack, brought up to be rolled back and thrown away."""

import itertools
import os
import secrets
import socket
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from urllib.error import URLError
from urllib.request import ProxyHandler, build_opener

import psycopg

from runbook_lib.rehearsal import stack_file
from runbook_lib.rehearsal.database import Database, create_empty_database, fill, spoil
from runbook_lib.rehearsal.managers import filled
from runbook_lib.rehearsal.postgres import Server, binaries, external_server, initialise, marked_environment
from runbook_lib.rehearsal.repositories import build
from runbook_lib.rehearsal.stack_file import Fault, HealthByQuery, HealthByUrl, StackFile
from runbook_lib.rehearsal.supervisor import UNREACHABLE, Supervisor, postgres_program, supervisor
from runbook_lib.rehearsal.workspace import StackError, until_healthy, workspace
from runbook_lib.system.signals import undisturbed

REQUEST_SECONDS = 3.0
_opener = build_opener(ProxyHandler({}))


def answers(url: str) -> bool:
    """Whether a GET of `url` is answered with 200. Read-only."""
    try:
        with _opener.open(url, timeout=REQUEST_SECONDS) as response:
            return bool(response.status == 200)
    except (URLError, OSError):
        return False


HEALTH_SECONDS = 30.0
PORTS = range(15_000, 32_768)  # below those lent to outgoing connections, which could take the port of a stopped service


@dataclass(frozen=True)
class Stack:
    """A running stack: where its files are, what a target file needs to resolve, its database and its services."""

    root: Path
    environment: dict[str, str] = field(repr=False)
    database: Database
    supervisor: Supervisor
    described: StackFile


@contextmanager
def stack(rows: int = 20_000, fault: str = "none", name: str = "sample") -> Iterator[Stack]:
    """Bring up the stack of that name, with a release that holds `fault`; bring it down at the end.

    The database is on an embedded server, or on the one that the libpq settings in REHEARSAL_SERVER lead to.
    Raises StackError when a part cannot be built, refuses to be started or does not become healthy, and
    PreconditionError when a program is missing.
    """
    described = stack_file.named(name)
    chosen = described.fault(fault)
    described.require()
    with workspace() as root:
        ending = ExitStack()
        try:
            yield _come_up(described, root, rows, chosen, ending)
        finally:
            with undisturbed():
                ending.close()


def _come_up(described: StackFile, root: Path, rows: int, fault: Fault, ending: ExitStack) -> Stack:
    try:
        return _bring_up(described, root, rows, fault, ending)
    except (*UNREACHABLE, psycopg.Error) as error:
        raise StackError(
            f"a part of the stack refused what was asked of it ({type(error).__name__}): {error}",
            where=str(root),
            state="the stack is being brought down",
            safe_next="start again; where it comes back, the part is named above",
        ) from error


def _bring_up(described: StackFile, root: Path, rows: int, fault: Fault, ending: ExitStack) -> Stack:
    environment = _environment(described, root)
    building = ending.enter_context(ThreadPoolExecutor(1)).submit(build, described, root, fault, environment)
    conninfo = os.environ.get("REHEARSAL_SERVER")
    programs = described.services.programs(environment)
    if conninfo:
        server = external_server(conninfo)
    else:
        server = initialise(root)
        programs.append(postgres_program(root))
    supervised = ending.enter_context(supervisor(root, programs, marked_environment(root)))
    if not conninfo:
        supervised.start("postgres")
        supervised.wait("postgres", server.answers, HEALTH_SECONDS)
        server.measure_statements()
    database = create_empty_database(server, f"_{root.name.removeprefix('rb-')}" if conninfo else "")
    if conninfo:
        ending.callback(database.drop_all)
    (root / "backups").mkdir()
    fill(described, database, rows, root / "backups")
    if fault.data:
        spoil(described, database, fault.data)
    environment["REHEARSAL_APPLICATION_ROLE"] = database.application.name
    environment["REHEARSAL_PG_BIN"] = str(server.tools or binaries())
    _write_services(Path(environment["PGSERVICEFILE"]), server, database)
    building.result()
    _start(described, supervised, environment, database)
    return Stack(root, environment, database, supervised, described)


def _environment(described: StackFile, root: Path) -> dict[str, str]:
    ports = dict(zip(described.ports, _free_ports(len(described.ports)), strict=True))
    return {
        "REHEARSAL_ROOT": str(root),
        "REHEARSAL_API_TOKEN": secrets.token_urlsafe(24),
        "REHEARSAL_PYTHON": sys.executable,
        "PGSERVICEFILE": str(root / "pg_service.conf"),
        **{f"REHEARSAL_{name.upper()}_PORT": str(port) for name, port in ports.items()},
        **{f"REHEARSAL_{name.upper()}_URL": f"http://127.0.0.1:{port}" for name, port in ports.items()},
        **described.services.variables(root),
    }


def _write_services(file: Path, server: Server, database: Database) -> None:
    services = {
        "rehearsal": database.parameters(database.runbook),
        "rehearsal_app": database.parameters(database.application),
        "rehearsal_admin": server.parameters,
    }
    file.touch(mode=0o600)
    with file.open("w") as output:
        for name, parameters in services.items():
            print(f"[{name}]", *(f"{key}={value}" for key, value in parameters.items()), "", sep="\n", file=output)


def _start(described: StackFile, supervised: Supervisor, environment: dict[str, str], database: Database) -> None:
    described.services.start(supervised, environment, _login(database))
    for name, health in described.health.items():
        until_healthy(
            partial(_healthy, health, environment, database),
            HEALTH_SECONDS,
            name,
            partial(described.services.lives, supervised, name),
            partial(described.services.log, supervised, environment, name),
        )


def _login(database: Database) -> dict[str, str]:
    """The variables by which libpq, and what follows it, finds the database as the application."""
    names = {"host": "PGHOST", "port": "PGPORT", "dbname": "PGDATABASE", "user": "PGUSER", "password": "PGPASSWORD"}
    parameters = database.parameters(database.application)
    return {variable: parameters[name] for name, variable in names.items() if name in parameters}


def _healthy(health: HealthByUrl | HealthByQuery, environment: Mapping[str, str], database: Database) -> bool:
    match health:
        case HealthByUrl():
            return answers(filled(health.url, environment, "health"))
        case HealthByQuery():
            with psycopg.connect(database.conninfo(database.runbook)) as connection:
                return connection.execute(health.query.encode()).fetchone() is not None


def _free_ports(count: int) -> list[int]:
    ports = secrets.SystemRandom().sample(PORTS, len(PORTS))
    return list(itertools.islice(filter(_is_free, ports), count))


def _is_free(port: int) -> bool:
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True
