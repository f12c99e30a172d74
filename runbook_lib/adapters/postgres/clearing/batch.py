"""One transaction that clears the backfilled elements of some rows and keeps an undo row for each.

Undo rows are written in bundles: many in one row of the server's are compressed, and cost its log a tenth.
"""

from psycopg import sql

from runbook_lib.adapters.postgres.backfill import Backfill
from runbook_lib.adapters.postgres.clearing.guard import Expected, transaction
from runbook_lib.adapters.postgres.clearing.records import BUNDLED, Records
from runbook_lib.adapters.postgres.connection import Connection, one

BUNDLE = 200  # undo rows
ALL = sql.SQL("TRUE")
RETURNS_OLD = 180000  # the first version of the server whose RETURNING tells the old values too

_AT_ONCE = """
WITH changed AS (
    UPDATE {table} t SET {column} = {kept_of_affected} {touch} WHERE {chosen} AND {wanted}
    RETURNING t.{key} AS key, old.{column} AS old, new.{column} AS new, {old_touched} AS touched
)"""

_CHOSEN_FIRST = """
WITH chosen AS MATERIALIZED (
    SELECT t.{key} AS key, t.{column} AS old, {kept_of_affected} AS new, {touched} AS touched
    FROM {table} t WHERE {chosen} AND {wanted} FOR UPDATE OF t
), changed AS (
    UPDATE {table} t SET {column} = c.new {touch} FROM chosen c WHERE t.{key} = c.key
    RETURNING c.key, c.old, c.new, c.touched
)"""

_KEPT = """, numbered AS (SELECT *, row_number() OVER () / {bundle} AS place FROM changed
), bundled AS (
    INSERT INTO {bundles} SELECT {bundled}
    FROM numbered GROUP BY place RETURNING cardinality(key) AS rows
)
SELECT count(*) AS bundles, coalesce(sum(rows), 0)::bigint AS rows FROM bundled"""


def clear(connection: Connection, backfill: Backfill, chosen: sql.Composable, among: sql.Composable = ALL) -> int:
    """Clear the affected rows of `t` among some, in one transaction with their undo rows; returns how many there were.

    Changes the target.

    Args:
        connection: In autocommit mode.
        backfill: What to clear.
        chosen: A condition by which the server finds the rows.
        among: One that is cheap, and asked of each row before whether it is affected.

    Raises:
        StepFailed: The transaction would have changed anything else; it was rolled back.
    """
    records = Records(backfill)
    at_once = connection.info.server_version >= RETURNS_OLD
    query = backfill.filled(
        sql.SQL((_AT_ONCE if at_once else _CHOSEN_FIRST) + _KEPT),
        bundles=records.bundles,
        bundled=BUNDLED,
        bundle=sql.Literal(BUNDLE),
        chosen=chosen,
        wanted=backfill.filled(sql.SQL("CASE WHEN {among} THEN {affected} ELSE FALSE END"), among=among),
        touch=backfill.touch(),
        touched=backfill.touched(),
        old_touched=backfill.touched("old"),
    )
    expected: Expected = []
    with transaction(connection, expected):
        kept = one(connection, query)
        if kept["rows"]:
            records.write(connection, kept["rows"])
            expected += [
                (backfill.table, (0, kept["rows"], 0)),
                (records.bundles, (kept["bundles"], 0, 0)),
                (records.writes, (1, 0, 0)),
            ]
    return int(kept["rows"])
