"""Roles as servers that somebody else manages give them: no superuser, no file system, no rights on others' things."""

from typing import LiteralString

from psycopg import sql

from runbook_lib.rehearsal.database import Database

# What a master role has there: it makes databases and roles, and belongs to the role that owns the database.
MASTER: tuple[LiteralString, ...] = (
    "ALTER ROLE {us} NOSUPERUSER NOREPLICATION NOBYPASSRLS CREATEDB CREATEROLE",
    "REVOKE pg_read_all_data, pg_read_server_files, pg_write_server_files, pg_execute_server_program FROM {us}",
    "REVOKE ALL ON DATABASE {db} FROM {us}",
)
# Without the memberships that some of them give besides.
BARE: tuple[LiteralString, ...] = (*MASTER, "REVOKE pg_monitor, pg_signal_backend FROM {us}")


def as_managed(database: Database, statements: tuple[LiteralString, ...]) -> None:
    """Have the runbook's role be one of a managed server. Changes the role."""
    names = {"us": database.runbook.name, "app": database.application.name, "db": database.name}
    with database.server.connect(dbname=database.name) as superuser:
        for statement in statements:
            superuser.execute(sql.SQL(statement).format(**{key: sql.Identifier(name) for key, name in names.items()}))
