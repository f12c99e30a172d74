"""A PgBouncer of the system's packages in front of a test's database."""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from runbook_lib.rehearsal.database import Database
from runbook_lib.rehearsal.postgres import clean_environment, random_password, user_namespace

ADMIN, STATS = "bouncer_admin", "bouncer_stats"
PORT = "6432"
STARTS_WITHIN = 10.0  # seconds
CONFIG = """[databases]
{databases}
[pgbouncer]
listen_addr =
listen_port = {port}
unix_socket_dir = {directory}
auth_type = plain
auth_file = {directory}/users
admin_users = {admin}
stats_users = {stats}
pool_mode = {mode}
default_pool_size = 10
max_client_conn = 100
ignore_startup_parameters = extra_float_digits
"""


def program() -> str | None:
    """PgBouncer, where it is installed. Read-only."""
    return shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")


@dataclass
class PgBouncer:
    """One that runs: its socket's directory, and the passwords of its users."""

    database: Database
    directory: Path
    passwords: dict[str, str] = field(repr=False)
    other: str  # a role that is none of the services', and may do what they may
    process: subprocess.Popen[bytes] | None = None

    def conninfo(self, user: str = "", dbname: str = "") -> str:
        """How a client reaches it, the application's role unless another is named."""
        user = user or self.database.application.name
        return make_conninfo(
            host=str(self.directory),
            port=PORT,
            user=user,
            password=self.passwords[user],
            dbname=dbname or self.database.name,
        )

    def connect(self, user: str = "") -> psycopg.Connection:
        """A connection of a client's through it; its statements are not prepared, as transaction pooling asks."""
        return psycopg.connect(self.conninfo(user or self.other), autocommit=True, prepare_threshold=None)

    def service(self, file: Path, name: str, user: str = ADMIN) -> str:
        """Name its admin console as a libpq service."""
        with file.open("a") as services:
            lines = [f"host={self.directory}", f"port={PORT}", f"user={user}", f"password={self.passwords[user]}"]
            services.write("\n".join([f"[{name}]", *lines, "dbname=pgbouncer", ""]))
        return name

    def ask(self, command: str) -> list[tuple[object, ...]]:
        """Give its console a command, as an admin at a terminal would."""
        with psycopg.connect(self.conninfo(ADMIN, "pgbouncer"), autocommit=True) as console:
            cursor = console.execute(command)  # type: ignore[call-overload]
            return cursor.fetchall() if cursor.description else []

    def is_paused(self, name: str = "") -> bool:
        """Whether it has the clients of a database wait."""
        with psycopg.connect(
            self.conninfo(ADMIN, "pgbouncer"), autocommit=True, row_factory=psycopg.rows.dict_row
        ) as console:
            rows = console.execute("SHOW DATABASES").fetchall()
        return [str(row["paused"]) for row in rows if row["name"] == (name or self.database.name)] == ["1"]

    def start(self) -> None:
        """Start it, and wait until it answers."""
        command = [*user_namespace(), str(program()), "-q", str(self.directory / "pgbouncer.ini")]
        with (self.directory / "log").open("ab") as log:
            self.process = subprocess.Popen(command, env=clean_environment(), stdout=log, stderr=log)
        deadline = time.monotonic() + STARTS_WITHIN
        while not self._answers():
            if time.monotonic() > deadline or self.process.poll() is not None:
                raise RuntimeError((self.directory / "log").read_text())
            time.sleep(0.02)

    def stop(self) -> None:
        """End it at once."""
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(STARTS_WITHIN)

    def _answers(self) -> bool:
        with socket.socket(socket.AF_UNIX) as client:
            return client.connect_ex(str(self.directory / f".s.PGSQL.{PORT}")) == 0


@contextmanager
def pgbouncer(database: Database, mode: str = "transaction", **databases: str) -> Iterator[PgBouncer]:
    """One in front of a database, started; `databases` are further entries of its list, by name."""
    server = database.server.parameters
    own = f"host={server['host']} port={server['port']} dbname={database.name}"
    passwords = {role.name: role.password for role in (database.application, database.runbook)}
    other = f"client_of_{database.name}"
    passwords |= {name: random_password() for name in (ADMIN, STATS, other)}
    with database.server.connect() as superuser:
        superuser.execute(sql.SQL("DROP ROLE IF EXISTS {}").format(sql.Identifier(other)))
        made = sql.SQL("CREATE ROLE {} LOGIN PASSWORD {} IN ROLE {}")
        names = sql.Identifier(other), sql.Literal(passwords[other]), sql.Identifier(database.application.name)
        superuser.execute(made.format(*names))
    with tempfile.TemporaryDirectory(prefix="pgb-") as place:
        directory = Path(place)
        (directory / "users").write_text("".join(f'"{name}" "{password}"\n' for name, password in passwords.items()))
        listed = "\n".join(f"{name} = {value}" for name, value in {database.name: own, **databases}.items())
        (directory / "pgbouncer.ini").write_text(
            CONFIG.format(databases=listed, port=PORT, directory=directory, admin=ADMIN, stats=STATS, mode=mode)
        )
        bouncer = PgBouncer(database, directory, passwords, other)
        bouncer.start()
        try:
            yield bouncer
        finally:
            bouncer.stop()
            with database.server.connect() as superuser:
                superuser.execute(sql.SQL("DROP ROLE IF EXISTS {}").format(sql.Identifier(other)))
