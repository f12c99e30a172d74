"""The catalog's definitions of the objects that the plan names: enough to create them again."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

from psycopg import sql

from runbook_lib.config.plan import Database
from runbook_lib.errors import PreconditionError
from runbook_lib.postgres import Connection, Row
from runbook_lib.postgres.connection import exists
from runbook_lib.postgres.dependents import without_identity
from runbook_lib.postgres.lock_budget import DROPPING, RENAMING
from runbook_lib.postgres.migration_history import History
from runbook_lib.postgres.plan_fit import mistyped
from runbook_lib.postgres.round_trip import Statements
from runbook_lib.postgres.text_settings import fitted, identifier

Table = tuple[str, str]  # schema and name


@dataclass(frozen=True)
class Column:
    """A column, with every property that differs from a plain one of its type."""

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
    """An index, by the statement that creates it."""

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
    parent: list[str] | None  # schema and name of the referenced table
    parent_columns: list[str]
    on_delete: str
    index: str | None  # the statement that creates its index


@dataclass(frozen=True)
class Definitions:
    """The plan's columns, indexes and constraints, and the named NOT NULL constraints of those columns."""

    columns: list[Column]
    indexes: list[Index]
    constraints: list[Constraint]

    @property
    def names(self) -> list[str]:
        """The names of the columns."""
        return [column.name for column in self.columns]

    @property
    def parents(self) -> list[Table]:
        """The tables that the foreign keys reference, in locking order."""
        return sorted({(c.parent[0], c.parent[1]) for c in self.constraints if c.parent})

    def as_json(self) -> dict[str, Any]:
        """Return it as plain values."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        """Build it from the result of `as_json`."""
        return cls(
            [Column(**row) for row in data["columns"]],
            [Index(**row) for row in data["indexes"]],
            [Constraint(**row) for row in data["constraints"]],
        )


def read(connection: Connection, database: Database) -> Definitions:
    """Return the existing objects that the plan names, each definition with qualified names. Read-only."""
    parameters = {
        "table": identifier(database).as_string(connection),
        "columns": list(database.columns),
        "indexes": database.indexes,
        "constraints": database.constraints,
    }

    def rows(query: str) -> list[Row]:
        return connection.execute(query, parameters).fetchall()

    with connection.transaction():
        connection.execute("SELECT set_config('search_path', '', true)")
        found = Definitions(
            [Column(**row) for row in rows(_COLUMNS)],
            [Index(**row) for row in rows(_INDEXES)],
            [Constraint(**row) for row in rows(_CONSTRAINTS)],
        )
        connection.execute("SELECT set_config('search_path', NULL, true)")
    return found


def absent(connection: Connection, database: Database, found: Definitions) -> list[str]:
    """Return a line for each object of the plan that was not found, or has another type than the plan says. Read-only."""
    lines = [f"the column {name}" for name in database.columns if name not in found.names]
    lines += [f"the index {name}" for name in database.indexes if name not in {i.name for i in found.indexes}]
    lines += [f"the constraint {name}" for name in database.constraints if name not in {c.name for c in found.constraints}]
    wrong = mistyped(connection, database, database.columns)
    return lines + [f"the column {name} of the type {database.columns[name]} (it is {is_})" for name, is_ in wrong.items()]


def require_table(connection: Connection, database: Database, history: History | None) -> None:
    """Check that the plan's table and its migration history exist. Read-only.

    Raises:
        PreconditionError: One does not.
    """
    for table in (identifier(database), *([history.table] if history else [])):
        if not exists(connection, table):
            raise PreconditionError(
                f"The plan names the table {table.as_string(connection)}, which does not exist.",
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


_LITERAL = r"(?:'(?:[^']|'')*'|-?\d+(?:\.\d+)?|true|false|NULL)"
_CONSTANT = re.compile(rf"{_LITERAL}(?:::[\w\s.\"\[\](),]+)?")


def quarantine_name(columns: Iterable[str], run: str) -> dict[str, str]:
    """Map each column to its name in quarantine, unique and at most 63 bytes long."""
    taken: dict[str, str] = {}
    for column in columns:
        number, name = 1, fitted(column, f"__removed_{run}")
        while name in taken.values():
            number += 1
            name = fitted(column, f"_{number}__removed_{run}")
        taken[column] = name
    return taken


def is_constant(default: str | None) -> bool:
    """Whether a column's default is none or a plain literal, so that it always gives the same value."""
    return default is None or _CONSTANT.fullmatch(default) is not None


def of_table(connection: Connection, database: Database) -> list[str]:
    """Return a line for each reason why not every row of the table can be found and written. Read-only."""
    table = identifier(database).as_string(connection)
    lines = [row["why"] for row in connection.execute(_OF_TABLE, {"table": table})]
    return lines + without_identity(connection, [table])


def obstacles(connection: Connection, database: Database, definitions: Definitions, mode: str) -> list[str]:
    """Return a line for each reason why this removal cannot handle the table itself. Read-only."""
    table = identifier(database).as_string(connection)
    lines = of_table(connection, database)
    lines += [row["why"] for row in connection.execute(_OBSTACLES, {"table": table, "key": database.key}).fetchall()]
    if mode == "drop":
        lines += [
            f"{column.name} is computed, so its values cannot be restored"
            for column in definitions.columns
            if column.computed
        ]
        lines += [
            f"{c.name} can be restored only under a long lock" for c in definitions.constraints if c.kind in ("p", "x")
        ]
        lines += [f"{index.name} is the table's replica identity" for index in definitions.indexes if index.of_replica]
    return lines


_OF_TABLE = """
WITH t AS (SELECT *, oid::regclass::text AS name FROM pg_class WHERE oid = %(table)s::regclass)
SELECT CASE WHEN relkind = 'p' THEN name || ' is partitioned, and only option C can handle that'
            ELSE name || ' is not an ordinary table' END AS why
FROM t WHERE relkind <> 'r' OR relpersistence = 't'
UNION ALL SELECT name || CASE WHEN relispartition THEN ' is a partition of ' ELSE ' inherits from ' END
                 || inhparent::regclass
FROM t JOIN pg_inherits ON inhrelid = t.oid
UNION ALL SELECT inhrelid::regclass || ' inherits from ' || name FROM t JOIN pg_inherits ON inhparent = t.oid
WHERE relkind <> 'p'
UNION ALL SELECT 'row security hides rows of ' || name || ' from our role' FROM t WHERE row_security_active(oid)
"""

_OBSTACLES = """
WITH t AS (SELECT *, oid::regclass::text AS name FROM pg_class WHERE oid = %(table)s::regclass)
SELECT 'our role does not own ' || name AS why FROM t WHERE NOT pg_has_role(relowner, 'USAGE')
UNION ALL SELECT %(key)s || ' is not a key of ' || name || ' by itself' FROM t WHERE NOT EXISTS (
    SELECT FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
    WHERE i.indrelid = t.oid AND i.indnkeyatts = 1 AND i.indisunique AND i.indisvalid AND i.indpred IS NULL
      AND a.attname = %(key)s AND a.attnotnull)
"""


LOCK_BUDGETS = {"quarantine": RENAMING, "drop": DROPPING, "purge": DROPPING}


def parents(database: Database, of_keys: Sequence[Table]) -> list[Table]:
    """Return the tables, except the plan's own, that foreign keys reference, in locking order."""
    return sorted(set(of_keys) - {(database.schema_, database.table)})


def lock(statements: Statements, database: Database, of_keys: Sequence[Table], history: History | None) -> None:
    """Lock the table, then the tables that its foreign keys reference, then the migration history, in this order.

    Changes nothing.
    """
    names = [(database.schema_, database.table), *parents(database, of_keys)]
    statements.write(
        sql.SQL("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE").format(sql.SQL(", ").join(sql.Identifier(*name) for name in names))
    )
    if history:
        statements.write(sql.SQL("LOCK TABLE {} IN ROW EXCLUSIVE MODE").format(history.table))


def described(database: Database, of_keys: Sequence[Table], mode: str, history: History | None) -> str:
    """Describe the locks of a removal; `mode` is quarantine, drop, or purge for dropping quarantined columns."""
    table = f"{database.schema_}.{database.table}"
    names = " and ".join(".".join(name) for name in [(database.schema_, database.table), *parents(database, of_keys)])
    before = {
        "quarantine": f"ACCESS EXCLUSIVE on {table}",
        "purge": f"ACCESS EXCLUSIVE on {names}",
        "drop": f"SHARE ROW EXCLUSIVE on {table} for a moment (capture trigger); ACCESS SHARE while it is copied; "
        f"then ACCESS EXCLUSIVE on {names}",
    }
    budget = LOCK_BUDGETS[mode]
    whole = f" and take {budget.limit} ms in all" if budget.limit else ""
    tries = f"tries wait at most {max(budget.waits)} ms for them{whole}"
    rows = f", ROW EXCLUSIVE on {history.name}" if history else ""
    return f"{before[mode]}{rows}, in one short transaction whose {tries}"
