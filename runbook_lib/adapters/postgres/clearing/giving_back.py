"""Gives cleared rows their old values again, in short transactions over the pages of the bundles of undo rows."""

from typing import Any

from psycopg import sql

from runbook_lib.adapters.postgres.backfill import Backfill
from runbook_lib.adapters.postgres.clearing.crew import PaceOn, Pages, Range, within
from runbook_lib.adapters.postgres.clearing.records import BUNDLED, UNBUNDLED, Records
from runbook_lib.adapters.postgres.connection import Connection, one
from runbook_lib.adapters.postgres.locks import Open

PAGES = 1  # of bundles, a transaction


def give_back(open_: Open, backfill: Backfill, pace_on: PaceOn) -> tuple[int, list[Any]]:
    """Put back each old value where the present one is still the one this run wrote. Changes the target.

    Returns how many rows were restored, and the keys of those that someone has changed since: their undo rows stay.

    Raises:
        Declined: It was ended between two batches; what is not given back is still cleared, and has its undo row.
    """
    restored, records = 0, Records(backfill)
    with open_() as connection, open_() as looking:
        if not records.exist(connection):
            return 0, []
        records.want(connection, "go on")  # whatever ended the clearing
        pace, pages = pace_on(looking), Pages(connection, records.bundles)
        last = 0
        while taken := pages.take(PAGES):
            pace(last)
            last = _given_back(connection, backfill, taken[0])
            restored += last
        conflicts = connection.execute(backfill.filled(sql.SQL("SELECT key FROM {undo} ORDER BY key"))).fetchall()
        if not conflicts:
            records.drop(connection)
    return restored, [row["key"] for row in conflicts]


def _given_back(connection: Connection, backfill: Backfill, pages: Range) -> int:
    touch = backfill.database.backfill.touch
    parts = {
        "bundles": Records(backfill).bundles,
        "bundled": BUNDLED,
        "unbundled": UNBUNDLED,
        "touch": sql.SQL(", {} = u.touched").format(sql.Identifier(touch)) if touch else sql.SQL(""),
        "within": within("b", pages),
    }
    with connection.transaction():
        connection.execute(backfill.filled(sql.SQL(_RESTORE), **parts))
        return int(one(connection, backfill.filled(sql.SQL(_FORGET), **parts))["restored"])


_RESTORE = """
UPDATE {table} t SET {column} = u.old {touch}
FROM (SELECT u.* FROM {bundles} b, {unbundled} WHERE {within}) u
WHERE t.{key} = u.key AND t.{column} IS NOT DISTINCT FROM u.new"""

# A bundle of which some rows were changed since is put back with those alone.
_FORGET = """
WITH taken AS (DELETE FROM {bundles} b WHERE {within} RETURNING b.*
), each AS (
    SELECT u.*, t.{key} IS NOT NULL AS restored
    FROM taken b CROSS JOIN LATERAL {unbundled}
    LEFT JOIN {table} t ON t.{key} = u.key AND t.{column} IS NOT DISTINCT FROM u.old
), left_over AS (
    INSERT INTO {bundles} SELECT {bundled}
    FROM each WHERE NOT restored HAVING count(*) > 0
)
SELECT count(*) FILTER (WHERE restored) AS restored FROM each"""
