"""The shape of a database, as facts that can be compared."""

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
    "c.relnamespace::regnamespace::text NOT IN ('pg_catalog', 'information_schema', 'pg_toast', 'runbook')",
)


def make_own_schema(connection: Connection) -> None:
    """Make the runbook's own schema where it is not there, or another session of ours makes it just now.

    IF NOT EXISTS alone does not bear two that make it at once: the later one waits, and fails on the catalog's unique index.
    Changes the target.
    """
    with suppress(errors.UniqueViolation), connection.transaction():
        connection.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(sql.Identifier(OWN_SCHEMA)))


def identify_rows(table: sql.Identifier) -> sql.Composed:
    """A statement that has whole rows identify the rows of an own table that has no key. Pure.

    Without that the server refuses to update or delete them where a publication of all tables covers the table.
    """
    return sql.SQL("ALTER TABLE {} REPLICA IDENTITY FULL").format(table)


def catalog(connection: Connection) -> Catalog:
    """Every column, constraint, index, trigger and right, but for the runbook's own tables. Read-only."""
    return {row["object"]: row["definition"] for row in connection.execute(_CATALOG)}


def has_column(connection: Connection, of: HasTable, name: str) -> bool:
    """Whether a table has a column of that name. Read-only."""
    row = connection.execute(
        """SELECT 1 AS it FROM pg_attribute WHERE attrelid = to_regclass(quote_ident(%s) || '.' || quote_ident(%s))
           AND attname = %s AND attnum > 0 AND NOT attisdropped""",
        [of.schema_, of.table, name],
    ).fetchone()
    return row is not None


def added_by(connection: Connection, of: HasTable, columns: Collection[str]) -> list[int]:
    """The transactions that wrote some columns of a table as they are; none where they are not there. Read-only."""
    found = connection.execute(
        """SELECT DISTINCT a.xmin::text::bigint AS xid
           FROM pg_attribute a JOIN pg_class c ON c.oid = attrelid JOIN pg_namespace n ON n.oid = relnamespace
           WHERE nspname = %s AND relname = %s AND attname = ANY (%s) AND NOT attisdropped""",
        [of.schema_, of.table, list(columns)],
    )
    return [row["xid"] for row in found]


def old_collations(connection: Connection) -> list[str]:
    """The collations whose order the server has changed since indexes were built by them, a line each. Read-only."""
    return [row["line"] for row in connection.execute(_OLD_COLLATIONS.encode())]


def old_template(connection: Connection) -> list[str]:
    """Why no database can be made of template0, a line; none where one can. Read-only."""
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


def database_size(connection: Connection, name: str | None = None) -> int:
    """How many bytes a database takes on the server's disk: this one, or the one named; 0 where there is none. Read-only."""
    query = "SELECT pg_database_size(oid) AS bytes FROM pg_database WHERE datname = coalesce(%s, current_database())"
    row = connection.execute(query, [name]).fetchone()
    return int(row["bytes"]) if row else 0


def filled(connection: Connection, database: Database, columns: Sequence[str]) -> Row:
    """For each of some columns of the plan's table: the rows in which it is not NULL. Read-only."""
    counts = [sql.SQL("count({0}) AS {0}").format(sql.Identifier(name)) for name in columns]
    table = sql.Identifier(database.schema_, database.table)
    return one(connection, sql.SQL("SELECT {} FROM {}").format(sql.SQL(", ").join(counts), table))


Name = tuple[str, str]  # schema and name
Issued = tuple[str, str, int]  # a sequence's schema and name, and the value that it issued last


def issued(source: Connection) -> list[Issued]:
    """The value that each sequence issued last, but for the runbook's own and those that issued none. Read-only.

    After a crash of the server a sequence says a value further on than it has issued: it keeps some of them ready.

    Raises:
        PreconditionError: Our role may not read one.
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
    """The sequences that `target` has not as far as these values, with the value last issued. Read-only."""
    rows = target.execute(
        """SELECT schema, name, value
           FROM pg_sequences s JOIN unnest(%s::text[], %s::text[], %s::bigint[]) i (schema, name, value)
             ON (schema, name) = (schemaname, sequencename)
           WHERE s.last_value IS NULL OR (value - s.last_value) * sign(increment_by) > 0 ORDER BY 1, 2""",
        [[value[place] for value in values] for place in range(3)],
    )
    return {(row["schema"], row["name"]): row["value"] for row in rows}


def raise_sequences(values: Sequence[Issued], target: Connection) -> dict[Name, int]:
    """Move each sequence of `target` on to these values, if they are further; returns those moved. Changes the target.

    A value once issued is not issued again, whoever has seen it.
    """
    moved = behind(values, target)
    for name, value in moved.items():
        target.execute("SELECT setval(%s::regclass, %s)", [sql.Identifier(*name).as_string(target), value])
    return moved
