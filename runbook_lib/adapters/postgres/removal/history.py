"""The row of a migration in the history of migrations, which goes and comes back with what the migration made."""

from psycopg import sql

from runbook_lib.adapters.postgres.connection import Connection, one
from runbook_lib.plan import Database


class History:
    """The rows of the plan's migration in the table that says which migrations were made."""

    def __init__(self, database: Database) -> None:
        migration = database.migration
        self.table = sql.Identifier(database.schema_, migration.history_table)
        self.mine = sql.SQL("h.{} = {}").format(sql.Identifier(migration.history_column), sql.Literal(migration.version))

    def rows(self, connection: Connection) -> int:
        """How many there are. Read-only."""
        query = sql.SQL("SELECT count(*) AS n FROM {} h WHERE {}").format(self.table, self.mine)
        return int(one(connection, query)["n"])

    def whole(self, connection: Connection) -> list[str]:
        """Each whole, as JSON, as `take` would give it. Read-only."""
        query = sql.SQL("SELECT to_json(h)::text AS row FROM {} h WHERE {}").format(self.table, self.mine)
        return [row["row"] for row in connection.execute(query)]

    def take(self, connection: Connection) -> list[str]:
        """Delete them, and return each whole, as JSON. Changes the target."""
        rows = self.whole(connection)
        connection.execute(sql.SQL("DELETE FROM {} h WHERE {}").format(self.table, self.mine))
        return rows

    def put_back(self, connection: Connection, rows: list[str]) -> None:
        """Insert rows that `take` gave, unless they are there again. Changes the target."""
        if self.rows(connection) or not rows:
            return
        columns = connection.execute(
            """SELECT attname AS name FROM pg_attribute
               WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped AND attgenerated = '' ORDER BY attnum""",
            [self.table.as_string(connection)],
        )
        names = sql.SQL(", ").join(sql.Identifier(row["name"]) for row in columns)
        connection.execute(
            sql.SQL("""INSERT INTO {table} ({names}) OVERRIDING SYSTEM VALUE
            SELECT {names} FROM unnest({rows}::text[]) AS taken, json_populate_record(NULL::{table}, taken::json)""").format(
                table=self.table, names=names, rows=sql.Literal(rows)
            )
        )
