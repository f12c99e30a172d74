"""A copy of the files of runs' folders beside that of their journals: what another machine needs to go on with a run.

Each is kept with its hash, so that to see what has changed no file is read in the target again.
"""

import hashlib
from collections.abc import Mapping

from psycopg import sql

from runbook_lib.adapters.postgres.catalog import OWN_SCHEMA, make_own_schema
from runbook_lib.adapters.postgres.connection import Connection, exists

TABLE = sql.Identifier(OWN_SCHEMA, "journal_file")


def kept(connection: Connection, run: str) -> dict[str, str]:
    """The files of a run that are there: name -> SHA-256. Read-only."""
    if not exists(connection, TABLE):
        return {}
    query = sql.SQL("SELECT name, sha256 FROM {} WHERE run = %s").format(TABLE)
    return {row["name"]: row["sha256"] for row in connection.execute(query, [run])}


def keep(connection: Connection, run: str, files: Mapping[str, bytes]) -> None:
    """Add files of a run, name -> content, each in the place of an earlier one. Changes the runbook's own table only."""
    with connection.transaction():
        make_own_schema(connection)
        connection.execute(
            sql.SQL("""CREATE TABLE IF NOT EXISTS {} (
                run text NOT NULL, name text NOT NULL, sha256 text NOT NULL,
                content bytea NOT NULL, PRIMARY KEY (run, name))""").format(TABLE)
        )
        for name, content in files.items():
            connection.execute(
                sql.SQL("""INSERT INTO {} (run, name, sha256, content) VALUES (%s, %s, %s, %s)
                ON CONFLICT (run, name) DO UPDATE SET sha256 = excluded.sha256, content = excluded.content""").format(TABLE),
                [run, name, hashlib.sha256(content).hexdigest(), content],
            )


def received(connection: Connection, run: str) -> dict[str, bytes]:
    """The files of a run: name -> content. Read-only."""
    if not exists(connection, TABLE):
        return {}
    query = sql.SQL("SELECT name, content FROM {} WHERE run = %s ORDER BY name").format(TABLE)
    return {row["name"]: bytes(row["content"]) for row in connection.execute(query, [run])}
