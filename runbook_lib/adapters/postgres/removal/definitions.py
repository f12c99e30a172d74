"""What the plan names, as the catalog defines it: enough to make it again."""

from dataclasses import asdict, dataclass
from typing import Any, Self

from psycopg import sql

from runbook_lib.adapters.postgres.connection import Connection, Row, exists
from runbook_lib.errors import PreconditionError
from runbook_lib.plan import Database

Table = tuple[str, str]  # schema and name


@dataclass(frozen=True)
class Column:
    """A column, with all that makes it differ from a plain one of its type."""

    name: str
    type: str
    collation: str | None
    default: str | None
    not_null: bool
    storage: str | None
    compression: str | None
    statistics: int | None
    options: list[str] | None
    comment: str | None
    computed: bool  # an identity or generated


@dataclass(frozen=True)
class Index:
    """An index, by the statement that makes it."""

    name: str
    definition: str
    comment: str | None
    of_constraint: bool
    of_replica: bool


@dataclass(frozen=True)
class Constraint:
    """A constraint; `kind` is the catalog's letter (c, f, n, p, u, x), `on_delete` that of a foreign key's action."""

    name: str
    kind: str
    definition: str
    valid: bool
    comment: str | None
    columns: list[str]
    parent: list[str] | None  # schema and name of the table that it refers to
    parent_columns: list[str]
    on_delete: str
    index: str | None  # the statement that makes its index


@dataclass(frozen=True)
class Definitions:
    """The plan's columns, indexes and constraints, and the NOT NULLs of those columns where they have names."""

    columns: list[Column]
    indexes: list[Index]
    constraints: list[Constraint]

    @property
    def names(self) -> list[str]:
        """The columns' names."""
        return [column.name for column in self.columns]

    @property
    def parents(self) -> list[Table]:
        """The tables that the foreign keys refer to, in the one order in which they are locked."""
        return sorted({(c.parent[0], c.parent[1]) for c in self.constraints if c.parent})

    def as_json(self) -> dict[str, Any]:
        """The same as plain values."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        """What `as_json` gave."""
        return cls(
            [Column(**row) for row in data["columns"]],
            [Index(**row) for row in data["indexes"]],
            [Constraint(**row) for row in data["constraints"]],
        )


def read(connection: Connection, database: Database) -> Definitions:
    """What is there of what the plan names, each definition with its names qualified. Read-only."""
    parameters = {
        "table": identifier(database).as_string(connection),
        "columns": list(database.columns),
        "indexes": database.indexes,
        "constraints": database.constraints,
    }

    def rows(query: str) -> list[Row]:
        return connection.execute(query, parameters).fetchall()

    with connection.transaction():
        connection.execute("SET LOCAL search_path = ''")
        found = Definitions(
            [Column(**row) for row in rows(_COLUMNS)],
            [Index(**row) for row in rows(_INDEXES)],
            [Constraint(**row) for row in rows(_CONSTRAINTS)],
        )
        connection.execute("SET LOCAL search_path TO DEFAULT")
    return found


def absent(connection: Connection, database: Database, found: Definitions) -> list[str]:
    """What the plan names that is not among what was found, or is of another type than it says. Read-only."""
    lines = [f"the column {name}" for name in database.columns if name not in found.names]
    lines += [f"the index {name}" for name in database.indexes if name not in {i.name for i in found.indexes}]
    lines += [f"the constraint {name}" for name in database.constraints if name not in {c.name for c in found.constraints}]
    mistyped = connection.execute(
        """SELECT p.name, p.type AS planned, format_type(a.atttypid, a.atttypmod) AS type
           FROM unnest(%s::text[], %s::text[]) AS p(name, type)
           JOIN pg_attribute a ON a.attrelid = %s::regclass AND a.attname = p.name
           WHERE a.atttypid IS DISTINCT FROM to_regtype(p.type)""",
        [list(database.columns), list(database.columns.values()), identifier(database).as_string(connection)],
    )
    return lines + [f"the column {row['name']} of the type {row['planned']} (it is {row['type']})" for row in mistyped]


def identifier(database: Database) -> sql.Identifier:
    """The plan's table."""
    return sql.Identifier(database.schema_, database.table)


def require_table(connection: Connection, database: Database) -> None:
    """Make sure that the plan's table and its history of migrations are there. Read-only.

    Raises:
        PreconditionError: One is not.
    """
    for table in (identifier(database), sql.Identifier(database.schema_, database.migration.history_table)):
        if not exists(connection, table):
            raise PreconditionError(
                f"The plan names the table {table.as_string(connection)}, which is not there.",
                state="Nothing was touched.",
                safe_next="Correct the plan or the target; then take a new preview.",
            )


_COLUMNS = """
SELECT a.attname AS name, format_type(a.atttypid, a.atttypmod) AS type,
       CASE WHEN a.attcollation NOT IN (0, t.typcollation)
            THEN c.collnamespace::regnamespace || '.' || quote_ident(c.collname) END AS collation,
       pg_get_expr(d.adbin, d.adrelid) AS default, a.attnotnull AS not_null,
       CASE WHEN a.attstorage <> t.typstorage THEN CASE a.attstorage
            WHEN 'p' THEN 'PLAIN' WHEN 'e' THEN 'EXTERNAL' WHEN 'm' THEN 'MAIN' ELSE 'EXTENDED' END END AS storage,
       CASE a.attcompression WHEN 'p' THEN 'pglz' WHEN 'l' THEN 'lz4' END AS compression,
       nullif(a.attstattarget, -1) AS statistics, a.attoptions AS options,
       col_description(a.attrelid, a.attnum) AS comment, a.attidentity <> '' OR a.attgenerated <> '' AS computed
FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid LEFT JOIN pg_collation c ON c.oid = a.attcollation
LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
WHERE a.attrelid = %(table)s::regclass AND a.attnum > 0 AND NOT a.attisdropped AND a.attname = ANY (%(columns)s)
ORDER BY a.attnum
"""

_INDEXES = """
SELECT x.relname AS name, pg_get_indexdef(x.oid) AS definition, obj_description(x.oid, 'pg_class') AS comment,
       EXISTS (SELECT FROM pg_constraint k WHERE k.conindid = x.oid AND k.conrelid = i.indrelid AND k.contype <> 'f')
           AS of_constraint, i.indisreplident AS of_replica
FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid
WHERE i.indrelid = %(table)s::regclass AND x.relname = ANY (%(indexes)s)
ORDER BY x.relname
"""

_CONSTRAINTS = """
SELECT k.conname AS name, k.contype::text AS kind, pg_get_constraintdef(k.oid) AS definition, k.convalidated AS valid,
       obj_description(k.oid, 'pg_constraint') AS comment,
       ARRAY (SELECT a.attname::text FROM unnest(k.conkey) WITH ORDINALITY n(number, place)
              JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = n.number ORDER BY place) AS columns,
       CASE WHEN p.oid IS NOT NULL THEN ARRAY[s.nspname::text, p.relname::text] END AS parent,
       ARRAY (SELECT a.attname::text FROM unnest(k.confkey) WITH ORDINALITY n(number, place)
              JOIN pg_attribute a ON a.attrelid = k.confrelid AND a.attnum = n.number ORDER BY place) AS parent_columns,
       k.confdeltype::text AS on_delete,
       CASE WHEN k.contype IN ('p', 'u', 'x') THEN pg_get_indexdef(k.conindid) END AS index
FROM pg_constraint k LEFT JOIN pg_class p ON p.oid = k.confrelid LEFT JOIN pg_namespace s ON s.oid = p.relnamespace
WHERE k.conrelid = %(table)s::regclass AND (k.conname = ANY (%(constraints)s) OR k.contype = 'n' AND k.conkey <@ ARRAY (
          SELECT attnum FROM pg_attribute WHERE attrelid = k.conrelid AND attname = ANY (%(columns)s)))
ORDER BY k.conname
"""
