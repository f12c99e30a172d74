"""Check that every row that a scalar backfill wrote can hold its earlier value again. Read-only."""

from collections.abc import Iterator

import psycopg
from psycopg import sql

from runbook_lib.config.plan import ColumnOfRow, Expression, ScalarBackfill
from runbook_lib.postgres import Connection
from runbook_lib.postgres.backfill_terms import BackfillTerms
from runbook_lib.postgres.connection import one
from runbook_lib.postgres.row_expression import RowExpression

VIOLATING = 3  # keys listed


def scalar_misfits(connection: Connection, backfill: BackfillTerms, spec: ScalarBackfill) -> list[str]:
    """Return a line for each problem with the plan's values, SQL and column, by the catalog alone. Read-only."""
    table = backfill.table.as_string(connection)
    lines = [row["why"] for row in connection.execute(_OF_COLUMN.encode(), {"table": table, "column": spec.name})]
    there = {row["name"] for row in connection.execute(_COLUMNS.encode(), [table])}
    named = [*backfill.columns_read, backfill.database.key, *([spec.touch_column] if spec.touch_column else [])]
    lines += [f"{backfill.database.table} has no column {name}" for name in dict.fromkeys(named) if name not in there]
    if spec.name == backfill.database.key:
        lines.append(f"{spec.name} is the key by which rows are found")
    lines += _of_expressions(connection, spec)
    return lines or list(_refused(connection, backfill))


def value_misfits(connection: Connection, backfill: BackfillTerms) -> list[str]:
    """Return a line for each rule of the table that earlier values break, with the number of rows. Read-only."""
    lines, table = [], backfill.table.as_string(connection)
    names = [row["name"] for row in connection.execute(_COLUMNS.encode(), [table])]
    columns = [
        sql.SQL("{} AS {}").format(backfill.value, backfill.column)
        if name == backfill.spec.name
        else sql.Identifier("t", name)
        for name in names
    ]
    then = backfill.filled(
        sql.SQL("(SELECT {columns}, {affected} AS {mark} FROM {table} t)"),
        columns=sql.SQL(", ").join(columns),
        mark=sql.Identifier(MARK),
    )
    parameters = {"table": table, "column": backfill.spec.name}
    for rule in connection.execute(_RULES.encode(), parameters).fetchall():
        query = sql.SQL(_BROKEN[rule["kind"]]).format(
            then=then,
            mark=sql.Identifier(MARK),
            key=backfill.key,
            column=backfill.column,
            rule=sql.SQL(rule["rule"]),
            condition=sql.SQL(rule["condition"] or "TRUE"),
            shown=sql.Literal(VIOLATING),
        )
        found = one(connection, query)
        if found["n"]:
            keys = ", ".join(found["keys"] or [])
            lines.append(f"{rule['name']} forbids the earlier value of {found['n']} rows, such as {keys}")
    return lines


MARK = "is affected by the runbook"


def _of_expressions(connection: Connection, spec: ScalarBackfill) -> Iterator[str]:
    texts = [spec.where, spec.written.sql if isinstance(spec.written, Expression) else None]
    expressions = [RowExpression(text) for text in texts if text is not None]
    named = [spec.written.column] if isinstance(spec.written, ColumnOfRow) else []
    if spec.name in [*named, *(name for each in expressions for name in each.columns)]:
        yield f"the plan's `written` or `where` names {spec.name} itself, which changes"
    functions = [name for each in expressions for name in each.functions]
    for row in connection.execute(_NOT_STABLE.encode(), [functions]):
        yield f"the plan's SQL calls {row['name']}, which does not give the same each time"


def _refused(connection: Connection, backfill: BackfillTerms) -> Iterator[str]:
    """Yield the server's objections to the terms, without reading a row."""
    query = backfill.filled(sql.SQL("SELECT {affected}, {value}, {written}, {fill} FROM {table} t LIMIT 0"))
    try:
        with connection.transaction():
            connection.execute(query)
    except psycopg.Error as error:
        yield f"the server refuses the plan's values or SQL: {error.diag.message_primary}"


_COLUMNS = """SELECT attname AS name FROM pg_attribute
WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum"""

_OF_COLUMN = """
WITH a AS (SELECT a.*, a.attname AS name FROM pg_attribute a
           WHERE a.attrelid = %(table)s::regclass AND a.attname = %(column)s)
SELECT name || ' is computed from other columns' AS why FROM a WHERE attgenerated <> ''
UNION ALL SELECT name || ' is always an identity of the server''s' FROM a WHERE attidentity = 'a'
UNION ALL SELECT 'the constraint ' || c.conname || ' of ' || c.conrelid::regclass || ' refers to ' || name
FROM a JOIN pg_constraint c ON c.confrelid = a.attrelid AND a.attnum = ANY (c.confkey) AND c.contype = 'f'
UNION ALL SELECT 'the index ' || i.indexrelid::regclass || ' on it excludes rows by each other'
FROM a JOIN pg_index i ON i.indrelid = a.attrelid AND a.attnum = ANY (i.indkey) AND i.indisexclusion
"""

_NOT_STABLE = """SELECT DISTINCT n.name FROM unnest(%s::text[]) n(name)
WHERE EXISTS (SELECT FROM pg_proc p WHERE p.proname = n.name AND p.provolatile = 'v')"""

# The rules for each row of the table, with their kind, as the server writes them.
_RULES = """
WITH a AS (SELECT * FROM pg_attribute WHERE attrelid = %(table)s::regclass AND attname = %(column)s)
SELECT 'the constraint ' || c.conname AS name, 'row' AS kind, pg_get_expr(c.conbin, c.conrelid) AS rule, NULL AS condition
FROM a JOIN pg_constraint c ON c.conrelid = a.attrelid AND c.contype = 'c' AND a.attnum = ANY (c.conkey)
UNION ALL SELECT 'NOT NULL of ' || attname, 'row', quote_ident(attname) || ' IS NOT NULL', NULL FROM a WHERE attnotnull
UNION ALL SELECT 'the unique index ' || i.indexrelid::regclass,
       CASE WHEN i.indnullsnotdistinct THEN 'unique, NULL too' ELSE 'unique' END,
       (SELECT string_agg(pg_get_indexdef(i.indexrelid, n, TRUE), ', ' ORDER BY n) FROM generate_series(1, i.indnkeyatts) n),
       pg_get_expr(i.indpred, i.indrelid)
FROM a JOIN pg_index i ON i.indrelid = a.attrelid AND i.indisunique
WHERE a.attnum = ANY (i.indkey) OR position(quote_ident(a.attname) IN pg_get_indexdef(i.indexrelid)) > 0
UNION ALL SELECT 'the foreign key ' || c.conname, 'foreign',
       (SELECT string_agg('r.' || quote_ident(r.attname) || ' = w.' || quote_ident(l.attname), ' AND ')
        FROM unnest(c.conkey, c.confkey) k(l, r) JOIN pg_attribute l ON l.attrelid = c.conrelid AND l.attnum = k.l
        JOIN pg_attribute r ON r.attrelid = c.confrelid AND r.attnum = k.r),
       c.confrelid::regclass::text
FROM a JOIN pg_constraint c ON c.conrelid = a.attrelid AND c.contype = 'f' AND a.attnum = ANY (c.conkey)
"""

_UNIQUE = """SELECT count(*) AS n, (array_agg(it ORDER BY it))[1:{shown}] AS keys FROM (
    SELECT min({key}::text) AS it FROM {then} w WHERE {condition} GROUP BY {rule} HAVING count(*) > 1 AND bool_or({mark})"""
_BROKEN = {
    "row": """SELECT count(*) AS n, (array_agg({key}::text ORDER BY {key}))[1:{shown}] AS keys FROM {then} w
WHERE {mark} AND NOT ({rule})""",
    "unique": _UNIQUE + " AND num_nulls({rule}) = 0) d",
    "unique, NULL too": _UNIQUE + ") d",
    "foreign": """SELECT count(*) AS n, (array_agg({key}::text ORDER BY {key}))[1:{shown}] AS keys FROM {then} w
WHERE {mark} AND w.{column} IS NOT NULL AND NOT EXISTS (SELECT FROM {condition} r WHERE {rule})""",
}
