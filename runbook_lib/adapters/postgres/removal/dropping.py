"""Drops columns with their constraints and indexes in one ALTER, and adds them again."""

from psycopg import sql

from runbook_lib.adapters.postgres.connection import Connection
from runbook_lib.adapters.postgres.removal.definitions import Column, Definitions, identifier
from runbook_lib.adapters.postgres.removal.names import is_constant
from runbook_lib.plan import Database


class Dropping:
    """The columns of some definitions, there or dropped."""

    def __init__(self, database: Database, definitions: Definitions) -> None:
        self.database = database
        self.table = identifier(database)
        self.definitions = definitions

    def drop(self, connection: Connection, columns: list[str]) -> None:
        """Drop the columns, under the names they have now, and the plan's constraints and indexes; never by CASCADE.

        In the caller's transaction, under its lock. Changes the target.
        """
        table = self.table.as_string(connection)
        there = connection.execute(
            "SELECT conname AS name FROM pg_constraint WHERE conrelid = %s::regclass", [table]
        ).fetchall()
        named = {row["name"] for row in there} & set(self.database.constraints)
        parts = [sql.SQL("DROP CONSTRAINT {}").format(sql.Identifier(name)) for name in sorted(named)]
        parts += [sql.SQL("DROP COLUMN {}").format(sql.Identifier(name)) for name in columns]
        connection.execute(sql.SQL("ALTER TABLE {} {}").format(self.table, sql.SQL(", ").join(parts)))
        drop = sql.SQL(_DROP_INDEXES).format(
            table=sql.Literal(table), names=sql.Literal(self.database.indexes), schema=sql.Literal(self.database.schema_)
        )
        connection.execute(sql.SQL("DO {}").format(sql.Literal(drop.as_string(connection))))

    def add(self, connection: Connection) -> None:
        """Add the columns again, in the catalog alone, in the caller's transaction, under its lock.

        Rows get the defaults that are constant; of the others new rows alone do. Changes the target.
        """
        parts = [_added(column) for column in self.definitions.columns]
        parts += [part for column in self.definitions.columns for part in _set(column)]
        connection.execute(sql.SQL("ALTER TABLE {} {}").format(self.table, sql.SQL(", ").join(parts)))
        for column in self.definitions.columns:
            if column.comment:
                name = sql.Identifier(self.database.schema_, self.database.table, column.name)
                connection.execute(sql.SQL("COMMENT ON COLUMN {} IS {}").format(name, sql.Literal(column.comment)))


_DROP_INDEXES = """
DECLARE its_name name;
BEGIN
    FOR its_name IN SELECT x.relname FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid
                WHERE i.indrelid = {table}::regclass AND x.relname = ANY ({names}) LOOP
        EXECUTE format('DROP INDEX %I.%I', {schema}, its_name);
    END LOOP;
END"""


def _added(column: Column) -> sql.Composed:
    collation = f" COLLATE {column.collation}" if column.collation else ""
    default = f" DEFAULT {column.default}" if column.default and is_constant(column.default) else ""
    return sql.SQL("ADD COLUMN {} {}").format(sql.Identifier(column.name), sql.SQL(f"{column.type}{collation}{default}"))


def _set(column: Column) -> list[sql.Composed]:
    """What else makes the column as it was, as parts of an ALTER TABLE."""
    changes = []
    if not is_constant(column.default):
        changes.append(f"SET DEFAULT {column.default}")
    if column.storage:
        changes.append(f"SET STORAGE {column.storage}")
    if column.compression:
        changes.append(f"SET COMPRESSION {column.compression}")
    if column.statistics is not None:
        changes.append(f"SET STATISTICS {column.statistics}")
    if column.options:
        changes.append(f"SET ({', '.join(column.options)})")
    return [sql.SQL("ALTER COLUMN {} {}").format(sql.Identifier(column.name), sql.SQL(change)) for change in changes]
