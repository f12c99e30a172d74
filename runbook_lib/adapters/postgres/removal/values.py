"""Counts what the columns hold that no default would give again."""

from collections.abc import Mapping, Sequence

from psycopg import sql

from runbook_lib.adapters.postgres.connection import Connection, one
from runbook_lib.adapters.postgres.removal.definitions import Column
from runbook_lib.adapters.postgres.removal.names import is_constant
from runbook_lib.adapters.postgres.removal.snapshot import as_added


def counts(
    connection: Connection, table: sql.Identifier, columns: Sequence[Column], names: Mapping[str, str] | None = None
) -> dict[str, int]:
    """Column -> rows of a table whose value is neither NULL nor the column's default. Read-only.

    Args:
        connection: To the target.
        table: The plan's table, or a copy of the columns.
        columns: As they were defined.
        names: What they are called in that table, where that is another name.
    """
    if not columns:
        return {}
    parts = [_count(column, (names or {}).get(column.name, column.name)) for column in columns]
    return dict(one(connection, sql.SQL("SELECT {} FROM {} t").format(sql.SQL(", ").join(parts), table)))


def _count(column: Column, name: str) -> sql.Composed:
    value = sql.Identifier("t", name)
    condition = sql.SQL("{} IS NOT NULL").format(value)
    if is_constant(column.default):
        condition += sql.SQL(" AND {}::text IS DISTINCT FROM {}").format(value, as_added(column))
    return sql.SQL("count(*) FILTER (WHERE {}) AS {}").format(condition, sql.Identifier(column.name))
