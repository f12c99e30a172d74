"""Builds the state after a rollback of data only: the schema after the migrations, with the rows from before them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import psycopg

from runbook_lib.postgres import Connection
from runbook_lib.postgres.changes.kinds import catalog_of
from runbook_lib.postgres.changes.net_change import Refusal, renames
from runbook_lib.postgres.changes.objects import Catalog, Object, literal, quote, short
from runbook_lib.postgres.changes.rows import SCRATCH, Source, candidates, execute, is_key, load, quoted_list, rekeyed
from runbook_lib.postgres.changes.work import said
from runbook_lib.postgres.text_settings import pin

GONE = "it was dropped, so the schema that stays cannot hold its earlier values"


@dataclass
class _Table:
    """A table of both states, loaded as text tables of the second; columns by their names in it."""

    made: Object
    place: int
    common: Mapping[str, Object]  # name -> the column
    key: list[str] = field(default_factory=list)

    def of(self, state: str) -> str:
        """Name the text table that holds a state."""
        return f'{SCRATCH}."{state} {self.place}"'

    def typed(self, column: str) -> str:
        """Return SQL of a column's earlier value in its present type."""
        return f"w.{quote(column)}::{self.common[column].definition['type']}"

    def on(self, other: str) -> str:
        """Build the condition that a row has the key of an earlier row."""
        if other == "t":
            return " AND ".join(f"t.{quote(each)} = {self.typed(each)}" for each in self.key)
        return " AND ".join(f"{other}.{quote(each)} = w.{quote(each)}" for each in self.key)


def bring_rows_back(before: Connection, kept: Connection, histories: Collection[str]) -> list[Refusal]:
    """Give a copy of the state after the rows from before; return why that fails, if it does. Changes the copy.

    Args:
        before: The state before.
        kept: The copy.
        histories: Tables in which tools record migrations, by name. They describe the schema, so their rows stay.
    """
    was, made = catalog_of(before), catalog_of(kept)
    if refused := _dropped(was, made):
        return refused
    try:
        execute(kept, f"CREATE SCHEMA IF NOT EXISTS {SCRATCH}")
        with kept.transaction():
            pin(kept, local=True, search_path="", row_security="off")
            execute(kept, "SET LOCAL session_replication_role = replica")  # no trigger fires, and order does not matter
            for place, table in enumerate(made.of("table")):
                if not table.definition["bound"] and table.name not in histories:
                    refused += _bring_back(before, kept, was, made, table, place)
    except psycopg.Error as error:
        return [
            Refusal(
                error.diag.column_name or error.diag.table_name or "data-only", f"in the schema that stays: {said(error)}"
            )
        ]
    return refused


def _dropped(was: Catalog, made: Catalog) -> list[Refusal]:
    """Refuse what no longer exists; an object recreated under the same name is another object."""
    gone = [each for kind in ("table", "column") for each in was.of(kind) if f"{kind} {each.id}" not in made.by_id]
    tables = {each.key for each in gone if each.kind == "table"}
    return [Refusal(short(each.address), GONE) for each in gone if each.parent not in tables]


def _bring_back(
    before: Connection, kept: Connection, was: Catalog, made: Catalog, table: Object, place: int
) -> list[Refusal]:
    there = was.by_id.get(f"table {table.id}")
    if there is None:
        execute(kept, f"DELETE FROM {table.quoted}")
        return []
    columns = [each for each in made.parts(table, "column") if not each.definition["generated"]]
    names = {each.name: old.name for each in columns if (old := was.by_id.get(f"column {each.id}"))}
    found = _Table(table, place, {each.name: each for each in columns if each.name in names})
    load(kept, found.of("was"), Source(before, there.rows, names))
    _relabel(kept, was, made, found)
    load(kept, found.of("made"), Source(kept, table.rows, {name: name for name in names}))
    if rekeyed(kept, table):
        return [Refusal(table.name, "the migration gave rows another key")]
    now = {old: name for name, old in names.items()}
    keys = [[now.get(c, "") for c in key] for key in candidates(was, there)] + candidates(made, table)
    both = [found.of("was"), found.of("made")]
    found.key = next((key for key in keys if set(key) <= {*names} and is_key(kept, both, key)), [])
    if not found.key:
        return [] if _same(kept, found) else [Refusal(table.name, "its rows were written, and the table has no key")]
    retyped = [
        n
        for n, column in found.common.items()
        if was.by_id[f"column {column.id}"].definition["type"] != column.definition["type"]
    ]
    if converted := [name for name in retyped if _differs(kept, found, name)]:
        return [Refusal(name, "its type was changed, and its values with it") for name in converted]
    _write(kept, found, [each for each in columns if each.name not in names and not _numbers_itself(each)])
    return []


def _relabel(kept: Connection, was: Catalog, made: Catalog, table: _Table) -> None:
    """Give enum values their present labels."""
    labels = {each.after.address: each.labels for each in renames(was, made) if each.labels}
    for name, column in table.common.items():
        if renamed := labels.get(column.definition["type"]):
            cases = " ".join(f"WHEN {literal(old)} THEN {literal(new)}" for new, old in renamed.items())
            c = quote(name)
            execute(kept, f"UPDATE {table.of('was')} SET {c} = CASE {c} {cases} ELSE {c} END")


def _numbers_itself(column: Object) -> bool:
    return bool(column.definition["identity"]) or "nextval(" in (column.definition["default"] or "")


def _same(kept: Connection, table: _Table) -> bool:
    listed, both = quoted_list(table.common), (table.of("was"), table.of("made"))
    parts = [f"(SELECT {listed} FROM {a} EXCEPT ALL SELECT {listed} FROM {b})" for a, b in (both, both[::-1])]
    return not execute(kept, f"SELECT 1 AS n FROM ({' UNION ALL '.join(parts)}) d LIMIT 1")


def _differs(kept: Connection, table: _Table, column: str) -> bool:
    cast = f"{table.typed(column)}::text"
    pairs = f"{table.of('made')} m JOIN {table.of('was')} w ON {table.on('m')}"
    return bool(execute(kept, f"SELECT 1 AS n FROM {pairs} WHERE m.{quote(column)} IS DISTINCT FROM {cast} LIMIT 1"))


def _write(kept: Connection, table: _Table, created: list[Object]) -> None:
    """Restore rows and values, reset created columns to their defaults, and delete later rows."""
    rows, was = table.made.rows, f"{table.of('was')} w"
    terms = ", ".join(map(table.typed, table.common))
    missing = f"NOT EXISTS (SELECT FROM {table.of('made')} m WHERE {table.on('m')})"
    execute(
        kept,
        f"INSERT INTO {table.made.quoted} ({quoted_list(table.common)}) OVERRIDING SYSTEM VALUE "
        f"SELECT {terms} FROM {was} WHERE {missing}",
    )
    for name, column in table.common.items():
        if name not in table.key and not column.definition["identity"]:
            differs = f"t.{quote(name)}::text IS DISTINCT FROM {table.typed(name)}::text"
            execute(
                kept,
                f"UPDATE {rows} t SET {quote(name)} = {table.typed(name)} FROM {was} WHERE {table.on('t')} AND {differs}",
            )
    for each in created:
        execute(kept, f"UPDATE {rows} t SET {quote(each.name)} = DEFAULT")
    execute(kept, f"DELETE FROM {rows} t WHERE NOT EXISTS (SELECT FROM {was} WHERE {table.on('t')})")
