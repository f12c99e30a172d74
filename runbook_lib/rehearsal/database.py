"""The database of a rehearsal and the roles that use it."""

import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote, urlencode

import psycopg
from psycopg import sql

from runbook_lib.rehearsal import stack_file
from runbook_lib.rehearsal.postgres import Server, binaries, clean_environment, random_password, verifier
from runbook_lib.rehearsal.stack_file import BackedUp, Commanded, Executed, Loaded, Migrated, StackFile
from runbook_lib.rehearsal.workspace import StackError

DATABASE = "social_selling"
APPLICATION = "social_selling_user"
RUNBOOK = "runbook"


@dataclass(frozen=True)
class Role:
    """A role that can log in."""

    name: str
    password: str = field(repr=False)


@dataclass(frozen=True)
class Database:
    """A database of the sample application: the application's role owns it, the runbook's role works on it."""

    server: Server
    name: str
    application: Role
    runbook: Role

    def parameters(self, role: Role | None = None) -> dict[str, str]:
        """Return the connection parameters of a role, of the superuser when none is given. Read-only."""
        login = {"user": role.name, "password": role.password} if role else {}
        return {**self.server.parameters, "dbname": self.name, **login}

    def conninfo(self, role: Role | None = None) -> str:
        """Return the libpq settings of a role, of the superuser when none is given. Read-only."""
        return self.server.conninfo(**self.parameters(role))

    def url(self) -> str:
        """Return the URL by which the application connects. Read-only."""
        parameters = self.parameters(self.application)
        login = f"{quote(parameters.pop('user'), safe='')}:{quote(parameters.pop('password'), safe='')}"
        return f"postgresql://{login}@/{parameters.pop('dbname')}?{urlencode(parameters)}"

    def create(self) -> None:
        """Create the roles, and the database owned by the application's. Changes the server."""
        owner, operator = sql.Identifier(self.application.name), sql.Identifier(self.runbook.name)
        with self.server.connect() as connection:
            for role in (self.application, self.runbook):
                login, password = sql.Identifier(role.name), sql.Literal(verifier(role.password))
                connection.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(login, password))
            connection.execute(
                sql.SQL("ALTER ROLE {} CREATEDB").format(operator)
            )  # for the restore, and to rename databases
            connection.execute(
                sql.SQL("GRANT {}, pg_monitor, pg_signal_backend, pg_read_all_data TO {}").format(owner, operator)
            )
            connection.execute(
                sql.SQL("CREATE DATABASE {} OWNER {} STRATEGY file_copy").format(sql.Identifier(self.name), owner)
            )
            self.let_runbook_create(connection)

    def clone(self, name: str) -> "Database":
        """Copy this database, which nobody may be using, under another name. Changes the server."""
        copy = Database(self.server, name, self.application, self.runbook)
        with self.server.connect() as connection:
            connection.execute(
                sql.SQL("CREATE DATABASE {} OWNER {} TEMPLATE {} STRATEGY file_copy").format(
                    sql.Identifier(name), sql.Identifier(self.application.name), sql.Identifier(self.name)
                )
            )
            copy.let_runbook_create(connection)
        return copy

    def drop(self) -> None:
        """Drop this database and end its connections. Changes the server."""
        with self.server.connect() as connection:
            connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(self.name)))

    def let_runbook_create(self, connection: psycopg.Connection) -> None:
        """Grant the runbook's role what it may do on this database beyond its memberships. Changes the server."""
        connection.execute(
            sql.SQL("GRANT CREATE ON DATABASE {} TO {}").format(sql.Identifier(self.name), sql.Identifier(self.runbook.name))
        )

    def drop_all(self) -> None:
        """Drop every database of both roles, whatever its name has become, and the roles. Changes the server."""
        roles = [self.runbook.name, self.application.name]
        with self.server.connect() as connection:
            owned = connection.execute("SELECT datname FROM pg_database WHERE pg_get_userbyid(datdba) = ANY (%s)", [roles])
            for (name,) in owned.fetchall():
                connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
            for role in roles:
                connection.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(role)))


def named_database(server: Server, suffix: str = "") -> Database:
    """Name a database and its roles, with random passwords; `create` makes them. Pure."""
    application = Role(APPLICATION + suffix, random_password())
    return Database(server, DATABASE + suffix, application, Role(RUNBOOK + suffix, random_password()))


def create_empty_database(server: Server, suffix: str = "") -> Database:
    """Create the roles with random passwords, and the database owned by the application's. Changes the server."""
    database = named_database(server, suffix)
    database.create()
    return database


def create_database(server: Server, rows: int = 20_000, backups: Path | None = None) -> Database:
    """Create the sample database and its roles, filled as by `fill`. Changes the server.

    Raises StackError when the dump fails.
    """
    database = create_empty_database(server)
    fill(stack_file.named("sample"), database, rows, backups)
    return database


def fill(
    described: StackFile,
    database: Database,
    rows: int,
    backups: Path | None = None,
    command: Callable[[Commanded, str], None] | None = None,
) -> None:
    """Take an empty database through what happened to it, giving the same rows every time. Changes the database.

    Args:
        described: The stack, which says what happened.
        database: The empty database.
        rows: How many rows the sample's scripts make.
        backups: Where backups go; none is made where it is None.
        command: Executes a command of the stack.

    Raises StackError when a part of it fails.
    """
    with psycopg.connect(database.conninfo(database.application), autocommit=True) as connection:
        connection.execute("SELECT set_config('rehearsal.rows', %s, false)", [str(rows)])
        if described.database.history_table:
            make_history(described, connection)
        for number, event in enumerate(described.database.fill):
            match event:
                case Migrated():
                    migrate(described, connection, *event.migrate)
                case Executed():
                    execute(described, connection, event)
                case BackedUp() if backups:
                    dump(database, backups, event.backup)
                case Loaded():
                    _load(database, described.folder / event.dump, described.line("database", "fill", number, "dump"))
                case Commanded() if command:
                    command(event, described.line("database", "fill", number, "run"))


def execute(described: StackFile, connection: psycopg.Connection, script: Executed) -> None:
    """Execute a script of the stack. Changes the database. Raises StackError when the server refuses it."""
    path = described.source(script.sql)
    try:
        _run(connection, path)
    except psycopg.Error as error:
        raise StackError(
            f"{path} failed: {str(error).strip()}",
            where=str(path),
            state="the stack is being brought down",
            safe_next="correct the script and start again",
        ) from error


def spoil(described: StackFile, database: Database, fault: str) -> None:
    """Damage the data as a fault does. Changes the database."""
    with psycopg.connect(database.conninfo(database.application), autocommit=True) as connection:
        execute(described, connection, Executed(sql=f"faults/{fault}.sql"))


def _load(database: Database, file: Path, where: str) -> None:
    """Load a dump, or a script of psql, as the application's role, without owners and rights. Changes the database."""
    with file.open("rb") as data:
        is_dump = data.read(5) == b"PGDMP"
    options = ("--no-owner", "--no-privileges", "--exit-on-error", str(file))
    script = ("--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", f"--file={file}")
    if said := client(database, *(("pg_restore", *options) if is_dump else ("psql", *script))):
        raise StackError(
            f"{file} cannot be loaded: {said}",
            where=where,
            state="the stack is being brought down",
            safe_next="dump it with --no-owner and --no-privileges, and start again",
        )


def client(database: Database, program: str, *options: str) -> str:
    """Run a client of PostgreSQL as the application: what it complains of, "" where it succeeds."""
    parameters = database.parameters(database.application)
    environment = {**clean_environment(), "PGCLIENTENCODING": "UTF8", "PGPASSWORD": parameters.pop("password")}
    command = [str((database.server.tools or binaries()) / program), *options]
    command.append(f"--dbname={psycopg.conninfo.make_conninfo('', **parameters)}")
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    return done.stderr.strip() or f"{program} ended with {done.returncode}" if done.returncode else ""


def make_history(described: StackFile, connection: psycopg.Connection) -> None:
    """Make the table in which the backend records its migrations. Changes the database."""
    _run(connection, described.source(described.database.history_table))


def migrate(described: StackFile, connection: psycopg.Connection, *versions: str) -> None:
    """Apply migrations of the backend and record them, as the backend does on boot. Changes the database."""
    for version in versions:
        (path,) = described.source(described.database.migrations).glob(f"{version}_*.sql")
        with connection.transaction():
            _run(connection, path)
            connection.execute(
                "INSERT INTO schema_migrations (version, name) VALUES (%s, %s)",
                [version, path.stem.partition("_")[2]],
            )


def dump(database: Database, backups: Path, beginning: str = "backup_before_attachments_backfill") -> Path:
    """Write the backup that is taken before the backfill. Read-only. Raises StackError when pg_dump fails."""
    path = backups / f"{beginning}_{datetime.now(UTC):%Y%m%d_%H%M%S}.dump"
    if said := client(database, "pg_dump", "--format=custom", "--compress=1", f"--file={path}"):
        raise StackError(
            f"pg_dump failed: {said}",
            where=str(path),
            state="the database of the stack is incomplete",
            safe_next="correct what pg_dump names and start again",
        )
    return path


def _run(connection: psycopg.Connection, path: Path) -> None:
    connection.execute(path.read_bytes())
