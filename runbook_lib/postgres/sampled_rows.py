"""Samples of the plan's table, and the rows of each that an API serves or a page shows. Read-only."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import psycopg
from psycopg import sql

from runbook_lib.config.plan import Rows, Sample
from runbook_lib.postgres import Connection, Row
from runbook_lib.postgres.row_expression import RowExpression

CANDIDATES = 20  # samples examined per requested one, if a page shows only the first rows of each
_COLUMN = re.compile(r'(?:"(?P<quoted>[^"]+)"|(?P<plain>\w+))(?P<how>[^,]*)')


@dataclass(frozen=True)
class SampledRows:
    """The rows of one sample: how many, and a column's values in them."""

    count: int
    values: list[str]
    is_certain: bool = True  # false if rows with equal order are on both sides of the limit


def samples(connection: Connection, table: sql.Identifier, spec: Sample, rows: Rows | None) -> list[str]:
    """Return values as text, spread over the column, of rows with what is sampled; always the same ones. Read-only."""
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
        found = sorted((each for each in found if shown[each].values), key=lambda each: not shown[each].is_certain)
    return found[: spec.count]


def rows_of(
    connection: Connection, table: sql.Identifier, spec: Sample, rows: Rows | None, column: str, values: Sequence[str]
) -> Mapping[str, SampledRows]:
    """Return for some samples how many rows are served or shown, and a column's values in these. Read-only."""
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
    """Return why the server refuses the condition, the order or a column, "" if it accepts; reads no row. Read-only.

    Raises:
        ParametersError: The condition is not an expression on the columns of one row.
    """
    for column in dict.fromkeys([spec.having, *columns]):
        query = sql.SQL("SELECT * FROM ({rows}) t LIMIT 0").format(rows=_rows(table, spec, rows, column, []))
        try:
            _asked(connection, query)
        except psycopg.Error as error:
            return str(error.diag.message_primary or error)
    return ""


def _asked(connection: Connection, query: sql.Composed) -> list[Row]:
    """Query in a transaction that cannot write, whatever the plan's condition calls."""
    with connection.transaction():
        connection.execute("SET TRANSACTION READ ONLY")
        return connection.execute(query).fetchall()


def _rows(table: sql.Identifier, spec: Sample, rows: Rows | None, column: str, values: Sequence[str]) -> sql.Composed:
    """Return the rows of some samples that meet the condition: whether each is shown, or tied with a shown one."""
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
