"""Gives cleared rows their old values again, in short transactions over the pages of the undo rows."""

from typing import Any

from psycopg import sql

from runbook_lib.adapters.postgres.backfill import Backfill
from runbook_lib.adapters.postgres.clearing.crew import PaceOn, Pages, Range, within
from runbook_lib.adapters.postgres.clearing.records import Records
from runbook_lib.adapters.postgres.connection import Connection
from runbook_lib.adapters.postgres.locks import Open

PAGES = 100  # a transaction


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
        pace, pages = pace_on(looking), Pages(connection, backfill.undo)
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
    with connection.transaction():
        connection.execute(
            backfill.filled(
                sql.SQL("""UPDATE {table} t SET {column} = u.old {touch} FROM {undo} u
                WHERE {within} AND t.{key} = u.key AND t.{column} IS NOT DISTINCT FROM u.new"""),
                touch=sql.SQL(", {} = u.touched").format(sql.Identifier(touch)) if touch else sql.SQL(""),
                within=within("u", pages),
            )
        )
        return connection.execute(
            backfill.filled(
                sql.SQL("""DELETE FROM {undo} u USING {table} t
                WHERE {within} AND t.{key} = u.key AND t.{column} IS NOT DISTINCT FROM u.old"""),
                within=within("u", pages),
            )
        ).rowcount
