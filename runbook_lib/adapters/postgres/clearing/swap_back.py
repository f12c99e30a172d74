"""Takes a swap back: what was written since goes into the old column first, then that is put in its place again."""

from collections.abc import Callable
from typing import Any

from psycopg import sql

from runbook_lib.adapters.postgres.brevity import EXCHANGING
from runbook_lib.adapters.postgres.clearing.swap import Stage, Swap
from runbook_lib.adapters.postgres.connection import Connection
from runbook_lib.adapters.postgres.locks import briefly


def swap_back(swap: Swap) -> tuple[int, list[Any]]:
    """Undo a swap, half made or whole; a value that someone has written since stays. Changes the target.

    Returns how many rows have their old value again, and the keys of those that were written since, which a table keeps.

    Raises:
        PreconditionError: A lock was not to be had in time.
    """
    with swap.open() as connection:
        stage = swap.stage(connection)
        restored = swap.backfill.over(swap.column.old).count(connection) if stage is Stage.EXCHANGED else 0
    if stage is Stage.ASIDE:
        _briefly(swap, lambda connection: _drop_aside(swap, connection), _taken_back)
    written: list[Any] = []
    if stage is Stage.EXCHANGED:
        written = _merged_and_exchanged(swap)
    with swap.open() as connection:
        swap.records.drop(connection)
    return restored - len(written), written


def _drop_aside(swap: Swap, connection: Connection) -> None:
    swap.column.lock(connection)
    swap.capture.end(connection)
    swap.column.drop(connection, swap.column.aside)


def _merged_and_exchanged(swap: Swap) -> list[Any]:
    conflicts = swap.backfill.own("conflicts")
    with swap.open() as connection:
        swap.capture.prepare(connection)
        connection.execute(
            sql.SQL("CREATE TABLE IF NOT EXISTS {} AS SELECT t.{} AS key FROM {} t WITH NO DATA").format(
                conflicts, swap.backfill.key, swap.backfill.table
            )
        )

    def begin(connection: Connection) -> None:
        swap.column.lock(connection)
        swap.capture.begin(connection, [swap.column.name])

    def end(connection: Connection) -> None:
        swap.column.lock(connection)
        _merge(
            swap, connection, conflicts, sql.SQL("t.{} IN (SELECT key FROM {})").format(swap.backfill.key, swap.capture.keys)
        )
        swap.capture.end(connection)
        swap.column.exchange_back(connection)

    _briefly(swap, begin, lambda swap, connection: swap.capture.begun(connection))
    with swap.open() as connection:
        _merge(swap, connection, conflicts, sql.SQL("TRUE"))
    _briefly(swap, end, _taken_back)
    with swap.open() as connection:
        rows = connection.execute(sql.SQL("SELECT DISTINCT key FROM {} ORDER BY key").format(conflicts)).fetchall()
        if not rows:
            connection.execute(sql.SQL("DROP TABLE {}").format(conflicts))
    return [row["key"] for row in rows]


def _briefly(swap: Swap, work: Callable[[Connection], None], came_about: Callable[[Swap, Connection], bool]) -> None:
    def done(connection: Connection) -> bool:
        work(connection)
        return True

    def recorded(connection: Connection) -> bool | None:
        return came_about(swap, connection) or None

    briefly(swap.open, done, swap.waiting, brevity=EXCHANGING.unlimited(), recorded=recorded)


def _taken_back(swap: Swap, connection: Connection) -> bool:
    return swap.stage(connection) is Stage.NOTHING


def _merge(swap: Swap, connection: Connection, conflicts: sql.Identifier, among: sql.Composable) -> None:
    """Copy into the old column the values that no clearing of it gives: someone has written them since."""
    old = swap.backfill.over(swap.column.old)
    connection.execute(
        sql.SQL("""WITH written AS (
            UPDATE {table} t SET {old} = t.{column} WHERE {among} AND t.{column} IS DISTINCT FROM ({value})
            RETURNING t.{key} AS key)
        INSERT INTO {conflicts} SELECT key FROM written""").format(
            table=swap.backfill.table,
            old=old.column,
            column=swap.backfill.column,
            among=among,
            value=old.value,
            key=swap.backfill.key,
            conflicts=conflicts,
        )
    )
