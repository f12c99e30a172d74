"""Brings one column up to date with what others have written since, so that little is left for the lock."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from psycopg import sql

from runbook_lib.adapters.postgres.clearing.guard import Expected, block, transaction
from runbook_lib.adapters.postgres.connection import Connection, one
from runbook_lib.adapters.postgres.locks import AGAIN, Open

if TYPE_CHECKING:
    from runbook_lib.adapters.postgres.clearing.swap import Swap

FEW = 50  # captured keys that may be left for the moment in which the table is locked
MOST = 5000  # that one transaction takes
ROUNDS = 100  # after which the application writes faster than this can follow; the limit of the lock then decides


def catch_up(open_: Open, take_some: Callable[[Connection], int]) -> None:
    """Work captured keys off, in transactions of their own, until few are left. Changes the target.

    Args:
        open_: Opens a connection to the target.
        take_some: Takes some of them in one transaction, and returns how many.
    """
    for _ in range(ROUNDS):
        with open_() as connection:
            try:
                if take_some(connection) <= FEW:
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
        it = one(connection, _brought_up_to_date(swap, MOST))
        expected += [
            (swap.capture.keys, (0, 0, it["keys"])),
            (swap.backfill.table, (0, it["rows"], 0)),
            (swap.records.writes, (min(it["rows"], 1), 0, 0)),
        ]
    return int(it["keys"])


def bring_up_to_date_wholly(connection: Connection, swap: Swap) -> None:
    """Compute anew the value aside of all captured rows, in a block of the server's, which `guard.told` tells of.

    In the caller's transaction, under the table's lock. Changes the target.
    """
    none, keys, rows = sql.SQL("0"), sql.SQL("it.keys"), sql.SQL("it.rows")
    expected = [
        (swap.capture.keys, (none, none, keys)),
        (swap.backfill.table, (none, rows, none)),
        (swap.records.writes, (sql.SQL("least(it.rows, 1)"), none, none)),
    ]
    connection.execute(block(_brought_up_to_date(swap, None), expected))


def _brought_up_to_date(swap: Swap, most: int | None) -> sql.Composed:
    backfill = swap.backfill
    return backfill.filled(
        sql.SQL("""WITH taken AS ({taken}), changed AS (
            UPDATE {table} t SET {aside} = {value} WHERE t.{key} = ANY (ARRAY (SELECT key FROM taken))
              AND t.{aside} IS DISTINCT FROM ({value}) RETURNING TRUE
        ), noted AS (
            INSERT INTO {writes} SELECT pg_current_xact_id()::xid, count(*) FROM changed HAVING count(*) > 0
        )
        SELECT (SELECT count(*) FROM taken) AS keys, (SELECT count(*) FROM changed) AS rows"""),
        taken=swap.capture.taken(most),
        aside=sql.Identifier(swap.column.aside),
        value=backfill.value,
        writes=swap.records.writes,
    )
