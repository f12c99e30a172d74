"""The tables of a database that hold rows of its own: their columns, and the keys that tell rows apart."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby

from psycopg import sql

from runbook_lib.adapters.postgres.catalog import OWN_SCHEMA
from runbook_lib.adapters.postgres.connection import Connection

Name = tuple[str, str]  # schema and table

# Built-in types whose hash tells any two values apart that their text tells apart, in any database.
HASHED_AS_THEY_ARE = {
    *(
        "bool",
        "int2",
        "int4",
        "int8",
        "text",
        "varchar",
        "name",
        "bytea",
        "uuid",
        "date",
        "time",
        "timestamp",
        "timestamptz",
    ),
}
# Of a key, values that are equal name the same row, though their text may differ: 1.0 and 1.00.
KEYS_AS_THEY_ARE = HASHED_AS_THEY_ARE | {"numeric", "float4", "float8", "bpchar", "interval"}
INTEGERS = {"int2", "int4", "int8"}


@dataclass(frozen=True)
class Column:
    """A column; `base` names its type where that is a built-in one, and is empty where not."""

    name: str
    type: str
    base: str
    generated: bool
    always_identity: bool
    required: bool  # NOT NULL, and nothing fills it in


@dataclass(frozen=True)
class Table:
    """A table, or the root of a partitioned one; its keys are the primary one, then others of columns that are NOT NULL."""

    schema: str
    name: str
    partitioned: bool
    foreign: bool
    extension: str  # that it belongs to
    columns: tuple[Column, ...]
    keys: tuple[tuple[str, ...], ...]

    @property
    def id(self) -> Name:
        """Schema and name."""
        return self.schema, self.name

    @property
    def rows(self) -> sql.Composed:
        """What to select from, so that each of its rows comes once."""
        return sql.SQL("{}{}").format(sql.SQL("" if self.partitioned else "ONLY "), sql.Identifier(*self.id))

    def column(self, name: str) -> Column:
        """A column by its name."""
        return next(column for column in self.columns if column.name == name)


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
SELECT a.attrelid AS oid, a.attname AS name, format_type(a.atttypid, a.atttypmod) AS type,
       CASE WHEN t.typtype = 'b' AND t.typnamespace = 'pg_catalog'::regnamespace THEN t.typname ELSE '' END AS base,
       a.attgenerated <> '' AS generated, a.attidentity = 'a' AS always_identity,
       a.attnotnull AND NOT a.atthasdef AND a.attidentity = '' AS required
FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
WHERE a.attrelid = ANY (%s) AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attrelid, a.attnum
"""

_KEYS = """
SELECT i.indrelid AS oid, array_agg(a.attname::text ORDER BY k.place) AS columns
FROM pg_index i
CROSS JOIN LATERAL unnest(i.indkey::int2[]) WITH ORDINALITY k(attnum, place)
JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
WHERE i.indrelid = ANY (%s) AND i.indisunique AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL
  AND k.place <= i.indnkeyatts
GROUP BY i.indrelid, i.indexrelid, i.indisprimary
HAVING bool_and(a.attnotnull)
ORDER BY i.indrelid, i.indisprimary DESC, count(*), columns
"""


def tables(connection: Connection) -> dict[Name, Table]:
    """Every table that is not the system's or the runbook's, by name. Read-only."""
    found = connection.execute(_TABLES, [OWN_SCHEMA]).fetchall()
    oids = [row["oid"] for row in found]
    columns = {
        oid: tuple(Column(**{k: v for k, v in row.items() if k != "oid"}) for row in rows)
        for oid, rows in groupby(connection.execute(_COLUMNS, [oids]).fetchall(), lambda row: row["oid"])
    }
    keys = {
        oid: tuple(tuple(row["columns"]) for row in rows)
        for oid, rows in groupby(connection.execute(_KEYS, [oids]).fetchall(), lambda row: row["oid"])
    }
    return {
        (row["schema"], row["name"]): Table(
            row["schema"],
            row["name"],
            row["partitioned"],
            row["foreign"],
            row["extension"],
            columns.get(row["oid"], ()),
            keys.get(row["oid"], ()),
        )
        for row in found
    }


def shared_key(live: Table, backup: Table) -> tuple[str, ...]:
    """The columns that are a key of a table in both databases; none where there are none."""
    there = {frozenset(key) for key in backup.keys}
    return next((key for key in live.keys if frozenset(key) in there), ())


def comparable(live: Table, backup: Table, names: Iterable[str], *, key: bool = False) -> list[sql.Composable]:
    """Terms for columns of a table `t` whose hashes are equal exactly where the values are, in either database."""
    safe = KEYS_AS_THEY_ARE if key else HASHED_AS_THEY_ARE
    terms: list[sql.Composable] = []
    for name in names:
        here, there = live.column(name), backup.column(name)
        direct = here.base in safe and here.base == there.base
        collated = not direct or here.base in ("text", "varchar", "name", "bpchar")
        terms.append(
            sql.SQL("t.{}{}{}").format(
                sql.Identifier(name), sql.SQL("" if direct else "::text"), sql.SQL(' COLLATE "C"' if collated else "")
            )
        )
    return terms
