"""Records of rehearsals in the runbook's own schema of the target; rows are only ever added."""

from psycopg import sql

from runbook_lib.postgres import Connection
from runbook_lib.postgres.catalog import OWN_SCHEMA, make_own_schema
from runbook_lib.postgres.connection import exists

TABLE = sql.Identifier(OWN_SCHEMA, "rehearsal")


def keep(connection: Connection, name: str, text: str) -> None:
    """Add a record; an existing one of that name is kept. Changes the runbook's own table only."""
    with connection.transaction():
        if not exists(connection, TABLE):
            make_own_schema(connection)
            connection.execute(
                sql.SQL("CREATE TABLE IF NOT EXISTS {} (name text PRIMARY KEY, record text NOT NULL)").format(TABLE)
            )
        connection.execute(sql.SQL("INSERT INTO {} VALUES (%s, %s) ON CONFLICT DO NOTHING").format(TABLE), [name, text])


def kept(connection: Connection) -> dict[str, str]:
    """Map each record's name to its text. Read-only."""
    if not exists(connection, TABLE):
        return {}
    return {row["name"]: row["record"] for row in connection.execute(sql.SQL("SELECT name, record FROM {}").format(TABLE))}
