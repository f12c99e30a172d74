"""Takes a swap back: what was written since goes into the old column first, then that is put in its place again."""

from collections.abc import Callable, Sequence
from typing import Any

from psycopg import sql

from runbook_lib.adapters.postgres.brevity import EXCHANGING, Brevity
from runbook_lib.adapters.postgres.clearing.catching_up import MOST, catch_up
from runbook_lib.adapters.postgres.clearing.swap import Stage, Swap
from runbook_lib.adapters.postgres.connection import Connection, one
from runbook_lib.adapters.postgres.locks import Blocker, briefly


def swap_back(swap: Swap) -> tuple[int, list[Any]]:
    """Undo a swap, half made or whole; a value that someone has written since stays. Changes the target.

    Its locks are as short as those of the swap, but for one: where the column is NOT NULL and the old one is not any more,
    which others must have done, the server reads the whole table while it is locked, however long that takes.

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
    captured = sql.SQL("t.{} = ANY (ARRAY (SELECT key FROM taken))").format(swap.backfill.key)
    with swap.open() as connection:
        swap.capture.prepare(connection)
        connection.execute(
            sql.SQL("CREATE TABLE IF NOT EXISTS {} AS SELECT t.{} AS key FROM {} t WITH NO DATA").format(
                conflicts, swap.backfill.key, swap.backfill.table
            )
        )

    def begin(connection: Connection) -> None:
        swap.column.lock(connection)
        swap.column.admit_null(connection)
        swap.capture.begin(connection, [swap.column.name])

    def end(connection: Connection) -> None:
        swap.column.lock(connection)
        connection.execute(_merged(swap, conflicts, captured, None))
        swap.capture.end(connection)
        swap.column.exchange_back(connection)

    def merge_some() -> None:
        some = _merged(swap, conflicts, captured, MOST)
        catch_up(swap.open, lambda connection: int(one(connection, some)["keys"]))

    _briefly(swap, begin, lambda swap, connection: swap.capture.begun(connection))
    with swap.open() as connection:
        connection.execute(_merged(swap, conflicts, sql.SQL("TRUE"), None))
        whole = swap.column.is_read_whole(connection)
    merge_some()
    _briefly(swap, end, _taken_back, merge_some, EXCHANGING.unlimited() if whole else EXCHANGING)
    with swap.open() as connection:
        rows = connection.execute(sql.SQL("SELECT DISTINCT key FROM {} ORDER BY key").format(conflicts)).fetchall()
        if not rows:
            connection.execute(sql.SQL("DROP TABLE {}").format(conflicts))
    return [row["key"] for row in rows]


def _briefly(
    swap: Swap,
    work: Callable[[Connection], None],
    came_about: Callable[[Swap, Connection], bool],
    between: Callable[[], None] = lambda: None,
    brevity: Brevity = EXCHANGING,
) -> None:
    """Do `work` in one short transaction; `between` is called after each try that failed."""

    def done(connection: Connection) -> bool:
        work(connection)
        return True

    def recorded(connection: Connection) -> bool | None:
        return came_about(swap, connection) or None

    def waited(blockers: Sequence[Blocker]) -> None:
        swap.waiting(blockers)
        between()

    briefly(swap.open, done, waited, brevity=brevity, recorded=recorded, in_one_message=True)


def _taken_back(swap: Swap, connection: Connection) -> bool:
    return swap.stage(connection) is Stage.NOTHING


def _merged(swap: Swap, conflicts: sql.Identifier, among: sql.Composable, most: int | None) -> sql.Composed:
    """A statement that copies into the old column the values that no clearing of it gives: someone has written them since.

    It takes that many captured keys, or all, and gives how many those were.
    """
    old = swap.backfill.over(swap.column.old)
    return sql.SQL("""WITH taken AS ({taken}), written AS (
            UPDATE {table} t SET {old} = t.{column} WHERE {among} AND t.{column} IS DISTINCT FROM ({value})
            RETURNING t.{key} AS key
        ), noted AS (
            INSERT INTO {conflicts} SELECT key FROM written
        )
        SELECT count(*) AS keys FROM taken""").format(
        taken=swap.capture.taken(most),
        table=swap.backfill.table,
        old=old.column,
        column=swap.backfill.column,
        among=among,
        value=old.value,
        key=swap.backfill.key,
        conflicts=conflicts,
    )
