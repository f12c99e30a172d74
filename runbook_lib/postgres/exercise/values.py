"""Chooses values for a statement's parameters: from existing rows of the matching columns, else by their types."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from psycopg import sql

from runbook_lib.postgres import Connection
from runbook_lib.postgres.connection import one
from runbook_lib.postgres.exercise.statement import Statement, Unfit, Use

PREPARED = "exercised"
# By a type's category, or by its name if the category is too broad.
_OF_TYPE = {"N": "1", "S": "x", "B": "true", "D": "now", "T": "1 day", "A": "{}", "I": "127.0.0.1", "R": "empty"}
_OF_NAME = {"uuid": "00000000-0000-4000-8000-000000000000", "json": "{}", "jsonb": "{}", "bytea": "", "xml": "<x/>"}
# For a column of a unique index: a value that no row has.
_UNUSED = {"N": "max({c}) + 1", "S": "max({c}::text) || '~'", "D": "max({c}) + interval '1 day'"}

Shape = Mapping[str, tuple[int, frozenset[str]]]  # alias -> the table's OID and its columns


def shape(connection: Connection, statement: Statement) -> Shape:
    """Find the tables that a statement names, by the search path, with their columns. Read-only."""
    rows = connection.execute(
        """SELECT n.alias, c.oid, array_agg(a.attname::text) AS columns
           FROM unnest(%s::text[], %s::text[], %s::text[]) n (schema, name, alias)
           JOIN pg_class c ON c.oid = to_regclass(
               CASE n.schema WHEN '' THEN '' ELSE quote_ident(n.schema) || '.' END || quote_ident(n.name))
           JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped GROUP BY 1, 2""",
        [[getattr(each, name) for each in statement.tables] for name in ("schema", "name", "alias")],
    )
    return {row["alias"]: (row["oid"], frozenset(row["columns"])) for row in rows}


def owner_of_column(found: Shape, qualifier: str, column: str) -> str | None:
    """Return the alias of the table that has a column; None if no table has it. Pure."""
    aliases = [qualifier] if qualifier in found else found
    return next((alias for alias in aliases if column in found[alias][1]), None)


def prepare(connection: Connection, statement: Statement) -> None:
    """Prepare a statement for this session. Changes nothing."""
    connection.execute(sql.SQL("DEALLOCATE ALL"))
    connection.execute(sql.SQL(f"PREPARE {PREPARED} AS ") + sql.SQL(statement.text))


def execute(connection: Connection, values: Sequence[str | None]) -> None:
    """Execute the prepared statement, including deferred checks. Changes what the statement changes."""
    given = sql.SQL("({})").format(sql.SQL(", ").join(map(sql.Literal, values))) if values else sql.SQL("")
    connection.execute(sql.SQL(f"EXECUTE {PREPARED}") + given)
    connection.execute("SET CONSTRAINTS ALL IMMEDIATE")


def drawn(connection: Connection, statement: Statement, found: Shape) -> list[str | None]:
    """Choose a value for each parameter of the prepared statement, as text. Read-only.

    Raises:
        Unfit: A parameter has no value.
    """
    types = connection.execute(
        """SELECT o.place::int AS number, t.oid, t.typname AS name, t.typcategory AS category,
                  (SELECT e.enumlabel FROM pg_enum e WHERE e.enumtypid = t.oid ORDER BY e.enumsortorder LIMIT 1) AS label
           FROM pg_prepared_statements p CROSS JOIN unnest(p.parameter_types) WITH ORDINALITY o (type, place)
           JOIN pg_type t ON t.oid = o.type WHERE p.name = %s ORDER BY 1""",
        [PREPARED],
    ).fetchall()
    known: dict[int, str | None] = {**_of_rows(connection, statement, found), **statement.given}
    values = []
    for row in types:
        number = row["number"]
        if number not in known:
            known[number] = _OF_TYPE.get(row["category"], _OF_NAME.get(row["name"], row["label"]))
            if known[number] is None:
                raise Unfit(f"no value for ${number} of type {row['name']}")
        values.append(known[number])
    return values


def _of_rows(connection: Connection, statement: Statement, found: Shape) -> dict[int, str]:
    """Take values from rows; all values of one table come from the same row."""
    by_table: dict[int, dict[int, Use]] = defaultdict(dict)
    for number, use in statement.uses.items():
        alias = owner_of_column(found, use.qualifier, use.column)
        if alias is not None and number not in statement.given:
            by_table[found[alias][0]][number] = use
    values: dict[int, str] = {}
    for oid, uses in by_table.items():
        values |= _of_table(connection, oid, uses)
    return values


def _of_table(connection: Connection, oid: int, uses: Mapping[int, Use]) -> dict[int, str]:
    columns = list(dict.fromkeys(use.column for use in uses.values()))
    name, unique = _table(connection, oid)
    table = sql.SQL(name)
    terms = [sql.SQL("t.{}").format(sql.Identifier(each)) for each in columns]
    rows = connection.execute(
        sql.SQL("SELECT {}, {} FROM {} t ORDER BY {} LIMIT 2").format(
            sql.SQL(", ").join(
                sql.SQL("{}::text AS {}").format(term, sql.Identifier(each))
                for term, each in zip(terms, columns, strict=True)
            ),
            sql.SQL(", ").join(
                sql.SQL("ARRAY[{}]::text AS {}").format(term, sql.Identifier(f"{each} listed"))
                for term, each in zip(terms, columns, strict=True)
            ),
            table,
            sql.SQL(" + ").join(sql.SQL("({} IS NULL)::int").format(term) for term in terms),
        )
    ).fetchall()
    values = {}
    for number, use in uses.items():
        if use.way != "compared" and (category := unique.get(use.column)) is not None:
            if category in _UNUSED:
                term = sql.SQL(_UNUSED[category]).format(c=sql.Identifier("t", use.column))
                values[number] = one(connection, sql.SQL("SELECT ({})::text AS it FROM {} t").format(term, table))["it"]
            else:
                values[number] = one(connection, "SELECT gen_random_uuid()::text AS it")["it"]
        elif rows:
            row = rows[-1 if use.way == "set" else 0]
            values[number] = row[f"{use.column} listed" if use.listed else use.column]
    return {number: value for number, value in values.items() if value is not None}


def _table(connection: Connection, oid: int) -> tuple[str, dict[str, str]]:
    """Read a table's name and its unique-index columns without foreign keys, with their type categories. Read-only."""
    rows = connection.execute(
        """SELECT a.attname AS column, CASE t.typname WHEN 'uuid' THEN 'uuid' ELSE t.typcategory::text END AS category
           FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
           WHERE a.attrelid = %(oid)s AND a.attnum > 0 AND NOT a.attisdropped
             AND (t.typcategory IN ('N', 'S', 'D') OR t.typname = 'uuid')
             AND EXISTS (SELECT FROM pg_index i
                         WHERE i.indrelid = a.attrelid AND i.indisunique AND a.attnum = ANY (i.indkey::int2[]))
             AND NOT EXISTS (SELECT FROM pg_constraint k
                             WHERE k.conrelid = a.attrelid AND k.contype = 'f' AND a.attnum = ANY (k.conkey))""",
        {"oid": oid},
    )
    name = one(connection, "SELECT %s::regclass::text AS it", [oid])["it"]
    return name, {row["column"]: row["category"] for row in rows}
