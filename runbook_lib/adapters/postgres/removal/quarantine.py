"""Sets columns aside by renaming them, and takes them back: catalog only, whatever the size of the table."""

from psycopg import sql

from runbook_lib.adapters.postgres.connection import Connection
from runbook_lib.adapters.postgres.removal.definitions import Definitions, identifier
from runbook_lib.adapters.postgres.removal.mending import Mending
from runbook_lib.plan import Database


class Quarantine:
    """The columns of one run's definitions under their own names or set aside; `asides` is column -> other name."""

    def __init__(self, database: Database, run: str, definitions: Definitions, asides: dict[str, str]) -> None:
        self.table = identifier(database)
        self.definitions = definitions
        self.asides = asides
        self.mending = Mending(database, run, definitions)

    def set_aside(self, connection: Connection) -> None:
        """Rename the columns, and drop what would refuse rows that leave them out; defaults and keys stay.

        In the caller's transaction, under its lock. Changes the target.
        """
        parts = [
            sql.SQL("ALTER COLUMN {} DROP NOT NULL").format(sql.Identifier(column.name))
            for column in self.definitions.columns
            if column.not_null
        ]
        parts += [
            sql.SQL("DROP CONSTRAINT {}").format(sql.Identifier(c.name))
            for c in self.definitions.constraints
            if c.kind == "c"
        ]
        if parts:
            connection.execute(sql.SQL("ALTER TABLE {} {}").format(self.table, sql.SQL(", ").join(parts)))
        for name, other in self.asides.items():
            self._rename(connection, name, other)

    def take_back(self, connection: Connection) -> None:
        """Rename the columns back, and add what was dropped, for new rows only.

        In the caller's transaction, under its lock. Changes the target.
        """
        for name, other in self.asides.items():
            self._rename(connection, other, name)
        self.mending.add(connection, nullable=self.definitions.names)

    def _rename(self, connection: Connection, old: str, new: str) -> None:
        connection.execute(
            sql.SQL("ALTER TABLE {} RENAME COLUMN {} TO {}").format(self.table, sql.Identifier(old), sql.Identifier(new))
        )
