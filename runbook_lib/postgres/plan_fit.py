"""Check that the database has what the plan names: columns, types, the key, the migration history. Read-only."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches

import psycopg
from psycopg import sql
from psycopg.postgres import types

from runbook_lib.config.plan import Backfill, ColumnOfRow, Database
from runbook_lib.config.plan.migration import BASE
from runbook_lib.postgres import Connection
from runbook_lib.postgres.connection import exists, one
from runbook_lib.postgres.migration_history import History

SHOWN = 5  # duplicate values listed
NOT_A_TYPE = {  # what CREATE TABLE turns them into
    **dict.fromkeys(("smallserial", "serial2"), "smallint"),
    **dict.fromkeys(("serial", "serial4"), "integer"),
    **dict.fromkeys(("bigserial", "serial8"), "bigint"),
}
FINEST = 6  # digits of a second; the precision of a time that gives none
NO_TYPE = ", which is no type of this server"
TIMES = {oid for name in ("time", "timetz", "timestamp", "timestamptz") for oid in (types[name].oid, types[name].array_oid)}


def misfits(connection: Connection, database: Database) -> list[str]:
    """List the older columns of the plan that are missing or have another type, by the plan's keys. Read-only."""
    named = {
        "key": database.key,
        **{f"kept_columns.{name}": name for name in database.kept_columns},
        **(_read_by(database.backfill_, database) if database.backfill_ else {}),
    }
    return _absent(connection, database, named) + _mistyped(connection, database, "kept_columns")


def _read_by(spec: Backfill, database: Database) -> dict[str, str]:
    """Map the plan's keys to older columns that the backfill read or touched."""
    written = {f"written.{name}": value.column for name, value in spec.written.items() if isinstance(value, ColumnOfRow)}
    return {
        "backfills.source": spec.source,
        **({"backfills.touch_column": spec.touch_column} if spec.touch_column else {}),
        **{f"backfills.{key}": name for key, name in written.items() if name not in database.columns},
    }


def feature_misfits(connection: Connection, database: Database) -> list[str]:
    """List the feature's own objects in the plan that are missing or have another type. Read-only."""
    named = {f"columns.{name}": name for name in database.columns}
    named |= {"backfills.column": database.backfill_.name} if database.backfill_ else {}
    lines = _absent(connection, database, named) + _mistyped(connection, database, "columns")
    table = _table(connection, database)
    for key, names, query in (("indexes", database.indexes, _INDEXES), ("constraints", database.constraints, _CONSTRAINTS)):
        there = [row["name"] for row in connection.execute(query.encode(), [table])]
        lines += [_line(f"{key}.{n}", f"{n} is not on {database.table}", n, there) for n in names if n not in there]
    return lines


def history_misfits(connection: Connection, history: History) -> list[str]:
    """Return a line for each missing part of the plan's migration history. Read-only."""
    migration, table = history.migration, history.table.as_string(connection)
    if not history.exists(connection):
        alike = _alike(migration.table, _tables(connection, history.applied.schema))
        return [f"migration.table: there is no table {history.name}{alike}"]
    others = [
        (key, sql.Identifier(history.applied.schema, n)) for key in ("related", "referred") for n in getattr(migration, key)
    ]
    if absent := [(key, name.as_string(connection)) for key, name in others if not exists(connection, name)]:
        return [f"migration.{key}: there is no table {name}" for key, name in absent]
    names = _columns(connection, table)
    keys = {"column": migration.column, **({"order": migration.order} if migration.order else {})}
    for key in ("where", "half_applied", "settled"):
        keys |= {f"{key}.{name}": name for name in getattr(migration, key)}
    lines = [
        f"migration.{key}: {migration.table} has no column {name}{_alike(name, names)}"
        for key, name in keys.items()
        if name not in names
    ]
    return lines or _no_values(connection, table, history)


def _no_values(connection: Connection, table: str, history: History) -> list[str]:
    """Return a line for each version or value of the plan that the history's columns cannot hold. Read-only."""
    migration, previous = history.migration, history.applied.previous
    values: list[tuple[str, str, object]] = [
        ("versions", migration.column, value) for value in history.applied.values.values()
    ]
    values += [("previous", migration.column, previous)] if previous not in (None, BASE) else []
    values += [(f"where.{name}", name, value) for name, value in migration.where.items()]
    lines = []
    for key, column, value in values:
        type_name = one(connection, _TYPE_OF, [table, column])["type"]
        try:
            connection.execute(sql.SQL("SELECT {}::{}").format(sql.Literal(value), sql.SQL(type_name)))
        except psycopg.DataError:
            lines.append(f"migration.{key}: {migration.table}.{column} holds {type_name}, which {value!r} is not")
    return lines


def no_table(connection: Connection, database: Database) -> str:
    """Return why the plan's table cannot be read, "" if it can. Read-only."""
    if exists(connection, sql.Identifier(database.schema_, database.table)):
        return ""
    what = f"there is no table {database.schema_}.{database.table}"
    return _line("table", what, database.table, _tables(connection, database.schema_))


def no_key(connection: Connection, database: Database) -> str:
    """Return why the plan's key does not identify each row, "" if it does. Read-only.

    The catalog decides; values are counted only if no unique index covers exactly this column.
    """
    table, key = _table(connection, database), database.key
    found = one(connection, _KEY, {"table": table, "key": key})
    name = f"{database.schema_}.{database.table}"
    if found["alone"] and found["not_null"]:
        return ""
    if found["composite"]:
        return (
            f"{key} alone does not name a row of {name}: its key is ({', '.join(found['composite'])}). "
            "Keys of several columns are not supported here"
        )
    counted = one(
        connection,
        sql.SQL("""SELECT (SELECT count(*) FROM {table} t WHERE t.{key} IS NULL) AS nulls,
        (SELECT array_agg(d.v ORDER BY d.v) FROM (SELECT t.{key}::text AS v FROM {table} t WHERE t.{key} IS NOT NULL
         GROUP BY t.{key} HAVING count(*) > 1 LIMIT {shown}) d) AS twice""").format(
            table=sql.Identifier(database.schema_, database.table), key=sql.Identifier(key), shown=sql.Literal(SHOWN)
        ),
    )
    problems = [f"{counted['nulls']} rows have no value of it"] if counted["nulls"] else []
    problems += [f"several rows have the same value, such as {', '.join(counted['twice'])}"] if counted["twice"] else []
    primary = f"; its primary key is {', '.join(found['primary'])}" if found["primary"] else ""
    return f"{key} does not name a row of {name}: {'; '.join(problems)}{primary}" if problems else ""


def is_text(connection: Connection, database: Database, column: str) -> bool:
    """Whether a column of the plan's table has a collation. Read-only."""
    query = "SELECT attcollation <> 0 AS it FROM pg_attribute WHERE attrelid = to_regclass(%s) AND attname = %s"
    return bool(one(connection, query, [_table(connection, database), column])["it"])


def in_words_of_server(connection: Connection, database: Database) -> Database:
    """Return the plan with each type of an existing column written as the server writes it. Read-only."""
    there = _types(connection, database)

    def written(columns: Mapping[str, str]) -> dict[str, str]:
        return {
            name: there[name].name if name in there and _agrees(connection, database, planned, there[name]) else planned
            for name, planned in columns.items()
        }

    return database.model_copy(update={"columns": written(database.columns), "kept_columns": written(database.kept_columns)})


def mistyped(connection: Connection, database: Database, columns: Mapping[str, str]) -> dict[str, str]:
    """Map columns to their actual type where it is not the plan's, in any spelling. Read-only."""
    there = _types(connection, database)
    return {
        name: there[name].name
        for name, planned in columns.items()
        if name in there and not _agrees(connection, database, planned, there[name])
    }


def _mistyped(connection: Connection, database: Database, key: str) -> list[str]:
    planned: dict[str, str] = getattr(database, key)
    there = _types(connection, database)
    return [
        f"database.{key}.{name}: the column is {actual}, the plan says {planned[name]}"
        + ("" if _spelt(connection, planned[name], database.schema_, there[name].schema) else NO_TYPE)
        for name, actual in mistyped(connection, database, planned).items()
    ]


@dataclass(frozen=True)
class _Type:
    """The type of a column: the server's spelling, its schema, and its length or precision as the server's number."""

    oid: int
    name: str
    schema: str
    modifier: int


def _agrees(connection: Connection, database: Database, planned: str, actual: _Type) -> bool:
    """Whether the plan's spelling of a type means a column's type; without a length or precision it fits any."""
    for spelt, oid in _spelt(connection, planned, database.schema_, actual.schema).items():
        modifier = _modifier(connection, spelt, oid)
        finest = modifier == FINEST and actual.modifier == -1 and oid in TIMES
        if oid == actual.oid and (modifier in (-1, actual.modifier) or finest):
            return True
    return False


def _spelt(connection: Connection, planned: str, *schemas: str) -> dict[str, int]:
    """Map the types that the plan may mean to their OIDs: quotes, and one of some schemas, may be left out."""
    planned = NOT_A_TYPE.get(planned.strip().lower(), planned)
    plain = planned.strip().removesuffix("[]")
    quoted = sql.Identifier(plain).as_string(connection) + ("[]" if planned.strip().endswith("[]") else "")
    inside = [sql.Identifier(each).as_string(connection) for each in dict.fromkeys(schemas)]
    found = {}
    for spelt in (planned, quoted, *(f"{schema}.{name}" for schema in inside for name in (planned, quoted))):
        try:
            with connection.transaction():
                oid = one(connection, "SELECT to_regtype(%s)::oid AS oid", [spelt])["oid"]
                if oid and _modifier(connection, spelt, oid) is not None:
                    found[spelt] = int(oid)
        except psycopg.Error:  # not a type's name, or no such length
            continue
    return found


def _modifier(connection: Connection, planned: str, oid: int) -> int:
    """Return the length or precision in a type parsed by `to_regtype`, as the server's number; -1 for none."""
    result = connection.execute(f"SELECT NULL::{planned}".encode()).pgresult
    assert result
    return result.fmod(0) if result.ftype(0) == oid else -1  # for a domain the server gives its base type


def _types(connection: Connection, database: Database) -> dict[str, _Type]:
    rows = connection.execute(
        """SELECT attname AS column, atttypid AS oid, format_type(atttypid, atttypmod) AS name, nspname AS schema,
                  atttypmod AS modifier
           FROM pg_attribute JOIN pg_type t ON t.oid = atttypid JOIN pg_namespace n ON n.oid = typnamespace
           WHERE attrelid = to_regclass(%s) AND attnum > 0 AND NOT attisdropped""",
        [_table(connection, database)],
    )
    return {row.pop("column"): _Type(**row) for row in rows}


def _absent(connection: Connection, database: Database, named: Mapping[str, str]) -> list[str]:
    there = _columns(connection, _table(connection, database))
    return [
        _line(key, f"{database.table} has no column {name}", name, there) for key, name in named.items() if name not in there
    ]


def _line(key: str, what: str, name: str, there: Iterable[str]) -> str:
    place = "" if key.startswith("backfills.") else "database."
    return f"{place}{key}: {what}{_alike(name, there)}"


def _alike(name: str, there: Iterable[str]) -> str:
    alike = get_close_matches(name, list(there), n=1)
    return f" (is {alike[0]} meant?)" if alike else ""


def _columns(connection: Connection, table: str) -> list[str]:
    rows = connection.execute(
        "SELECT attname AS name FROM pg_attribute WHERE attrelid = to_regclass(%s) AND attnum > 0 AND NOT attisdropped",
        [table],
    )
    return [row["name"] for row in rows]


def _tables(connection: Connection, schema: str) -> list[str]:
    rows = connection.execute(
        """SELECT relname AS name FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
           WHERE nspname = %s AND relkind IN ('r', 'p') ORDER BY 1""",
        [schema],
    )
    return [row["name"] for row in rows]


def _table(connection: Connection, database: Database) -> str:
    return sql.Identifier(database.schema_, database.table).as_string(connection)


_INDEXES = "SELECT relname AS name FROM pg_index JOIN pg_class c ON c.oid = indexrelid WHERE indrelid = to_regclass(%s)"
_CONSTRAINTS = "SELECT conname AS name FROM pg_constraint WHERE conrelid = to_regclass(%s)"

_TYPE_OF = "SELECT format_type(atttypid, atttypmod) AS type FROM pg_attribute WHERE attrelid = %s::regclass AND attname = %s"

_KEY = """
WITH k AS (SELECT attnum, attnotnull FROM pg_attribute WHERE attrelid = %(table)s::regclass AND attname = %(key)s),
u AS (SELECT i.*, ARRAY (SELECT a.attname::text FROM unnest(i.indkey::int2[]) WITH ORDINALITY n(number, place)
                         JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = n.number
                         WHERE place <= i.indnkeyatts ORDER BY place) AS columns
      FROM pg_index i WHERE i.indrelid = %(table)s::regclass AND i.indisunique AND i.indisvalid AND i.indpred IS NULL
        AND i.indexprs IS NULL)
SELECT coalesce((SELECT attnotnull FROM k), FALSE) AS not_null,
       EXISTS (SELECT FROM u WHERE columns = ARRAY[%(key)s::text]) AS alone,
       (SELECT columns FROM u WHERE indisprimary) AS primary,
       (SELECT columns FROM u WHERE cardinality(columns) > 1 AND %(key)s = ANY (columns)
        ORDER BY indisprimary DESC, indexrelid LIMIT 1) AS composite
"""
