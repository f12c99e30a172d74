"""Clears few rows: by key, in key order, with all indexes kept."""

from collections.abc import Callable, Iterator

from psycopg import sql

from runbook_lib.adapters.postgres.backfill import Backfill
from runbook_lib.adapters.postgres.clearing.batch import clear
from runbook_lib.adapters.postgres.connection import Connection

ROWS = 2000  # a transaction


def clear_by_key(connection: Connection, backfill: Backfill, pace: Callable[[int], object], rows: int = ROWS) -> None:
    """Clear every affected row, `rows` a transaction. Changes the target.

    Args:
        connection: In autocommit mode.
        backfill: What to clear.
        pace: Called before each transaction with the number of rows that the one before cleared; it may wait, or raise.
        rows: How many rows a transaction may change.

    Raises:
        StepFailed: A transaction would have changed anything else; it was rolled back.
    """
    cleared = 0
    for keys in _keys(connection, backfill, rows):
        pace(cleared)
        cleared = clear(connection, backfill, sql.SQL("t.{} = ANY ({})").format(backfill.key, sql.Literal(keys)))
    pace(cleared)


def _keys(connection: Connection, backfill: Backfill, rows: int) -> Iterator[list[object]]:
    after: sql.Composable = sql.SQL("TRUE")
    while True:
        query = backfill.filled(
            sql.SQL("SELECT t.{key} AS key FROM {table} t WHERE {after} AND {affected} ORDER BY t.{key} LIMIT {rows}"),
            after=after,
            rows=sql.Literal(rows),
        )
        keys = [row["key"] for row in connection.execute(query)]
        if not keys:
            return
        yield keys
        after = sql.SQL("t.{} > {}").format(backfill.key, sql.Literal(keys[-1]))
