"""A whole stack, brought up to be rolled back and thrown away."""

import itertools
import os
import secrets
import socket
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.error import URLError
from urllib.request import ProxyHandler, build_opener

import psycopg

from runbook_lib.rehearsal.database import Database, create_empty_database, fill, spoil
from runbook_lib.rehearsal.postgres import Server, binaries, external_server, initialise, marked_environment
from runbook_lib.rehearsal.scenarios import Fault, fault_named
from runbook_lib.rehearsal.supervisor import (
    UNREACHABLE,
    Supervisor,
    application_programs,
    build,
    postgres_program,
    supervisor,
)
from runbook_lib.rehearsal.workspace import StackError, until_healthy, workspace
from runbook_lib.system.signals import undisturbed

REQUEST_SECONDS = 3.0
_opener = build_opener(ProxyHandler({}))


def backend_healthy(url: str) -> bool:
    """Tell whether the backend and its database answer. Read-only."""
    return answers(f"{url}/health")


def frontend_healthy(url: str) -> bool:
    """Tell whether the frontend serves its page. Read-only."""
    return answers(url)


def worker_healthy(database: Database) -> bool:
    """Tell whether the worker has written a heartbeat. Read-only."""
    with psycopg.connect(database.conninfo(database.runbook)) as connection:
        return connection.execute("SELECT FROM worker_heartbeats").fetchone() is not None


def answers(url: str) -> bool:
    """Whether a GET of `url` is answered with 200. Read-only."""
    try:
        with _opener.open(url, timeout=REQUEST_SECONDS) as response:
            return bool(response.status == 200)
    except (URLError, OSError):
        return False


HEALTH_SECONDS = 20.0
PORTS = range(15_000, 32_768)  # below those lent to outgoing connections, which could take the port of a stopped service


@dataclass(frozen=True)
class Stack:
    """A running stack: where its files are, what a target file needs to resolve, its database and its services."""

    root: Path
    environment: dict[str, str] = field(repr=False)
    database: Database
    supervisor: Supervisor


@contextmanager
def stack(rows: int = 20_000, fault: str = "none") -> Iterator[Stack]:
    """Bring up PostgreSQL, backend, frontend and worker with a release that holds `fault`; bring them down at the end.

    The database is on an embedded server, or on the one that the libpq settings in REHEARSAL_SERVER lead to.
    Raises StackError when a part cannot be built, refuses to be started or does not become healthy.
    """
    chosen = fault_named(fault)
    with workspace() as root:
        ending = ExitStack()
        try:
            yield _come_up(root, rows, chosen, ending)
        finally:
            with undisturbed():
                ending.close()


def _come_up(root: Path, rows: int, fault: Fault, ending: ExitStack) -> Stack:
    try:
        return _bring_up(root, rows, fault, ending)
    except (*UNREACHABLE, psycopg.Error) as error:
        raise StackError(
            f"a part of the stack refused what was asked of it ({type(error).__name__}): {error}",
            where=str(root),
            state="the stack is being brought down",
            safe_next="start again; where it comes back, the part is named above",
        ) from error


def _bring_up(root: Path, rows: int, fault: Fault, ending: ExitStack) -> Stack:
    building = ending.enter_context(ThreadPoolExecutor(1)).submit(build, root, fault)
    environment = _environment(root)
    conninfo = os.environ.get("REHEARSAL_SERVER")
    programs = application_programs(environment)
    if conninfo:
        server = external_server(conninfo)
    else:
        server = initialise(root)
        programs.append(postgres_program(root))
    supervised = ending.enter_context(supervisor(root, programs, marked_environment(root)))
    if not conninfo:
        supervised.start("postgres")
        _await(supervised, "postgres", server.answers)
        server.measure_statements()
    building.result()
    supervised.start("frontend")  # it needs no database, and starts while that is filled
    database = create_empty_database(server, f"_{root.name.removeprefix('rb-')}" if conninfo else "")
    if conninfo:
        ending.callback(database.drop_all)
    (root / "backups").mkdir()
    fill(database, rows, root / "backups")
    if fault.data:
        spoil(database, fault.data)
    environment["REHEARSAL_APPLICATION_ROLE"] = database.application.name
    environment["REHEARSAL_PG_BIN"] = str(server.tools or binaries())
    _write_services(Path(environment["PGSERVICEFILE"]), server, database)
    _start(supervised, environment, database)
    return Stack(root, environment, database, supervised)


def _environment(root: Path) -> dict[str, str]:
    backend, frontend = _free_ports(2)
    return {
        "REHEARSAL_ROOT": str(root),
        "REHEARSAL_BACKEND_URL": f"http://127.0.0.1:{backend}",
        "REHEARSAL_FRONTEND_URL": f"http://127.0.0.1:{frontend}",
        "REHEARSAL_API_TOKEN": secrets.token_urlsafe(24),
        "REHEARSAL_PYTHON": sys.executable,
        "PGSERVICEFILE": str(root / "pg_service.conf"),
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


def _start(supervised: Supervisor, environment: dict[str, str], database: Database) -> None:
    healthy: dict[str, Callable[[], bool]] = {
        "backend": lambda: backend_healthy(environment["REHEARSAL_BACKEND_URL"]),
        "frontend": lambda: frontend_healthy(environment["REHEARSAL_FRONTEND_URL"]),
        "worker": lambda: worker_healthy(database),
    }
    supervised.start("backend")
    supervised.start("worker")
    for name, ready in healthy.items():
        _await(supervised, name, ready)


def _await(supervised: Supervisor, name: str, ready: Callable[[], bool]) -> None:
    until_healthy(ready, HEALTH_SECONDS, name, lambda: supervised.running(name), supervised.log(name))


def _free_ports(count: int) -> list[int]:
    ports = secrets.SystemRandom().sample(PORTS, len(PORTS))
    return list(itertools.islice(filter(_is_free, ports), count))


def _is_free(port: int) -> bool:
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True
