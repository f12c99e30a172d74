"""Remove backfilled elements in transactions that each keep undo rows: by key, or over ranges of pages.

Undo rows are bundled: many in one compressed row of the server, which writes a tenth as much WAL.
"""

from collections.abc import Iterator
from functools import partial

from psycopg import errors, sql

from runbook_lib.postgres import Connection, Open
from runbook_lib.postgres.backfill_removal.guard import BUNDLED, Expected, Records, block, transaction
from runbook_lib.postgres.backfill_removal.throttle import Lines, PaceOn, Throttle, among, over_pages
from runbook_lib.postgres.backfill_terms import BackfillTerms
from runbook_lib.postgres.connection import one
from runbook_lib.postgres.page_ranges import Range, within
from runbook_lib.postgres.round_trip import Statements
from runbook_lib.postgres.text_settings import in_parallel

BUNDLE = 200  # undo rows per bundle
ALL = sql.SQL("TRUE")
RETURNS_OLD = 180000  # the first server version whose RETURNING also gives old values

_AT_ONCE = """
WITH changed AS (
    UPDATE {table} t SET {column} = {kept_of_affected} {touch} WHERE {chosen} AND {matching}
    RETURNING t.{key} AS key, {saved_old} AS old, {saved_new} AS new, {old_touched} AS touched
)"""

_CHOSEN_FIRST = """
WITH chosen AS MATERIALIZED (
    SELECT t.{key} AS key, {old} AS old, {kept_of_affected} AS new, {touched} AS touched
    FROM {table} t WHERE {chosen} AND {matching} FOR UPDATE OF t
), changed AS (
    UPDATE {table} t SET {column} = c.new {touch} FROM chosen c WHERE t.{key} = c.key
    RETURNING c.key, c.old, {saved_chosen} AS new, c.touched
)"""

_KEPT = """, numbered AS (SELECT *, row_number() OVER () / {bundle} AS place FROM changed
), bundled AS (
    INSERT INTO {bundles} SELECT {bundled}
    FROM numbered GROUP BY place RETURNING cardinality(key) AS rows
)
SELECT count(*) AS bundles, coalesce(sum(rows), 0)::bigint AS rows FROM bundled"""


def clear(connection: Connection, backfill: BackfillTerms, chosen: sql.Composable, among: sql.Composable = ALL) -> int:
    """Clear the affected rows of `t` among some, in one transaction with their undo rows; return their number.

    Changes the target.

    Args:
        connection: In autocommit mode.
        backfill: What to clear.
        chosen: A condition by which the server finds the rows.
        among: A cheap condition, tested on each row before the costly one.

    Raises:
        StepFailed: The transaction would have changed something else; it was rolled back.
    """
    records, query = Records(backfill), _statement(connection, backfill, chosen, among)
    expected: Expected = []
    with transaction(connection, expected, backfill.written_by_triggers):
        kept = one(connection, query)
        if kept["rows"]:
            records.write(Statements(connection), kept["rows"])
            expected += [
                (backfill.table, (0, kept["rows"], 0)),
                (records.bundles, (kept["bundles"], 0, 0)),
                (records.writes, (1, 0, 0)),
            ]
    return int(kept["rows"])


def _statement(
    connection: Connection, backfill: BackfillTerms, chosen: sql.Composable, among: sql.Composable
) -> sql.Composed:
    """Return the statement that clears rows and keeps undo rows; it gives the numbers of `bundles` and `rows`. Pure."""
    at_once = connection.info.server_version >= RETURNS_OLD
    return backfill.filled(
        sql.SQL((_AT_ONCE if at_once else _CHOSEN_FIRST) + _KEPT),
        bundles=Records(backfill).bundles,
        bundled=BUNDLED,
        bundle=sql.Literal(BUNDLE),
        chosen=chosen,
        matching=backfill.filled(sql.SQL("CASE WHEN {among} THEN {affected} ELSE FALSE END"), among=among),
        touch=backfill.touch(),
        touched=backfill.touched(),
        old_touched=backfill.touched("old"),
        saved_old=backfill.saved(backfill.of("old")),
        saved_new=backfill.saved(backfill.of("new")),
        saved_chosen=backfill.saved(sql.SQL("c.new")),
    )


def clear_at_once(connection: Connection, backfill: BackfillTerms) -> None:
    """Clear every affected row in the caller's transaction, which fails if anything else was written.

    It returns nothing to the client, so that it can be part of a script. Changes the target.
    """
    records, none = Records(backfill), sql.SQL("0")
    rows, bundles = sql.SQL("it.rows"), sql.SQL("it.bundles")
    expected = [(backfill.table, (none, rows, none)), (records.bundles, (bundles, none, none))]
    connection.execute(block(_statement(connection, backfill, ALL, ALL), expected, backfill.written_by_triggers))
    kept = sql.SQL("(SELECT coalesce(sum(cardinality(key)), 0) FROM {})").format(records.bundles)
    records.write(Statements(connection), kept)


ROWS = 2000  # rows per transaction


def clear_by_key(connection: Connection, backfill: BackfillTerms, pace: Throttle, rows: int = ROWS) -> None:
    """Clear every affected row, `rows` per transaction. Changes the target.

    Args:
        connection: In autocommit mode.
        backfill: What to clear.
        pace: Called before each transaction with the number of rows that the previous one cleared.
        rows: How many rows a transaction may change.

    Raises:
        StepFailed: A transaction would have changed something else; it was rolled back.
    """
    cleared = 0
    for keys in _keys(connection, backfill, rows):
        pace(cleared)
        chosen = sql.SQL("t.{} = ANY ({})").format(backfill.key, sql.Literal(keys))
        cleared = pace.granted(connection, partial(clear, connection, backfill, chosen))
    pace(cleared)


def _keys(connection: Connection, backfill: BackfillTerms, rows: int) -> Iterator[list[object]]:
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


_ANY = sql.SQL("SELECT count(*) > 0 AS it FROM {table} t WHERE {perhaps}")  # faster than testing all terms
TOO_LONG = (errors.LockNotAvailable, errors.DeadlockDetected, errors.QueryCanceled)


def clear_by_pages(open_: Open, backfill: BackfillTerms, throttle_on: PaceOn, workers: int) -> None:
    """Clear every affected row, range by range, except rows that others move meanwhile. Changes the target.

    Args:
        open_: Opens a connection to the target.
        backfill: What to clear.
        throttle_on: Makes the throttle called before each batch, on its own connection.
        workers: How many connections work at once; more than one only if nobody else uses the table.

    Raises:
        Declined: The removal was aborted between two batches.
        StepFailed: A transaction would have changed something else; it was rolled back.
    """

    def work(connection: Connection, pace: Throttle, pages: Range, lines: Lines) -> int:
        return _patiently(connection, backfill, pages, lines, pace)

    over_pages(open_, backfill, backfill.affected, throttle_on, workers, work)


def clear_moved(open_: Open, backfill: BackfillTerms, throttle_on: PaceOn, *, exclusive: bool) -> None:
    """Clear rows that others moved to other pages past the ranges. Changes the target.

    Args:
        open_: Opens a connection to the target.
        backfill: What to clear.
        throttle_on: Makes the throttle called before each batch, on its own connection.
        exclusive: Whether nobody else uses the table, so that the query may use all cores.

    Raises:
        Declined: The removal was aborted between two batches.
        StepFailed: A transaction would have changed something else; it was rolled back.
    """
    with open_() as connection, in_parallel(connection, exclusive):
        if exclusive:  # the server's statistics are outdated and argue against the index
            connection.execute("SET LOCAL enable_seqscan = off")
        perhaps_moved = one(connection, backfill.filled(_ANY, perhaps=backfill.perhaps))["it"]
    if perhaps_moved:
        with open_() as connection, open_() as looking:
            clear_by_key(connection, backfill, throttle_on(looking))


def _patiently(connection: Connection, backfill: BackfillTerms, pages: Range, lines: Lines, pace: Throttle) -> int:
    """Clear some lines of a range; if that waits too long for others, clear its halves one after the other.

    A lock on a single page, or on the whole table, is waited for.
    """
    first, beyond = pages
    work = partial(clear, connection, backfill, within("t", pages), among(lines))
    if beyond - first == 1:
        return pace.granted(connection, work)
    try:
        return work()
    except TOO_LONG:
        pace.granted(connection, partial(_lock_for_writing, connection, backfill))
    middle = (first + beyond) // 2
    return sum(_patiently(connection, backfill, half, lines, pace) for half in ((first, middle), (middle, beyond)))


def _lock_for_writing(connection: Connection, backfill: BackfillTerms) -> int:
    with connection.transaction():
        connection.execute(sql.SQL("LOCK TABLE {} IN ROW EXCLUSIVE MODE").format(backfill.table))
    return 0
