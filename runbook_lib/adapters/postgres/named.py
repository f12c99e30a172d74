"""Rows that a line names: how many there are, and the keys of the first."""

from collections.abc import Sequence
from dataclasses import dataclass

from psycopg import sql

from runbook_lib.adapters.postgres.connection import Connection

SHOWN = 20


@dataclass(frozen=True)
class Named:
    """Rows of a table; `keys` are the first of theirs, as text, in order."""

    count: int
    keys: Sequence[str]

    def __bool__(self) -> bool:
        return self.count > 0

    def __str__(self) -> str:
        more = self.count - len(self.keys)
        return ", ".join(self.keys) + (f" and {more} more" if more else "")


def named(connection: Connection, query: sql.Composable) -> Named:
    """The rows that a query finds, which gives the `key` of each. Read-only."""
    first = sql.SQL("SELECT r.key::text AS key, count(*) OVER () AS n FROM ({}) r ORDER BY r.key LIMIT {}")
    rows = connection.execute(first.format(query, sql.Literal(SHOWN))).fetchall()
    return Named(rows[0]["n"] if rows else 0, [row["key"] for row in rows])
