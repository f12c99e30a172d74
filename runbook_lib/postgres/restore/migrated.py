"""What a feature's migrations write, found by running them on a copy of a restored backup: none of it is user data.

For each table they write to, the restored database keeps those rows as they were before and after the migrations. A
comparison reads the live database through that: a value still as the migrations left it counts as the one before them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from psycopg import sql

from runbook_lib.postgres import Connection
from runbook_lib.postgres.catalog import OWN_SCHEMA
from runbook_lib.postgres.connection import copied, exists, one
from runbook_lib.postgres.restore.difference_kinds import Kind
from runbook_lib.postgres.restore.shape import Column, Name, Table, written
from runbook_lib.postgres.restore.stream import pin

COMMA, AND = sql.SQL(", "), sql.SQL(" AND ")
TEXT = "text"  # stores a value whose type may differ elsewhere


@dataclass(frozen=True)
class Migrated:
    """The rows of one table that migrations write; `unknown` says why they cannot be known."""

    schema: str
    name: str
    store: str = ""  # the table in the runbook's schema that stores them
    key: Mapping[str, str] = field(default_factory=dict)  # column -> type in the store
    columns: Mapping[str, str] = field(default_factory=dict)  # the other columns, likewise
    changing: Sequence[str] = ()  # columns where each run of the migrations writes another value
    rows: int = 0
    unknown: str = ""

    @property
    def table(self) -> str:
        """Its schema.name; an unknown table has none."""
        return written((self.schema, self.name)) if self.name else "what the migrations write"

    def k(self, name: str) -> sql.Identifier:
        """The store's column for a key column."""
        return sql.Identifier(f"k{list(self.key).index(name)}")

    def b(self, name: str) -> sql.Identifier:
        """The store's column for a column's value before the migrations."""
        return sql.Identifier(f"b{list(self.columns).index(name)}")

    def a(self, name: str) -> sql.Identifier:
        """The store's column for a column's value after the migrations, as text."""
        return sql.Identifier(f"a{list(self.columns).index(name)}")

    @property
    def held(self) -> list[tuple[sql.Identifier, str]]:
        """The store's columns with their types, in order, without the kind of row."""
        both = [part for name, type_ in self.columns.items() for part in ((self.b(name), type_), (self.a(name), "text"))]
        return [*((self.k(name), type_) for name, type_ in self.key.items()), *both]


def kept(staging: Connection, run: str) -> list[Migrated] | None:
    """Return what is kept of a run; None if nothing was derived yet. Read-only."""
    table = sql.Identifier(OWN_SCHEMA, listed_in(run))
    if not exists(staging, table):
        return None
    content: list[dict[str, Any]] = one(staging, sql.SQL("SELECT content FROM {}").format(table))["content"]
    return [Migrated(**each) for each in content]


def forget(staging: Connection, run: str) -> None:
    """Drop what is kept of a run, or of an interrupted try. Changes that database, only in the runbook's schema."""
    names = staging.execute(
        "SELECT tablename AS it FROM pg_tables WHERE schemaname = %s AND tablename ~ %s",
        [OWN_SCHEMA, f"^migrated_{run}(_[0-9]+)?(_rows)?$"],
    )
    for row in names.fetchall():
        staging.execute(sql.SQL("DROP TABLE {}").format(sql.Identifier(OWN_SCHEMA, row["it"])))


def bring(staging: Connection, live: Connection, run: str) -> list[Migrated]:
    """Copy what was kept of a run into temporary tables of a session on the live database, for `through` to read.

    Changes nothing outside that session.
    """
    found = kept(staging, run) or []
    for each in found:
        if each.unknown:
            continue
        columns = [sql.SQL("kind text"), *(sql.SQL("{} {}").format(name, sql.SQL(type_)) for name, type_ in each.held)]
        live.execute(sql.SQL("CREATE TEMPORARY TABLE {} ({})").format(sql.Identifier(each.store), COMMA.join(columns)))
        with live.transaction(), staging.transaction():
            pin(live)
            pin(staging)
            into, source = _temporary(each), sql.Identifier(OWN_SCHEMA, each.store)
            rows = sql.SQL("COPY {} TO STDOUT").format(source)
            copied(staging, rows, live, sql.SQL("COPY {} FROM STDIN").format(into))
        live.execute(sql.SQL("CREATE UNIQUE INDEX ON {} ({})").format(into, COMMA.join(map(each.k, each.key))))
        live.execute(sql.SQL("ANALYZE {}").format(into))
    return found


def through(table: Table, migrated: Migrated) -> Table:
    """Read a table of the live database with each value that the migrations left replaced by the one before them. Pure."""
    key, columns = migrated.key, migrated.columns
    there = {name: type_ for name, type_ in columns.items() if name in table.names}
    still = {name: sql.SQL("{} IS NOT DISTINCT FROM m.{}").format(as_text(name), migrated.a(name)) for name in there}
    stable = [term for name, term in still.items() if name not in migrated.changing]
    untouched = AND.join(stable) if stable else sql.SQL("TRUE")
    seen, terms, before = [], [], []
    for column in table.columns:
        name, own = column.name, sql.Identifier("t", column.name)
        same = column.base and there.get(name) == column.cast
        if name not in there:
            term: sql.Composable = own
        else:
            is_still = untouched if name in migrated.changing else still[name]
            value = own if same else as_text(name)
            term = sql.SQL("CASE WHEN m.kind = {} AND {} THEN m.{} ELSE {} END").format(
                sql.Literal(str(Kind.CHANGED)), is_still, migrated.b(name), value
            )
        seen.append(column if name not in there or same else replace(column, cast=TEXT, base=TEXT))
        terms.append(sql.SQL("{} AS {}").format(term, sql.Identifier(name)))
        before.append(_before(column, migrated))
    on = AND.join(
        sql.SQL("{} = m.{}").format(sql.Identifier("t", name) if type_ != TEXT else as_text(name), migrated.k(name))
        for name, type_ in key.items()
    )
    of = {"table": table.rows, "m": _temporary(migrated), "on": on}
    rows = sql.SQL(
        "SELECT {terms} FROM {table} t LEFT JOIN {m} m ON {on} WHERE m.kind IS DISTINCT FROM {new} OR NOT ({same})"
    )
    deleted = sql.SQL(
        "SELECT {before} FROM {m} m WHERE m.kind = {deleted} AND NOT EXISTS (SELECT FROM {table} t WHERE {on})"
    )
    kinds = {"new": sql.Literal(str(Kind.NEW)), "deleted": sql.Literal(str(Kind.DELETED))}
    whole = sql.SQL("({} UNION ALL {})").format(
        rows.format(terms=COMMA.join(terms), same=untouched, **of, **kinds),
        deleted.format(before=COMMA.join(before), **of, **kinds),
    )
    return replace(table, columns=tuple(seen), seen_as=whole)


def seen(found: Sequence[Migrated], live: Mapping[Name, Table]) -> dict[Name, Table]:
    """Return the live tables, each that migrations write to read through what was kept of it. Pure."""
    by_name = {(each.schema, each.name): each for each in found if not each.unknown}
    return {
        name: through(table, by_name[name]) if name in by_name and set(by_name[name].key) <= set(table.names) else table
        for name, table in live.items()
    }


def _before(column: Column, migrated: Migrated) -> sql.Composable:
    """Return a column of a row that the migrations deleted."""
    name = column.name
    if name in migrated.key:
        return sql.SQL("m.{}::{}").format(migrated.k(name), sql.SQL(column.cast))
    if name in migrated.columns:
        return sql.SQL("m.{}").format(migrated.b(name))
    return sql.SQL("NULL::{}").format(sql.SQL(column.cast))


def kept_as(name: str, type_: str) -> sql.Composable:
    """Return a column of a row `t`, in its stored type. Pure."""
    return sql.Identifier("t", name) if type_ != TEXT else as_text(name)


def as_text(name: str) -> sql.Composed:
    """Return a column of a row `t`, as text. Pure."""
    return sql.SQL("{}::text").format(sql.Identifier("t", name))


def _temporary(migrated: Migrated) -> sql.Identifier:
    return sql.Identifier("pg_temp", migrated.store)


def listed_in(run: str) -> str:
    """Return the table in the runbook's schema that lists what is kept of a run. Pure."""
    return f"migrated_{run}"
