"""What each row is to hold once it is cleared, as a term that one scan computes on all cores."""

from collections.abc import Iterator
from contextlib import contextmanager

from psycopg import sql

from runbook_lib.adapters.postgres.backfill import Backfill
from runbook_lib.adapters.postgres.connection import Connection

_LEFT = """CREATE FUNCTION {left}(list jsonb, written jsonb, decided boolean) RETURNS jsonb
LANGUAGE sql STABLE PARALLEL SAFE AS {body}"""
_BODY = """SELECT jsonb_agg(e.value ORDER BY e.place) FROM jsonb_array_elements(list) WITH ORDINALITY e(value, place)
WHERE NOT ({gone})"""
_TO_BE = """CASE WHEN {plain} THEN {fill}::text
WHEN t.{column} @> {marker} {and_approved} THEN coalesce({left}(t.{column}, {written}, {decided}), {empty})::text
ELSE t.{column}::text END"""


@contextmanager
def to_be(connection: Connection, backfill: Backfill) -> Iterator[sql.Composed]:
    """What a row `t` is to hold in the cleared column, as a term for its text; within a transaction.

    The server scans with one core where a term holds a query of its own, as `Backfill.value` does. Here a function of the
    runbook's schema goes through the elements; it is dropped again at the end. Changes nothing else.
    """
    left, edited = backfill.own("left"), backfill.database.backfill.edited
    gone = sql.SQL("{marked}" if edited == "clear" else "e.value = written OR decided AND {marked}").format(
        marked=backfill.marked
    )
    body = sql.SQL(_BODY).format(gone=gone).as_string(connection)
    connection.execute(sql.SQL(_LEFT).format(left=left, body=sql.Literal(body)))
    yield backfill.filled(
        sql.SQL(_TO_BE),
        plain=backfill.plain,
        fill=backfill.fill,
        marker=backfill.marker,
        and_approved=backfill.and_approved(),
        decided=sql.SQL("t.{}::text = ANY ({}::text[])").format(backfill.key, sql.Literal(list(backfill.bounds.decided))),
        left=left,
    )
    connection.execute(sql.SQL("DROP FUNCTION {}(jsonb, jsonb, boolean)").format(left))
