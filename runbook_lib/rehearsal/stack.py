"""A whole stack, brought up to be rolled back and thrown away."""

import itertools
import os
import secrets
import socket
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from urllib.error import URLError
from urllib.request import ProxyHandler, build_opener

import psycopg

from runbook_lib.config.target import pair
from runbook_lib.documents import load_plan, load_target
from runbook_lib.rehearsal import stack_file
from runbook_lib.rehearsal.database import Database, execute, fill, named_database, spoil
from runbook_lib.rehearsal.managers import filled
from runbook_lib.rehearsal.postgres import Server, binaries, external_server, initialise, marked_environment
from runbook_lib.rehearsal.repositories import build, carried_out
from runbook_lib.rehearsal.stack_file import Commanded, Executed, Fault, HealthByQuery, HealthByUrl, StackFile, Use
from runbook_lib.rehearsal.supervisor import UNREACHABLE, Supervisor, postgres_program, supervisor
from runbook_lib.rehearsal.workspace import MARK, StackError, until_healthy, workspace
from runbook_lib.system.signals import undisturbed

REQUEST_SECONDS = 3.0
_opener = build_opener(ProxyHandler({}))


def answers(url: str) -> bool:
    """Check whether a GET of `url` is answered with 200. Read-only."""
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

    def start(self) -> None:
        """Start all services and wait until each is healthy. Changes the stack. Raises StackError when one is not."""
        self.described.services.start(self.supervisor, self.environment, _login(self.database))
        self.wait()

    def wait(self) -> None:
        """Return once all services are healthy. Raises StackError when one is not."""
        services = self.described.services
        for name, health in self.described.health.items():
            until_healthy(
                partial(_healthy, health, self.environment, self.database),
                HEALTH_SECONDS,
                name,
                partial(services.lives, self.supervisor, name),
                partial(services.log, self.supervisor, self.environment, name),
            )

    def command(self, event: Commanded, where: str) -> None:
        """Execute a command of the stack. Changes what it changes. Raises StackError when it fails."""
        more = filled(event.environment, self.environment, where)
        environment = {**self.environment, **_login(self.database), MARK: str(self.root), **more}
        directory = Path(filled(event.directory, self.environment, where))
        carried_out(filled(event.run, self.environment, where), directory, environment, where)

    def migrate(self) -> None:
        """Do to the database what the deployment of the release does. Changes it. Raises StackError when that fails."""
        for error in self._events(self.described.database.release, "database", "release"):
            raise error

    def use(self) -> Iterator[StackError]:
        """Have users act, as the stack's file says, and give what failed of it. Changes the stack."""
        return self._events(self.described.use, "use")

    def _events(self, events: Sequence[Use], *keys: str) -> Iterator[StackError]:
        with psycopg.connect(self.database.conninfo(self.database.application), autocommit=True) as connection:
            for number, event in enumerate(events):
                try:
                    match event:
                        case Executed():
                            execute(self.described, connection, event)
                        case Commanded():
                            self.command(event, self.described.line(*keys, number, "run"))
                except StackError as error:
                    yield error


@contextmanager
def stack(rows: int = 20_000, fault: str = "none", name: str = "sample") -> Iterator[Stack]:
    """Bring up the stack of that name, with a release that holds `fault`; bring it down at the end.

    Raises as `brought_up`.
    """
    with brought_up(stack_file.named(name), fault, rows) as up:
        yield up


@contextmanager
def brought_up(described: StackFile, fault: str = "none", rows: int = 20_000) -> Iterator[Stack]:
    """Bring up a stack, with a release that holds `fault`; bring it down at the end.

    The database is on an embedded server, or on the one that the libpq settings in REHEARSAL_SERVER lead to.
    Raises StackError when a part cannot be built, refuses to be started or does not become healthy, and
    PreconditionError when a program is missing.
    """
    chosen = described.fault(fault)
    described.require()
    described = described.model_copy(update={"services": described.services.with_environment(chosen.environment)})
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
    conninfo = os.environ.get("REHEARSAL_SERVER")
    server = external_server(conninfo) if conninfo else initialise(root)
    database = named_database(server, f"_{root.name.removeprefix('rb-')}" if conninfo else "")
    environment = _environment(described, root, database)
    described.require_variables({**os.environ, **environment})
    target = load_target(described.target_file, {**os.environ, **environment})
    if described.plan:
        pair(load_plan(described.plan_file), target, described.target_file)
    building = ending.enter_context(ThreadPoolExecutor(1)).submit(build, described, root, fault, environment)
    programs = described.services.programs(environment)
    if not conninfo:
        programs.append(postgres_program(root))
    supervised = ending.enter_context(supervisor(root, programs, marked_environment(root)))
    if not conninfo:
        supervised.start("postgres")
        supervised.wait("postgres", server.answers, HEALTH_SECONDS)
        server.measure_statements()
    database.create()
    if conninfo:
        ending.callback(database.drop_all)
    up = Stack(root, environment, database, supervised, described)
    _write_services(Path(environment["PGSERVICEFILE"]), server, database)
    (root / "backups").mkdir()

    def command(event: Commanded, where: str) -> None:
        building.result()
        up.command(event, where)

    fill(described, database, rows, root / "backups", command)
    building.result()
    up.migrate()
    if fault.data:
        spoil(described, database, fault.data)
    up.start()
    return up


def _environment(described: StackFile, root: Path, database: Database) -> dict[str, str]:
    ports = dict(zip(described.ports, _free_ports(len(described.ports)), strict=True))
    return {
        "REHEARSAL_ROOT": str(root),
        "REHEARSAL_FOLDER": str(described.folder),
        "REHEARSAL_API_TOKEN": secrets.token_urlsafe(24),
        "REHEARSAL_PYTHON": sys.executable,
        "REHEARSAL_APPLICATION_ROLE": database.application.name,
        "REHEARSAL_DATABASE_URL": database.url(),
        "REHEARSAL_PG_BIN": str(database.server.tools or binaries()),
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


def _login(database: Database) -> dict[str, str]:
    """Return the variables by which libpq, and what follows it, finds the database as the application."""
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
