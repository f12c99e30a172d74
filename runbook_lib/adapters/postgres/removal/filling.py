"""Gives rows that came after columns were dropped what the columns' defaults give them, once the columns are back.

It is done in short transactions, since to add a column with a default that is not constant writes the whole table while that
is locked. Rows that have former values in the copy are left out, so it is done before the first of those leaves it.
"""

from psycopg import sql

from runbook_lib.adapters.postgres.clearing.crew import within
from runbook_lib.adapters.postgres.connection import Connection
from runbook_lib.adapters.postgres.removal.definitions import Column, Definitions, identifier
from runbook_lib.adapters.postgres.removal.names import is_constant
from runbook_lib.adapters.postgres.removal.snapshot import Snapshot
from runbook_lib.plan import Database

BLOCKS = 1024  # of the table, looked through in a transaction: 8 MB


class Filling:
    """The filling of the columns of one run's definitions, added without those defaults."""

    def __init__(self, database: Database, run: str, definitions: Definitions) -> None:
        self.table = identifier(database)
        self.key = sql.Identifier(database.key)
        self.snapshot = Snapshot(database, run, definitions)
        self.columns = [column for column in definitions.columns if not is_constant(column.default)]

    def fill(self, connection: Connection) -> None:
        """Fill the rows block by block, each of these in a transaction of its own. Changes the target."""
        blocks = self.snapshot.blocks(connection)
        for first in range(0, blocks, BLOCKS):
            with connection.transaction():
                self._fill(connection, within("t", (first, first + BLOCKS)))

    def fill_rest(self, connection: Connection) -> None:
        """Fill the rows that others have moved meanwhile, in the caller's transaction. Changes the target."""
        self._fill(connection, sql.SQL("TRUE"))

    def _fill(self, connection: Connection, among: sql.Composable) -> None:
        for column in self.columns:
            connection.execute(self._filled(column, among))

    def _filled(self, column: Column, among: sql.Composable) -> sql.Composed:
        return sql.SQL("""UPDATE {table} t SET {column} = DEFAULT WHERE t.{column} IS NULL AND {among}
            AND NOT EXISTS (SELECT FROM {copy} s WHERE s.key = t.{key})""").format(
            table=self.table,
            column=sql.Identifier(column.name),
            among=among,
            copy=self.snapshot.copy,
            key=self.key,
        )
