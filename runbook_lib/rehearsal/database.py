"""The database of a rehearsal and the roles that use it."""

from dataclasses import dataclass, field

import psycopg
from psycopg import sql

from runbook_lib.rehearsal.passwords import random_password, verifier
from runbook_lib.rehearsal.server import Server

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
        """Grant the runbook's role what it may do on this database besides its memberships. Changes the server."""
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


def create_empty_database(server: Server, suffix: str = "") -> Database:
    """Create the roles with random passwords, and the database owned by the application's. Changes the server."""
    application = Role(APPLICATION + suffix, random_password())
    runbook = Role(RUNBOOK + suffix, random_password())
    database = Database(server, DATABASE + suffix, application, runbook)
    name = sql.Identifier(database.name)
    owner, operator = sql.Identifier(application.name), sql.Identifier(runbook.name)
    with server.connect() as connection:
        for role in (application, runbook):
            login, password = sql.Identifier(role.name), sql.Literal(verifier(role.password))
            connection.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(login, password))
        connection.execute(sql.SQL("ALTER ROLE {} CREATEDB").format(operator))  # for the restore, and to rename databases
        connection.execute(
            sql.SQL("GRANT {}, pg_monitor, pg_signal_backend, pg_read_all_data TO {}").format(owner, operator)
        )
        connection.execute(sql.SQL("CREATE DATABASE {} OWNER {} STRATEGY file_copy").format(name, owner))
        database.let_runbook_create(connection)
    return database
