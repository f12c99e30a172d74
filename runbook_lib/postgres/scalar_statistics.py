"""Counts what a plain column holds that a job filled; nothing here writes."""

from collections.abc import Iterator
from dataclasses import dataclass

from psycopg import sql

from runbook_lib.postgres import Connection, Row
from runbook_lib.postgres.backfill_removal.guard import Named, named
from runbook_lib.postgres.connection import one
from runbook_lib.postgres.scalar_backfill import ScalarTerms


@dataclass(frozen=True)
class ScalarCounts:
    """Rows of a table by what a job, and users, have put into a column."""

    rows: int
    kept: int  # that will not hold what most cleared rows hold
    edited: int  # in the job's scope, with another value than it wrote or than they had before


def scalar_counts(connection: Connection, backfill: ScalarTerms) -> ScalarCounts:
    """The rows by what a job, and users, have put into the column. Read-only."""
    query = backfill.filled(
        sql.SQL("""SELECT count(*) AS rows, count(*) FILTER (WHERE NOT {plain}) AS kept,
            count(*) FILTER (WHERE {scope} AND NOT {pristine} AND {differs_from_earlier}) AS edited FROM {table} t"""),
        plain=backfill.plain,
    )
    return ScalarCounts(**one(connection, query))


def edited_scalars(connection: Connection, backfill: ScalarTerms) -> Iterator[Row]:
    """Each row with another value than was written: `key` as text, `edited`, and `written`. Read-only."""
    query = backfill.filled(
        sql.SQL("""SELECT t.{key}::text AS key, to_jsonb(t.{column}) AS edited, to_jsonb({written}) AS written
        FROM {table} t WHERE {scope} AND NOT {pristine} AND {differs_from_earlier} ORDER BY t.{key}""")
    )
    with connection.transaction(), connection.cursor("edited") as cursor:
        yield from cursor.execute(query)


def without_earlier_value(connection: Connection, backfill: ScalarTerms, read: sql.Identifier) -> Named:
    """The rows as the job wrote them that are not among those `read` out of the backup. Read-only."""
    query = sql.SQL("""SELECT t.{key} AS key FROM {table} t
    WHERE {scope} AND {pristine} AND NOT EXISTS (SELECT FROM {read} r WHERE r.{key} = t.{key})""")
    return named(connection, backfill.filled(query, read=read))
