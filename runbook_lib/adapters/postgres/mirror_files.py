"""A copy of the files of runs' folders beside that of their journals: what another machine needs to go on with a run."""

from collections.abc import Mapping

from psycopg import sql

from runbook_lib.adapters.postgres.catalog import OWN_SCHEMA, make_own_schema
from runbook_lib.adapters.postgres.connection import Connection, exists

TABLE = sql.Identifier(OWN_SCHEMA, "journal_file")


def kept(connection: Connection, run: str) -> dict[str, str]:
    """The files of a run that are there: name -> SHA-256. Read-only."""
    if not exists(connection, TABLE):
        return {}
    query = sql.SQL("SELECT name, encode(sha256(content), 'hex') AS hash FROM {} WHERE run = %s").format(TABLE)
    return {row["name"]: row["hash"] for row in connection.execute(query, [run])}


def keep(connection: Connection, run: str, files: Mapping[str, bytes]) -> None:
    """Add files of a run, each in the place of an earlier one of its name. Changes the runbook's own table only."""
    with connection.transaction():
        make_own_schema(connection)
        connection.execute(
            sql.SQL("""CREATE TABLE IF NOT EXISTS {} (
                run text NOT NULL, name text NOT NULL, content bytea NOT NULL, PRIMARY KEY (run, name))""").format(TABLE)
        )
        for name, content in files.items():
            connection.execute(
                sql.SQL("""INSERT INTO {} (run, name, content) VALUES (%s, %s, %s)
                ON CONFLICT (run, name) DO UPDATE SET content = excluded.content""").format(TABLE),
                [run, name, content],
            )


def received(connection: Connection, run: str) -> dict[str, bytes]:
    """The files of a run: name -> content. Read-only."""
    if not exists(connection, TABLE):
        return {}
    query = sql.SQL("SELECT name, content FROM {} WHERE run = %s ORDER BY name").format(TABLE)
    return {row["name"]: bytes(row["content"]) for row in connection.execute(query, [run])}
