"""Copies a few rows of the tables that statements name, with the rows they refer to, into an empty clone."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from psycopg import sql

from runbook_lib.postgres import Connection
from runbook_lib.postgres.exercise.statement import Named, Statement
from runbook_lib.postgres.restore.shape import ForeignKey, Name, Table, foreign_keys, tables
from runbook_lib.postgres.text_settings import pin

ROWS = 5  # for each table that a statement names
MOST = 10_000  # rows in all, including those that others refer to
TIMEOUT = "10s"  # for each query on the target

_Row = tuple[str | None, ...]
_Rows = dict[Name, tuple[Table, list[_Row]]]
_SEQUENCES = """SELECT format('%I.%I', schemaname, sequencename) AS name, last_value AS last FROM pg_sequences
WHERE last_value IS NOT NULL"""


@dataclass(frozen=True)
class Sample:
    """Rows of tables, and the last value of each sequence."""

    rows: _Rows
    sequences: Mapping[str, int]


def sample(
    connection: Connection,
    statements: Iterable[Statement],
    search_path: str,
    left_out: Collection[Name] = (),
    conditions: Mapping[Name, sql.Composable] | None = None,
) -> Sample:
    """Read some rows of each table that statements name, as text, and all rows they refer to, each once. Read-only.

    Extensions' tables are left out too, since extensions fill them. `conditions` select rows `t` of further tables.
    """
    named = {each for statement in statements for each in statement.tables}
    with connection.transaction(force_rollback=True):
        pin(connection, local=True, search_path=search_path, statement_timeout=TIMEOUT)
        ids = _tables_of(connection, named)
        pin(connection, local=True, search_path="")
        known = {
            id: table for id, table in tables(connection).items() if not (table.foreign or table.extension or id in left_out)
        }
        keys = foreign_keys(connection)
        sequences = connection.execute(_SEQUENCES).fetchall()
        found: _Rows = {}
        added = {id: _rows(connection, known[id], sql.SQL("LIMIT {}").format(ROWS)) for id in ids if id in known}
        for id, condition in (conditions or {}).items():
            which = sql.SQL("WHERE {} LIMIT {}").format(condition, ROWS)
            added[id] = [*added.get(id, []), *_rows(connection, known[id], which)]
        while added := _new(found, known, added):
            if sum(len(rows) for _, rows in found.values()) > MOST:
                break
            added = _referred_to(connection, known, keys, added)
    return Sample(found, {row["name"]: row["last"] for row in sequences})


def copy_into(connection: Connection, found: Sample) -> None:
    """Insert rows into tables that have no constraints or triggers yet. Changes the clone."""
    with connection.transaction():
        pin(connection, local=True, search_path="")
        for name, last in found.sequences.items():
            connection.execute("SELECT setval(s, %s) FROM to_regclass(%s) s", [last, name])
        for table, rows in found.rows.values():
            names = sql.SQL(", ").join(map(sql.Identifier, _names(table)))
            into = sql.SQL("COPY {} ({}) FROM STDIN").format(sql.Identifier(*table.id), names)
            with connection.cursor().copy(into) as copy:
                for row in rows:
                    copy.write_row(row)


def _names(table: Table) -> list[str]:
    return [column.name for column in table.columns if not column.generated]


def _rows(connection: Connection, table: Table, which: sql.Composable) -> list[_Row]:
    terms = sql.SQL(", ").join(sql.SQL("t.{0}::text AS {0}").format(sql.Identifier(name)) for name in _names(table))
    query = sql.SQL("SELECT {} FROM {} t {}").format(terms, table.rows, which)
    return [tuple(row.values()) for row in connection.execute(query)] if _names(table) else []


def _new(found: _Rows, known: dict[Name, Table], added: dict[Name, list[_Row]]) -> dict[Name, list[_Row]]:
    """Add rows to those found, and return the new ones."""
    fresh: dict[Name, list[_Row]] = {}
    for id, rows in added.items():
        _, there = found.setdefault(id, (known[id], []))
        seen = set(there)
        if new := [row for row in dict.fromkeys(rows) if row not in seen]:
            there += new
            fresh[id] = new
    return fresh


def _referred_to(
    connection: Connection, known: dict[Name, Table], keys: Sequence[ForeignKey], added: dict[Name, list[_Row]]
) -> dict[Name, list[_Row]]:
    found: dict[Name, list[_Row]] = {}
    for key in keys:
        if key.table in added and key.target in known:
            places = [_names(known[key.table]).index(name) for name in key.columns if name in _names(known[key.table])]
            values = {tuple(row[place] for place in places) for row in added[key.table]}
            complete = [each for each in values if None not in each and len(each) == len(key.columns)]
            if complete:
                columns = sql.SQL(", ").join(sql.Identifier("t", name) for name in key.target_columns)
                lists = sql.SQL(", ").join(
                    sql.SQL("({})").format(sql.SQL(", ").join(map(sql.Literal, each))) for each in sorted(complete)
                )
                which = sql.SQL("WHERE ({}) IN ({})").format(columns, lists)
                found.setdefault(key.target, []).extend(_rows(connection, known[key.target], which))
    return found


def _tables_of(connection: Connection, named: Collection[Named]) -> list[Name]:
    """Find the tables behind names, also through views; a partition counts as its root table. Read-only."""
    rows = connection.execute(
        """WITH RECURSIVE reached AS (
               SELECT to_regclass(CASE n.schema WHEN '' THEN '' ELSE quote_ident(n.schema) || '.' END
                                  || quote_ident(n.name))::oid AS oid
               FROM unnest(%s::text[], %s::text[]) n (schema, name)
               UNION
               SELECT d.refobjid FROM reached r JOIN pg_rewrite w ON w.ev_class = r.oid
               JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = w.oid
                   AND d.refclassid = 'pg_class'::regclass)
           SELECT DISTINCT n.nspname::text AS schema, c.relname::text AS name FROM reached r
           JOIN pg_class c ON c.oid = coalesce(pg_partition_root(r.oid), r.oid) AND c.relkind IN ('r', 'p')
           JOIN pg_namespace n ON n.oid = c.relnamespace ORDER BY 1, 2""",
        [[each.schema for each in named], [each.name for each in named]],
    )
    return [(row["schema"], row["name"]) for row in rows]
