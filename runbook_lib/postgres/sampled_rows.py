"""Samples of the plan's table, and the rows of each that an API serves or a page shows. Nothing here writes."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import psycopg
from psycopg import sql

from runbook_lib.config.plan import Rows, Sample
from runbook_lib.postgres import Connection, Row
from runbook_lib.postgres.row_expression import RowExpression

CANDIDATES = 20  # samples that are looked at for each one wanted, where only the first rows of each are shown
_COLUMN = re.compile(r'(?:"(?P<quoted>[^"]+)"|(?P<plain>\w+))(?P<how>[^,]*)')


@dataclass(frozen=True)
class SampledRows:
    """The rows of one sample: how many, and what a column holds in those that hold something."""

    count: int
    values: list[str]
    is_certain: bool = True  # else rows that the order does not tell apart lie on both sides of the limit


def samples(connection: Connection, table: sql.Identifier, spec: Sample, rows: Rows | None) -> list[str]:
    """Values as text, spread over the column, of rows that have what is sampled; the same ones each time. Read-only."""
    limit = rows.limit if rows else None
    query = sql.SQL("""SELECT DISTINCT t.{c}::text AS value, md5(t.{c}::text) AS spread FROM {table} t
        WHERE t.{having} IS NOT NULL AND t.{c} IS NOT NULL AND {where} ORDER BY spread LIMIT {count}""").format(
        c=sql.Identifier(spec.column),
        having=sql.Identifier(spec.having),
        table=table,
        where=_condition(rows),
        count=sql.Literal(spec.count * (CANDIDATES if limit else 1)),
    )
    found = [row["value"] for row in _asked(connection, query)]
    if limit:
        shown = rows_of(connection, table, spec, rows, spec.having, found)
        found = [sample for sample in found if shown[sample].values and shown[sample].is_certain]
    return found[: spec.count]


def rows_of(
    connection: Connection, table: sql.Identifier, spec: Sample, rows: Rows | None, column: str, values: Sequence[str]
) -> Mapping[str, SampledRows]:
    """For some samples: how many rows are served or shown of each, and what a column of these holds. Read-only."""
    query = sql.SQL("""SELECT t.sample, count(*) FILTER (WHERE t.is_shown) AS count, bool_or(t.is_tied) AS tied,
            array_agg(t.value) FILTER (WHERE t.is_shown AND t.value IS NOT NULL) AS values
        FROM ({rows}) t GROUP BY 1""").format(rows=_rows(table, spec, rows, column, values))
    found = {row["sample"]: row for row in _asked(connection, query)}
    return {
        each: SampledRows(found[each]["count"], found[each]["values"] or [], not found[each]["tied"])
        if each in found
        else SampledRows(0, [])
        for each in values
    }


def refused(connection: Connection, table: sql.Identifier, spec: Sample, rows: Rows | None, columns: Sequence[str]) -> str:
    """Why the server does not take the condition, the order or a column, "" where it does; no row is read. Read-only.

    Raises:
        ParametersError: The condition is no expression on the columns of one row.
    """
    for column in dict.fromkeys([spec.having, *columns]):
        query = sql.SQL("SELECT * FROM ({rows}) t LIMIT 0").format(rows=_rows(table, spec, rows, column, []))
        try:
            _asked(connection, query)
        except psycopg.Error as error:
            return str(error.diag.message_primary or error)
    return ""


def _asked(connection: Connection, query: sql.Composed) -> list[Row]:
    """Ask in a transaction that cannot write, whatever the plan's condition calls."""
    with connection.transaction():
        connection.execute("SET TRANSACTION READ ONLY")
        return connection.execute(query).fetchall()


def _rows(table: sql.Identifier, spec: Sample, rows: Rows | None, column: str, values: Sequence[str]) -> sql.Composed:
    """The rows of some samples that meet the condition: whether each is shown, or is tied with one that is."""
    shown: sql.Composable = sql.SQL("TRUE")
    tied: sql.Composable = sql.SQL("FALSE")
    window: sql.Composable = sql.SQL("")
    if rows and rows.limit and rows.order:
        limit = sql.Literal(rows.limit)
        shown = sql.SQL("row_number() OVER w <= {}").format(limit)
        tied = sql.SQL("row_number() OVER w > {} AND rank() OVER w <= {}").format(limit, limit)
        window = sql.SQL("WINDOW w AS (PARTITION BY t.{} ORDER BY {})").format(
            sql.Identifier(spec.column), sql.SQL(", ").join(_order(rows.order))
        )
    return sql.SQL("""SELECT t.{c}::text AS sample, t.{value}::text AS value, {shown} AS is_shown, {tied} AS is_tied
        FROM {table} t WHERE t.{c}::text = ANY ({values}::text[]) AND {where} {window}""").format(
        c=sql.Identifier(spec.column),
        value=sql.Identifier(column),
        shown=shown,
        tied=tied,
        table=table,
        values=sql.Literal(list(values)),
        where=_condition(rows),
        window=window,
    )


def _condition(rows: Rows | None) -> sql.Composable:
    """The condition over a row `t`."""
    return RowExpression(rows.where, "rows.where", "api and page").term if rows and rows.where else sql.SQL("TRUE")


def _order(text: str) -> Iterator[sql.Composable]:
    for found in _COLUMN.finditer(text):
        yield sql.SQL("t.{} {}").format(sql.Identifier(found["quoted"] or found["plain"]), sql.SQL(found["how"].strip()))
