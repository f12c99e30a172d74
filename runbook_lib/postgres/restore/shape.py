"""The tables of a database that hold rows: their columns, keys and foreign keys."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from itertools import groupby

from psycopg import sql

from runbook_lib.postgres import Connection
from runbook_lib.postgres.catalog import OWN_SCHEMA
from runbook_lib.postgres.fingerprint import EXACT, hashable

Name = tuple[str, str]  # schema and table

# Equal key values name the same row, though their text may differ: 1.0 and 1.00.
KEYS_AS_THEY_ARE = EXACT | {"numeric", "float4", "float8", "bpchar", "interval"}
INTEGERS = {"int2", "int4", "int8"}


@dataclass(frozen=True)
class Column:
    """A column; `cast` is its type without a length, `base` that type's name if it is built in, else empty."""

    name: str
    cast: str
    base: str
    nullable: bool
    generated: bool
    always: bool  # GENERATED ALWAYS AS IDENTITY
    required: bool  # NOT NULL, without a default or identity


@dataclass(frozen=True)
class Table:
    """A table, or the root of a partitioned one."""

    schema: str
    name: str
    partitioned: bool
    foreign: bool
    extension: str  # the extension that owns it
    columns: tuple[Column, ...]
    keys: tuple[tuple[str, ...], ...]  # the primary key, then other unique keys whose columns are NOT NULL
    unique: tuple[tuple[str, ...], ...]  # those, and the other unique keys
    seen_as: sql.Composed | None = None  # a query to read instead of the table itself

    @property
    def id(self) -> Name:
        """Schema and name."""
        return self.schema, self.name

    @property
    def rows(self) -> sql.Composed:
        """The SQL to select from, which gives each row once."""
        return self.seen_as or sql.SQL("{}{}").format(sql.SQL("" if self.partitioned else "ONLY "), sql.Identifier(*self.id))

    def column(self, name: str) -> Column:
        """Return a column by its name."""
        return next(column for column in self.columns if column.name == name)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of its columns."""
        return tuple(column.name for column in self.columns)


@dataclass(frozen=True)
class ForeignKey:
    """A table's reference to another, or to itself."""

    name: str
    table: Name
    columns: tuple[str, ...]
    target: Name
    target_columns: tuple[str, ...]
    deferrable: bool
    empties: bool  # ON DELETE SET NULL or SET DEFAULT


_TABLES = """
SELECT c.oid, n.nspname AS schema, c.relname AS name, c.relkind = 'p' AS partitioned, c.relkind = 'f' AS foreign,
       coalesce((SELECT e.extname FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid
                 WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e'), '') AS extension
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'f') AND NOT c.relispartition AND c.relpersistence <> 't'
  AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast', %s)
ORDER BY schema, name
"""

_COLUMNS = """
SELECT a.attrelid AS oid, a.attname AS name, format_type(a.atttypid, -1) AS cast,
       CASE WHEN t.typtype = 'b' AND t.typnamespace = 'pg_catalog'::regnamespace THEN t.typname ELSE '' END AS base,
       NOT a.attnotnull AS nullable, a.attgenerated <> '' AS generated, a.attidentity = 'a' AS always,
       a.attnotnull AND NOT a.atthasdef AND a.attidentity = '' AS required
FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
WHERE a.attrelid = ANY (%s) AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attrelid, a.attnum
"""

_UNIQUE = """
SELECT i.indrelid AS oid, array_agg(a.attname::text ORDER BY k.place) AS columns, bool_and(a.attnotnull) AS key
FROM pg_index i
CROSS JOIN LATERAL unnest(i.indkey::int2[]) WITH ORDINALITY k(attnum, place)
JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
WHERE i.indrelid = ANY (%s) AND i.indisunique AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL
  AND k.place <= i.indnkeyatts
GROUP BY i.indrelid, i.indexrelid, i.indisprimary
ORDER BY i.indrelid, i.indisprimary DESC, count(*), columns
"""

_FOREIGN_KEYS = """
SELECT k.conname AS name, n.nspname AS schema, c.relname AS table, tn.nspname AS target_schema, tc.relname AS target,
       (SELECT array_agg(a.attname::text ORDER BY u.place) FROM unnest(k.conkey) WITH ORDINALITY u(attnum, place)
        JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = u.attnum) AS columns,
       (SELECT array_agg(a.attname::text ORDER BY u.place) FROM unnest(k.confkey) WITH ORDINALITY u(attnum, place)
        JOIN pg_attribute a ON a.attrelid = k.confrelid AND a.attnum = u.attnum) AS target_columns,
       k.condeferrable AS deferrable, k.confdeltype IN ('n', 'd') AS empties
FROM pg_constraint k
JOIN pg_class c ON c.oid = coalesce(pg_partition_root(k.conrelid), k.conrelid)
JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_class tc ON tc.oid = coalesce(pg_partition_root(k.confrelid), k.confrelid)
JOIN pg_namespace tn ON tn.oid = tc.relnamespace
WHERE k.contype = 'f' AND k.conparentid = 0 AND n.nspname <> %s
  AND coalesce(to_jsonb(k) ->> 'conenforced', 'true') = 'true'  -- since 18 a key may be NOT ENFORCED
ORDER BY schema, c.relname, k.conname
"""


def tables(connection: Connection) -> dict[Name, Table]:
    """Return every table except the system's and the runbook's, by name. Read-only."""
    found = connection.execute(_TABLES, [OWN_SCHEMA]).fetchall()
    oids = [row.pop("oid") for row in found]
    columns = {
        oid: tuple(Column(**{name: value for name, value in row.items() if name != "oid"}) for row in rows)
        for oid, rows in groupby(connection.execute(_COLUMNS, [oids]).fetchall(), lambda row: row["oid"])
    }
    unique = {
        oid: [(tuple(row["columns"]), row["key"]) for row in rows]
        for oid, rows in groupby(connection.execute(_UNIQUE, [oids]).fetchall(), lambda row: row["oid"])
    }
    return {
        (row["schema"], row["name"]): Table(
            **row,
            columns=columns.get(oid, ()),
            keys=tuple(names for names, key in unique.get(oid, ()) if key),
            unique=tuple(names for names, _ in unique.get(oid, ())),
        )
        for oid, row in zip(oids, found, strict=True)
    }


def foreign_keys(connection: Connection) -> list[ForeignKey]:
    """Return every foreign key, those of partitions as their root's. Read-only."""
    return [
        ForeignKey(
            row["name"],
            (row["schema"], row["table"]),
            tuple(row["columns"]),
            (row["target_schema"], row["target"]),
            tuple(row["target_columns"]),
            row["deferrable"],
            row["empties"],
        )
        for row in connection.execute(_FOREIGN_KEYS, [OWN_SCHEMA])
    ]


def written(name: Name) -> str:
    """Format a schema and a name; quoted if it would be ambiguous otherwise."""
    return ".".join('"{}"'.format(part.replace('"', '""')) if {".", '"'} & set(part) else part for part in name)


def shared_key(live: Table, backup: Table) -> tuple[str, ...]:
    """Return the columns that are a key of a table in both databases; empty if there are none."""
    there = {frozenset(key) for key in backup.keys}
    return next((key for key in live.keys if frozenset(key) in there), ())


def comparable(live: Table, backup: Table, names: Iterable[str], *, key: bool = False) -> list[sql.Composable]:
    """Return terms for columns of a table `t` whose hashes are equal exactly if the values are, in either database."""
    exact = KEYS_AS_THEY_ARE if key else EXACT
    terms: list[sql.Composable] = []
    for name in names:
        here, there = live.column(name).base, backup.column(name).base
        terms.append(hashable(sql.Identifier("t", name), here if here == there else "", exact))
    return terms


@dataclass(frozen=True)
class Order:
    """The order in which a cycle of tables is filled, and which references are filled or checked last."""

    tables: tuple[Name, ...]
    emptied: tuple[ForeignKey, ...] = ()
    deferred: tuple[ForeignKey, ...] = ()


def components(tables: Collection[Name], keys: Iterable[ForeignKey]) -> list[tuple[Name, ...]]:
    """Group tables that refer to one another in a cycle; referenced groups come first."""
    targets = {table: sorted({key.target for key in keys if key.table == table} & set(tables)) for table in sorted(tables)}
    number: dict[Name, int] = {}
    lowest: dict[Name, int] = {}
    path: list[Name] = []
    found: list[tuple[Name, ...]] = []

    def visit(table: Name) -> None:  # Tarjan's algorithm
        number[table] = lowest[table] = len(number)
        path.append(table)
        for target in targets[table]:
            if target not in number:
                visit(target)
                lowest[table] = min(lowest[table], lowest[target])
            elif target in path:
                lowest[table] = min(lowest[table], number[target])
        if lowest[table] == number[table]:
            place = path.index(table)
            found.append(tuple(sorted(path[place:])))
            del path[place:]

    for table in targets:
        if table not in number:
            visit(table)
    return found


def order(component: Collection[Name], keys: Iterable[ForeignKey], can_be_empty: Collection[ForeignKey]) -> Order | None:
    """Return how to fill tables that refer to one another; None if no reference between them can be deferred."""
    within = [k for k in keys if k.table in component and k.target in component and k.table != k.target]
    emptied: list[ForeignKey] = []
    deferred: list[ForeignKey] = []
    while True:
        kept = [key for key in within if key not in emptied and key not in deferred]
        graph = {table: {key.target for key in kept if key.table == table} for table in sorted(component)}
        try:
            return Order(tuple(TopologicalSorter(graph).static_order()), tuple(emptied), tuple(deferred))
        except CycleError as error:
            circle: list[Name] = error.args[1]
            steps = set(zip(circle[1:], circle, strict=False))  # each table and one that it references
        closing = [key for key in kept if (key.table, key.target) in steps]
        empty, late = (next(filter(test, closing), None) for test in (can_be_empty.__contains__, _deferrable))
        if empty:
            emptied.append(empty)
        elif late:
            deferred.append(late)
        else:
            return None


def _deferrable(key: ForeignKey) -> bool:
    return key.deferrable
