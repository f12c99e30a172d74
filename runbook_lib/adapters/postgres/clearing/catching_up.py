"""Brings the column aside up to date with what others have written since, so that little is left for the lock."""

from __future__ import annotations

from typing import TYPE_CHECKING

from psycopg import sql

from runbook_lib.adapters.postgres.clearing.guard import Expected, transaction
from runbook_lib.adapters.postgres.connection import Connection
from runbook_lib.adapters.postgres.locks import AGAIN

if TYPE_CHECKING:
    from runbook_lib.adapters.postgres.clearing.swap import Swap

FEW = 50  # captured keys that may be left for the moment in which the table is locked
MOST = 5000  # that one transaction takes
ROUNDS = 100  # after which the application writes faster than this can follow; the limit of the lock then decides


def catch_up(swap: Swap) -> None:
    """Work captured keys off, in transactions of their own, until few are left. Changes the target.

    Raises:
        StepFailed: A transaction would have changed anything else; it was rolled back.
    """
    for _ in range(ROUNDS):
        with swap.open() as connection:
            try:
                if bring_up_to_date(connection, swap) <= FEW:
                    return
            except AGAIN:  # someone keeps a row locked: its key is taken the next time, at the latest under the table's lock
                pass


def bring_up_to_date(connection: Connection, swap: Swap) -> int:
    """Compute anew the value aside of captured rows, in one transaction; returns how many keys were taken.

    Each row counts as it was written at the latest: whoever writes it meanwhile captures it again. Changes the target.

    Raises:
        StepFailed: The transaction would have changed anything else; it was rolled back.
    """
    expected: Expected = []
    with transaction(connection, expected):
        keys = connection.execute(
            sql.SQL("""DELETE FROM {captured} WHERE ctid = ANY (ARRAY(SELECT ctid FROM {captured} LIMIT {most}))
            RETURNING key""").format(captured=swap.capture.keys, most=sql.Literal(MOST))
        ).fetchall()
        rows = connection.execute(_update(swap, [row["key"] for row in keys])).rowcount if keys else 0
        if rows:
            swap.records.write(connection, rows)
        expected += [
            (swap.capture.keys, (0, 0, len(keys))),
            (swap.backfill.table, (0, rows, 0)),
            (swap.records.writes, (min(rows, 1), 0, 0)),
        ]
    return len(keys)


def _update(swap: Swap, keys: list[object]) -> sql.Composed:
    backfill = swap.backfill
    return backfill.filled(
        sql.SQL("""UPDATE {table} t SET {aside} = {value} WHERE t.{key} = ANY ({keys})
          AND t.{aside} IS DISTINCT FROM ({value})"""),
        aside=sql.Identifier(swap.column.aside),
        value=backfill.value,
        keys=sql.Literal(keys),
    )
