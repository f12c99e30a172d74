"""Restore the old values of cleared rows, in short transactions over the pages of the bundles of undo rows."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from psycopg import sql

from runbook_lib.postgres import Connection, Open
from runbook_lib.postgres.backfill_removal.guard import BUNDLED, UNBUNDLED, Records
from runbook_lib.postgres.backfill_removal.swap import Stage, Swap
from runbook_lib.postgres.backfill_removal.throttle import PaceOn
from runbook_lib.postgres.backfill_terms import BackfillTerms
from runbook_lib.postgres.blockers import Blocker
from runbook_lib.postgres.catalog import identify_rows
from runbook_lib.postgres.change_capture import MOST
from runbook_lib.postgres.connection import one
from runbook_lib.postgres.lock_budget import EXCHANGING, LockBudget, with_short_lock_in_one_message
from runbook_lib.postgres.page_ranges import PageQueue, Range, within
from runbook_lib.postgres.round_trip import Statements

PAGES = 1  # pages of bundles per transaction


def undo_batches(open_: Open, backfill: BackfillTerms, throttle_on: PaceOn) -> tuple[int, list[Any]]:
    """Restore each old value if the present one is still the one this run wrote. Changes the target.

    Returns how many rows were restored, and the keys of those that someone has changed since: their undo rows are kept.

    Raises:
        Declined: It was aborted between two batches; rows not restored yet are still cleared, and have their undo rows.
    """
    restored, records = 0, Records(backfill)
    with open_() as connection, open_() as looking:
        if not records.exist(connection):
            return 0, []
        pace, last = throttle_on(looking), 0
        for pages in PageQueue(connection, records.bundles).each(PAGES):
            pace(last)
            last = pace.granted(connection, partial(_restored, connection, backfill, pages))
            restored += last
        conflicts = connection.execute(backfill.filled(sql.SQL("SELECT key FROM {undo} ORDER BY key"))).fetchall()
        if not conflicts:
            records.drop(connection)
    return restored, [row["key"] for row in conflicts]


def _restored(connection: Connection, backfill: BackfillTerms, pages: Range) -> int:
    touch = backfill.spec.touch_column
    parts = {
        "bundles": Records(backfill).bundles,
        "bundled": BUNDLED,
        "unbundled": UNBUNDLED,
        "touch": sql.SQL(", {} = u.touched").format(sql.Identifier(touch)) if touch else sql.SQL(""),
        "within": within("b", pages),
        "old": (old := backfill.restored(sql.SQL("u.old"))),
        "same_as_old": backfill.same(backfill.of("t"), old),
        "same_as_new": backfill.same(backfill.of("t"), backfill.restored(sql.SQL("u.new"))),
    }
    with connection.transaction():
        connection.execute(backfill.filled(sql.SQL(_RESTORE), **parts))
        return int(one(connection, backfill.filled(sql.SQL(_FORGET), **parts))["restored"])


_RESTORE = """
UPDATE {table} t SET {column} = {old} {touch}
FROM (SELECT u.* FROM {bundles} b, {unbundled} WHERE {within}) u
WHERE t.{key} = u.key AND {same_as_new}"""

# A bundle with rows that were changed since is written again with only those rows.
_FORGET = """
WITH taken AS (DELETE FROM {bundles} b WHERE {within} RETURNING b.*
), each AS (
    SELECT u.*, t.{key} IS NOT NULL AS restored
    FROM taken b CROSS JOIN LATERAL {unbundled}
    LEFT JOIN {table} t ON t.{key} = u.key AND {same_as_old}
), left_over AS (
    INSERT INTO {bundles} SELECT {bundled}
    FROM each WHERE NOT restored HAVING count(*) > 0
)
SELECT count(*) FILTER (WHERE restored) AS restored FROM each"""


def undo_swap(swap: Swap) -> tuple[int, list[Any]]:
    """Undo a swap, finished or not; values that someone has written since are kept. Changes the target.

    Its locks are as short as those of the swap, with one exception. If the column is NOT NULL and others made the old one
    nullable, the server reads the whole table while it is locked, however long that takes.

    Returns how many rows have their old value again, and the keys of those written since, which a table keeps.

    Raises:
        PreconditionError: A lock could not be acquired in time, or others write faster than this can follow.
    """
    with swap.open() as connection:
        stage = swap.stage(connection)
        restored = swap.backfill.over(swap.column.old).count(connection) if stage is Stage.CUT_OVER else 0
    if stage is Stage.SHADOW:
        _with_short_lock(swap, lambda statements: _drop_shadow(swap, statements), _is_undone)
    written: list[Any] = []
    if stage is Stage.CUT_OVER:
        written = _merge_and_cut_back(swap)
    with swap.open() as connection:
        swap.records.drop(connection)
    return restored - len(written), written


def _drop_shadow(swap: Swap, statements: Statements) -> None:
    swap.column.lock(statements)
    swap.capture.end(statements)
    swap.column.drop(statements, swap.column.shadow)


def _merge_and_cut_back(swap: Swap) -> list[Any]:
    conflicts = swap.backfill.own("conflicts")
    captured = sql.SQL("t.{} = ANY (ARRAY (SELECT key FROM taken))").format(swap.backfill.key)
    with swap.open() as connection:
        with connection.transaction():
            swap.capture.prepare(Statements(connection))
        connection.execute(
            sql.SQL("CREATE TABLE IF NOT EXISTS {} AS SELECT t.{} AS key FROM {} t WITH NO DATA").format(
                conflicts, swap.backfill.key, swap.backfill.table
            )
        )
        connection.execute(identify_rows(conflicts))

    def begin(statements: Statements) -> None:
        swap.column.lock(statements)
        swap.column.admit_null(statements)
        swap.capture.begin(statements, [swap.column.name])

    def end(statements: Statements) -> None:
        swap.column.lock(statements)
        statements.write(_merged(swap, conflicts, captured, None))
        swap.capture.end(statements)
        swap.column.cut_back(statements)

    def merge_some() -> None:
        some = _merged(swap, conflicts, captured, MOST)
        with swap.open() as connection:
            swap.capture.catch_up(connection, lambda: int(one(connection, some)["keys"]))

    _with_short_lock(swap, begin, lambda swap, connection: swap.capture.begun(connection))
    with swap.open() as connection:
        connection.execute(_merged(swap, conflicts, sql.SQL("TRUE"), None))
        whole = swap.column.is_read_whole(connection)
    merge_some()
    _with_short_lock(swap, end, _is_undone, merge_some, EXCHANGING.unlimited() if whole else EXCHANGING)
    with swap.open() as connection:
        rows = connection.execute(sql.SQL("SELECT DISTINCT key FROM {} ORDER BY key").format(conflicts)).fetchall()
        if not rows:
            connection.execute(sql.SQL("DROP TABLE {}").format(conflicts))
    return [row["key"] for row in rows]


def _with_short_lock(
    swap: Swap,
    work: Callable[[Statements], None],
    came_about: Callable[[Swap, Connection], bool],
    between: Callable[[], None] = lambda: None,
    budget: LockBudget = EXCHANGING,
) -> None:
    """Do `work` in one short transaction; `between` is called after each failed try."""

    def done(statements: Statements) -> bool:
        work(statements)
        return True

    def recorded(connection: Connection) -> bool | None:
        return came_about(swap, connection) or None

    def waited(blockers: Sequence[Blocker]) -> None:
        swap.waiting(blockers)
        between()

    with_short_lock_in_one_message(swap.open, done, waited, budget=budget, recorded=recorded)


def _is_undone(swap: Swap, connection: Connection) -> bool:
    return swap.stage(connection) is Stage.NOTHING


def _merged(swap: Swap, conflicts: sql.Identifier, among: sql.Composable, most: int | None) -> sql.Composed:
    """Return a statement that copies to the old column the values written since: those that clearing it does not give.

    It takes that many captured keys, or all, and returns their number.
    """
    old = swap.backfill.over(swap.column.old)
    return sql.SQL("""WITH taken AS ({taken}), written AS (
            UPDATE {table} t SET {old} = t.{column} WHERE {among} AND {differ}
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
        differ=old.differ(swap.backfill.of("t"), old.value),
        key=swap.backfill.key,
        conflicts=conflicts,
    )
