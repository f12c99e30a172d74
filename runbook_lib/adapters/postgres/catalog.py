"""The shape of a database, as facts that can be compared."""

from contextlib import suppress

from psycopg import errors, sql

from runbook_lib.adapters.postgres.connection import Connection
from runbook_lib.plan import Database

Catalog = dict[str, str]  # "kind schema.table name" -> definition

OWN_SCHEMA = "runbook"

_CATALOG = """
SELECT 'column ' || c.relnamespace::regnamespace || '.' || c.relname || ' ' || a.attname AS object,
       format_type(a.atttypid, a.atttypmod) || CASE WHEN a.attnotnull THEN ' NOT NULL' ELSE '' END
       || coalesce(' DEFAULT ' || pg_get_expr(d.adbin, d.adrelid), '') AS definition
FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
WHERE c.relkind IN ('r', 'p', 'v', 'm') AND {mine}
UNION ALL
SELECT 'constraint ' || c.relnamespace::regnamespace || '.' || c.relname || ' ' || k.conname,
       pg_get_constraintdef(k.oid) || CASE WHEN k.convalidated THEN '' ELSE ' NOT VALID' END
FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid WHERE {mine}
UNION ALL
SELECT 'index ' || c.relnamespace::regnamespace || '.' || c.relname || ' ' || x.relname,
       pg_get_indexdef(i.indexrelid) || CASE WHEN i.indisvalid THEN '' ELSE ' INVALID' END
FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid JOIN pg_class x ON x.oid = i.indexrelid WHERE {mine}
UNION ALL
SELECT 'trigger ' || c.relnamespace::regnamespace || '.' || c.relname || ' ' || t.tgname,
       pg_get_triggerdef(t.oid) || ' ' || t.tgenabled::text
FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid WHERE NOT t.tgisinternal AND {mine}
UNION ALL
SELECT 'rights ' || c.relnamespace::regnamespace || '.' || c.relname,
       coalesce(c.relacl::text, 'owner ' || c.relowner::regrole)
       || CASE WHEN c.relrowsecurity THEN ' row security' ELSE '' END
FROM pg_class c WHERE c.relkind IN ('r', 'p', 'v', 'm', 'S') AND {mine}
ORDER BY 1
""".replace(
    "{mine}",
    "c.relnamespace::regnamespace::text NOT IN ('pg_catalog', 'information_schema', 'pg_toast', 'runbook')",
)


def make_own_schema(connection: Connection) -> None:
    """Make the runbook's own schema where it is not there, or another session of ours makes it just now.

    IF NOT EXISTS alone does not bear two that make it at once: the later one waits, and fails on the catalog's unique index.
    Changes the target.
    """
    with suppress(errors.UniqueViolation), connection.transaction():
        connection.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(sql.Identifier(OWN_SCHEMA)))


def catalog(connection: Connection) -> Catalog:
    """Every column, constraint, index, trigger and right, but for the runbook's own tables. Read-only."""
    return {row["object"]: row["definition"] for row in connection.execute(_CATALOG)}


def has_column(connection: Connection, database: Database, name: str) -> bool:
    """Whether the plan's table has a column of that name. Read-only."""
    row = connection.execute(
        """SELECT 1 AS it FROM pg_attribute WHERE attrelid = to_regclass(quote_ident(%s) || '.' || quote_ident(%s))
           AND attname = %s AND attnum > 0 AND NOT attisdropped""",
        [database.schema_, database.table, name],
    ).fetchone()
    return row is not None


def differences(before: Catalog, after: Catalog) -> list[str]:
    """What was added, removed or changed between two catalogs, a line each."""
    lines = [f"removed: {name}: {before[name]}" for name in sorted(before.keys() - after.keys())]
    lines += [f"added: {name}: {after[name]}" for name in sorted(after.keys() - before.keys())]
    both = sorted(before.keys() & after.keys())
    return lines + [f"changed: {n}: {before[n]} -> {after[n]}" for n in both if before[n] != after[n]]


def missing(present: Catalog, expected: Database, *, feature: bool) -> list[str]:
    """What the plan expects and the catalog lacks; `feature` says whether the feature's own objects are expected."""
    table = f"{expected.schema_}.{expected.table}"
    columns = {**expected.kept_columns, **(expected.columns if feature else {})}
    lines = []
    for name, type_name in columns.items():
        definition = present.get(f"column {table} {name}")
        if definition is None:
            lines.append(f"the column {name} is missing")
        elif definition.split(" DEFAULT ")[0].removesuffix(" NOT NULL") != type_name:
            lines.append(f"the column {name} is {definition}, not {type_name}")
    if feature:
        for kind, names in (("index", expected.indexes), ("constraint", expected.constraints)):
            for name in names:
                definition = present.get(f"{kind} {table} {name}")
                if definition is None or definition.endswith((" INVALID", " NOT VALID")):
                    lines.append(f"the {kind} {name} is {'missing' if definition is None else 'not valid'}")
    return lines
