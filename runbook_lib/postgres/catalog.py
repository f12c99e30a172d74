"""Reads the shape of a database as facts that can be compared."""

from collections.abc import Collection, Sequence
from contextlib import suppress

from psycopg import errors, sql

from runbook_lib.config.plan import Database, HasTable
from runbook_lib.errors import PreconditionError
from runbook_lib.postgres import Connection, Row
from runbook_lib.postgres.connection import one

Catalog = dict[str, str]  # "kind schema.table name" -> definition

OWN_SCHEMA = "runbook"

_CATALOG = """
SELECT 'column ' || {table} || ' ' || a.attname AS object,
       format_type(a.atttypid, a.atttypmod) || CASE WHEN a.attnotnull THEN ' NOT NULL' ELSE '' END
       || coalesce(' DEFAULT ' || pg_get_expr(d.adbin, d.adrelid), '') AS definition
FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
WHERE c.relkind IN ('r', 'p', 'v', 'm') AND {mine}
UNION ALL
SELECT 'constraint ' || {table} || ' ' || k.conname,
       pg_get_constraintdef(k.oid) || CASE WHEN k.convalidated THEN '' ELSE ' NOT VALID' END
FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid WHERE {mine}
UNION ALL
SELECT 'index ' || {table} || ' ' || x.relname,
       pg_get_indexdef(i.indexrelid) || CASE WHEN i.indisvalid THEN '' ELSE ' INVALID' END
FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid JOIN pg_class x ON x.oid = i.indexrelid WHERE {mine}
UNION ALL
SELECT 'trigger ' || {table} || ' ' || t.tgname,
       pg_get_triggerdef(t.oid) || ' ' || t.tgenabled::text
FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid WHERE NOT t.tgisinternal AND {mine}
UNION ALL
SELECT 'rights ' || {table},
       coalesce(c.relacl::text, 'owner ' || c.relowner::regrole)
       || CASE WHEN c.relrowsecurity THEN ' row security' ELSE '' END
FROM pg_class c WHERE c.relkind IN ('r', 'p', 'v', 'm', 'S') AND {mine}
ORDER BY 1
""".replace("{table}", "(SELECT nspname FROM pg_namespace WHERE oid = c.relnamespace) || '.' || c.relname").replace(
    "{mine}",
    "c.relnamespace IN (SELECT oid FROM pg_namespace WHERE nspname = coalesce(%(schema)s, nspname)"
    " AND nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast', 'runbook'))",
)


def make_own_schema(connection: Connection) -> None:
    """Create the runbook's own schema unless it exists. Changes the target.

    Two of our sessions may create it at once. Despite IF NOT EXISTS, the later one waits, then fails on a unique index.
    """
    with suppress(errors.UniqueViolation), connection.transaction():
        connection.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(sql.Identifier(OWN_SCHEMA)))


def identify_rows(table: sql.Identifier) -> sql.Composed:
    """Build a statement that makes whole rows the replica identity of one of our tables without a key. Pure.

    Without it, the server refuses to update or delete rows if a publication of all tables covers the table.
    """
    return sql.SQL("ALTER TABLE {} REPLICA IDENTITY FULL").format(table)


def catalog(connection: Connection, schema: str | None = None) -> Catalog:
    """Read every column, constraint, index, trigger and right, except of the runbook's own tables. Read-only.

    `schema`: the one to keep to; None for all.
    """
    rows = connection.execute(_CATALOG, {"schema": schema})
    return {row["object"]: row["definition"] for row in rows}


def has_column(connection: Connection, of: HasTable, name: str) -> bool:
    """Report whether a table has a column of that name. Read-only."""
    row = connection.execute(
        """SELECT 1 AS it FROM pg_attribute WHERE attrelid = to_regclass(quote_ident(%s) || '.' || quote_ident(%s))
           AND attname = %s AND attnum > 0 AND NOT attisdropped""",
        [of.schema_, of.table, name],
    ).fetchone()
    return row is not None


def added_by(connection: Connection, of: HasTable, columns: Collection[str]) -> list[int]:
    """List the transactions that last defined some columns of a table; empty if the columns do not exist. Read-only."""
    found = connection.execute(
        """SELECT DISTINCT a.xmin::text::bigint AS xid
           FROM pg_attribute a JOIN pg_class c ON c.oid = attrelid JOIN pg_namespace n ON n.oid = relnamespace
           WHERE nspname = %s AND relname = %s AND attname = ANY (%s) AND NOT attisdropped""",
        [of.schema_, of.table, list(columns)],
    )
    return [row["xid"] for row in found]


def old_collations(connection: Connection) -> list[str]:
    """List the collations whose order the server has changed since indexes were built with them. Read-only."""
    return [row["line"] for row in connection.execute(_OLD_COLLATIONS.encode())]


def old_template(connection: Connection) -> list[str]:
    """Explain in one line why no database can be created from template0; empty if one can. Read-only."""
    query = _OLD.replace("{found}", _OF_DATABASES.replace("{which}", "'template0'"))
    return [f"{row['line']}: {_REFRESH}" for row in connection.execute(query.encode())]


_REFRESH = "ALTER DATABASE template0 REFRESH COLLATION VERSION"


_OLD = """
SELECT format('the collation of %s was of version %s and is %s on this server', name, was, coalesce(now, 'unknown')) AS line
FROM ({found}) c WHERE was IS NOT NULL AND was IS DISTINCT FROM now ORDER BY 1"""
_OF_DATABASES = """SELECT 'the database ' || datname AS name, datcollversion AS was,
       pg_database_collation_actual_version(oid) AS now FROM pg_database WHERE datname = {which}"""
_OF_COLUMNS = """SELECT format('columns by %I', collname), collversion, pg_collation_actual_version(oid)
FROM pg_collation k WHERE EXISTS (SELECT FROM pg_attribute WHERE attcollation = k.oid AND attrelid >= 16384)"""
_OLD_COLLATIONS = _OLD.replace(
    "{found}", f"{_OF_DATABASES.replace('{which}', 'current_database()')} UNION ALL {_OF_COLUMNS}"
)


def differences(before: Catalog, after: Catalog) -> list[str]:
    """List what was added, removed or changed between two catalogs, one line each."""
    lines = [f"removed: {name}: {before[name]}" for name in sorted(before.keys() - after.keys())]
    lines += [f"added: {name}: {after[name]}" for name in sorted(after.keys() - before.keys())]
    both = sorted(before.keys() & after.keys())
    return lines + [f"changed: {n}: {before[n]} -> {after[n]}" for n in both if before[n] != after[n]]


def missing(present: Catalog, expected: Database, *, feature: bool) -> list[str]:
    """List what the plan expects and the catalog lacks; `feature` says whether the feature's own objects are expected."""
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


def database_size(connection: Connection, name: str | None = None) -> int:
    """Return the bytes that a database takes on the server's disk: this one or the one named; 0 if missing. Read-only."""
    query = "SELECT pg_database_size(oid) AS bytes FROM pg_database WHERE datname = coalesce(%s, current_database())"
    row = connection.execute(query, [name]).fetchone()
    return int(row["bytes"]) if row else 0


def filled(connection: Connection, database: Database, columns: Sequence[str]) -> Row:
    """Count, for each of some columns of the plan's table, the rows in which it is not NULL. Read-only."""
    counts = [sql.SQL("count({0}) AS {0}").format(sql.Identifier(name)) for name in columns]
    table = sql.Identifier(database.schema_, database.table)
    return one(connection, sql.SQL("SELECT {} FROM {}").format(sql.SQL(", ").join(counts), table))


Name = tuple[str, str]  # schema and name
Issued = tuple[str, str, int]  # a sequence's schema and name, and the value that it issued last


def issued(source: Connection) -> list[Issued]:
    """Return the value that each sequence issued last, except the runbook's own and unused ones. Read-only.

    After a server crash, a sequence reports a later value than it issued, since it reserves some in advance.

    Raises:
        PreconditionError: Our role may not read a sequence.
    """
    rows = source.execute(
        """SELECT schemaname, sequencename, last_value,
                  has_sequence_privilege(format('%%I.%%I', schemaname, sequencename), 'USAGE, SELECT') AS readable
           FROM pg_sequences WHERE schemaname <> %s ORDER BY 1, 2""",
        [OWN_SCHEMA],
    ).fetchall()
    if unreadable := [f"{row['schemaname']}.{row['sequencename']}" for row in rows if not row["readable"]]:
        raise PreconditionError(
            f"Our role may not read these sequences: {', '.join(unreadable)}.",
            state="No sequence was changed.",
            safe_next="Grant the role USAGE on them, then run the step again.",
        )
    return [(row["schemaname"], row["sequencename"], row["last_value"]) for row in rows if row["last_value"] is not None]


def behind(values: Sequence[Issued], target: Connection) -> dict[Name, int]:
    """Find the sequences of `target` that are behind these values, with the value last issued. Read-only."""
    rows = target.execute(
        """SELECT schema, name, value
           FROM pg_sequences s JOIN unnest(%s::text[], %s::text[], %s::bigint[]) i (schema, name, value)
             ON (schema, name) = (schemaname, sequencename)
           WHERE s.last_value IS NULL OR (value - s.last_value) * sign(increment_by) > 0 ORDER BY 1, 2""",
        [[value[place] for value in values] for place in range(3)],
    )
    return {(row["schema"], row["name"]): row["value"] for row in rows}


def raise_sequences(values: Sequence[Issued], target: Connection) -> dict[Name, int]:
    """Advance each sequence of `target` that is behind these values; return those moved. Changes the target.

    So no value is issued twice, whoever has seen it.
    """
    moved = behind(values, target)
    for name, value in moved.items():
        target.execute("SELECT setval(%s::regclass, %s)", [sql.Identifier(*name).as_string(target), value])
    return moved
