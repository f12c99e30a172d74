"""Takes the indexes of the cleared column away while it is cleared, where nothing uses them, and makes them anew."""

from collections.abc import Sequence
from dataclasses import dataclass

from psycopg import sql

from runbook_lib.adapters.postgres.backfill import Backfill
from runbook_lib.adapters.postgres.connection import Connection, exists


@dataclass(frozen=True)
class Index:
    """An index on the cleared column: its name and definition, and whether it is whole."""

    name: str
    definition: str
    valid: bool


class Indexes:
    """The plan's indexes on the cleared column; what was dropped is kept in the target until it is there again."""

    def __init__(self, backfill: Backfill) -> None:
        self.backfill = backfill
        self.dropped = backfill.own("dropped")

    def present(self, connection: Connection) -> list[Index]:
        """The plan's indexes on the column that are there now. Read-only."""
        rows = connection.execute(
            """SELECT x.relname AS name, pg_get_indexdef(i.indexrelid) AS definition, i.indisvalid AS valid
               FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid
               JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey)
               WHERE i.indrelid = %s::regclass AND a.attname = %s AND x.relname = ANY (%s)
                 AND NOT i.indisunique AND NOT i.indisreplident ORDER BY 1""",
            [
                self.backfill.table.as_string(connection),
                self.backfill.database.backfill.column,
                self.backfill.database.indexes,
            ],
        )
        return [Index(**row) for row in rows]

    def missing(self, connection: Connection) -> dict[str, str]:
        """The indexes that this run dropped and that are not there, or not whole: name -> definition. Read-only."""
        if not exists(connection, self.dropped):
            return {}
        rows = connection.execute(sql.SQL("SELECT name, definition FROM {}").format(self.dropped)).fetchall()
        whole = {index.name for index in self.present(connection) if index.valid}
        return {row["name"]: row["definition"] for row in rows if row["name"] not in whole}

    def remember(self, connection: Connection, indexes: Sequence[Index]) -> None:
        """Note how indexes are made that are about to go. Changes the runbook's own table."""
        if not indexes:
            return
        connection.execute(
            sql.SQL("CREATE TABLE IF NOT EXISTS {} (name text PRIMARY KEY, definition text NOT NULL)").format(self.dropped)
        )
        for index in indexes:
            connection.execute(
                sql.SQL("INSERT INTO {} VALUES ({}, {}) ON CONFLICT DO NOTHING").format(
                    self.dropped, sql.Literal(index.name), sql.Literal(index.definition)
                )
            )

    def drop(self, connection: Connection, remembered: Sequence[Index], *, concurrently: bool) -> None:
        """Drop indexes of which is noted how they are made. Changes the target."""
        _unhurried(connection, concurrently)
        for index in remembered:
            self._drop(connection, index.name, concurrently)

    def rebuild(self, connection: Connection, *, concurrently: bool) -> list[str]:
        """Make every index anew that was dropped and is missing; returns their names. Changes the target."""
        _unhurried(connection, concurrently)
        missing = self.missing(connection)
        half_made = {index.name for index in self.present(connection) if not index.valid}
        for name, definition in missing.items():
            if name in half_made:
                self._drop(connection, name, concurrently)
            made = definition.replace(" INDEX ", " INDEX CONCURRENTLY ", 1) if concurrently else definition
            connection.execute(made.encode())
        connection.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(self.dropped))
        return list(missing)

    def _drop(self, connection: Connection, name: str, concurrently: bool) -> None:
        connection.execute(
            sql.SQL("DROP INDEX {} {}").format(
                sql.SQL("CONCURRENTLY" if concurrently else ""), sql.Identifier(self.backfill.database.schema_, name)
            )
        )


def _unhurried(connection: Connection, concurrently: bool) -> None:
    """Let a large index take as long as it takes; done concurrently, it waits for others without their waiting for it."""
    connection.execute("SET statement_timeout = 0")
    if concurrently:
        connection.execute("SET lock_timeout = 0")
