"""Loads the rows of database states into tables of texts, and compares them by their keys."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from psycopg import sql

from runbook_lib.postgres import Connection
from runbook_lib.postgres.changes.objects import USERS, Catalog, Object, literal, of_no_extension, quote
from runbook_lib.postgres.connection import copied
from runbook_lib.postgres.text_settings import pin

SCRATCH = "runbook"  # the schema of a reversal's own tables
CELLS = f"{SCRATCH}.cells"  # the values to write, by table, column and key
GONE = f"{SCRATCH}.gone"  # the keys of rows to delete
RULED = f"{SCRATCH}.ruled"  # the keys of rows whose value a person decided, by table and column
EMPTY = "0"  # the sum over no rows
PROVEN = f"{SCRATCH}.proven"  # the ids of columns whose cast back is proven, though decided values differ from it
ORIGINAL = "was "  # prefix of a key column's name, for its values before the migrations changed it

_REKEYED = f"""
    CREATE SCHEMA IF NOT EXISTS {SCRATCH};
    CREATE TABLE IF NOT EXISTS {SCRATCH}.rekeyed (place bigserial, relation regclass, before text[], after text[])"""
_WATCH = f"""{_REKEYED};
    CREATE FUNCTION {SCRATCH}.rekeyed() RETURNS trigger LANGUAGE plpgsql SET search_path = '' AS $$
    DECLARE
        old_key text[] := ARRAY(SELECT to_jsonb(OLD) ->> k FROM unnest(TG_ARGV) k);
        new_key text[] := ARRAY(SELECT to_jsonb(NEW) ->> k FROM unnest(TG_ARGV) k);
    BEGIN
        IF old_key IS DISTINCT FROM new_key THEN
            INSERT INTO {SCRATCH}.rekeyed (relation, before, after) VALUES (TG_RELID, old_key, new_key);
        END IF;
        RETURN NULL;
    END $$;
    DO $$
    DECLARE
        watching text;
    BEGIN
        FOR watching IN
            SELECT format('CREATE TRIGGER runbook_rekeyed AFTER UPDATE ON %I.%I FOR EACH ROW '
                'EXECUTE FUNCTION {SCRATCH}.rekeyed(%s)', n.nspname, c.relname, (
                    SELECT string_agg(quote_literal(a.attname), ', ' ORDER BY u.n)
                    FROM unnest(k.conkey) WITH ORDINALITY u (attnum, n)
                    JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = u.attnum))
            FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid JOIN pg_namespace n ON n.oid = c.relnamespace
            WHERE {USERS} AND c.relkind IN ('r', 'p') AND k.contype = 'p' AND k.conparentid = 0
              AND {of_no_extension("pg_class", "c.oid")}
        LOOP
            EXECUTE watching;
        END LOOP;
    END $$"""


@contextmanager
def keys_watched(connection: Connection) -> Iterator[None]:
    """Record, while a block runs migrations, which rows get another primary key. Changes the scratch database."""
    execute(connection, _WATCH)
    yield
    listed = "SELECT tgrelid::regclass::text AS name FROM pg_trigger WHERE tgname = 'runbook_rekeyed' AND tgparentid = 0"
    with connection.transaction():
        connection.execute("SET LOCAL search_path = ''")
        dropped = [f"DROP TRIGGER runbook_rekeyed ON {row['name']}" for row in connection.execute(listed).fetchall()]
        execute(connection, ";".join(dropped))


def proven(connection: Connection) -> frozenset[str]:
    """Return the ids of columns whose cast a rollback has proven. Read-only."""
    if not execute(connection, f"SELECT 1 AS n FROM pg_class WHERE oid = to_regclass('{PROVEN}')"):
        return frozenset()
    return frozenset(str(row["col"]) for row in execute(connection, f"SELECT col FROM {PROVEN}"))


def rekeyed(connection: Connection, table: Object) -> list[tuple[list[str], list[str]]]:
    """Return rows' earlier keys and those that migrations gave them, as `keys_watched` recorded. Read-only."""
    if not execute(connection, f"SELECT 1 AS n FROM pg_class WHERE oid = to_regclass('{SCRATCH}.rekeyed')"):
        return []
    asked = f"SELECT before, after FROM {SCRATCH}.rekeyed WHERE relation = {table.id} ORDER BY place"
    first: dict[tuple[str, ...], tuple[str, ...]] = {}  # present key -> earlier key
    for row in execute(connection, asked):
        before, after = (tuple(str(each) for each in _list(row[name])) for name in ("before", "after"))
        first[after] = first.pop(before, before)
    return [(list(before), list(after)) for after, before in first.items() if before != after]


def note_rekeyed(connection: Connection, found: Mapping[str, Iterable[tuple[list[str], list[str]]]]) -> None:
    """Record, by their table's OID, which rows got another key, as `keys_watched` does. Changes the scratch database."""
    execute(connection, _REKEYED)
    for relation, keys in found.items():
        for before, after in keys:
            noted = f"INSERT INTO {SCRATCH}.rekeyed (relation, before, after) VALUES (%s::oid, %s, %s)"
            execute(connection, noted, relation, before, after)


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else []


@dataclass(frozen=True)
class Source:
    """A table in one of the states: a connection, its name in that state, and its columns by their names from before."""

    connection: Connection
    table: str
    columns: Mapping[str, str]


@dataclass(frozen=True)
class Sides:
    """One table from before in three states, loaded as text tables; `key` is empty if no key identifies its rows."""

    name: str
    place: int
    table: Object
    columns: Sequence[str]  # in all the states
    dropped: Sequence[str]  # in the first state only
    key: Sequence[str] = ()

    def of(self, state: str) -> str:
        """Name the text table that holds a state."""
        return f'"{SCRATCH}"."{state}_{self.place}"'

    def on(self, left: str, right: str) -> str:
        """Build the condition that two rows have the same key."""
        return " AND ".join(f"{left}.{quote(k)} = {right}.{quote(k)}" for k in self.key)

    def keys(self, alias: str) -> str:
        """Return SQL of the key as an array of texts."""
        return f"ARRAY[{', '.join(f'{alias}.{quote(k)}' for k in self.key)}]"


def load(connection: Connection, name: str, source: Source) -> None:
    """Copy a table from another database into a table of texts in this one. Changes the scratch database."""
    columns = list(source.columns)
    made = ", ".join(f"{quote(each)} text" for each in columns)
    terms = ", ".join(f"{quote(source.columns[each])}::text" for each in columns)
    if source.connection is connection:
        named = ", ".join(f"{quote(source.columns[each])}::text AS {quote(each)}" for each in columns)
        pin(connection, local=True, search_path="", row_security="off")
        execute(connection, f"CREATE TABLE {name} AS SELECT {named} FROM {source.table}")
        return
    execute(connection, f"CREATE TABLE {name} ({made})")
    asked = f"COPY (SELECT {terms} FROM {source.table}) TO STDOUT"
    given = f"COPY {name} FROM STDIN"
    with source.connection.transaction():
        pin(source.connection, local=True, search_path="", row_security="off")
        copied(source.connection, asked, connection, given)


def is_key(connection: Connection, tables: Iterable[str], columns: Sequence[str]) -> bool:
    """Report whether columns identify every row of some text tables, with no NULLs. Read-only."""
    listed = ", ".join(map(quote, columns))
    for table in tables:
        nulls = " OR ".join(f"{quote(each)} IS NULL" for each in columns)
        asked = f"""SELECT (SELECT count(*) FROM {table}) = (SELECT count(*) FROM (SELECT DISTINCT {listed} FROM {table}) d)
                    AND NOT EXISTS (SELECT FROM {table} WHERE {nulls}) AS is_key"""
        row = connection.execute(asked).fetchone()
        if not row or not row["is_key"]:
            return False
    return True


def candidates(catalog: Catalog, table: Object) -> list[list[str]]:
    """List a table's candidate keys: its primary key, its other constraints, its unique indexes. Pure."""
    found = [each for each in catalog.parts(table, "constraint") if each.definition["type"] in ("p", "u")]
    keys = [each.keeps["columns"] for each in sorted(found, key=lambda each: each.definition["type"])]
    return keys + [each.keeps["key"] for each in catalog.parts(table, "index") if each.keeps["key"]]


def same_rows(connection: Connection, sides: Sides, one: str, other: str) -> bool:
    """Report whether two states hold the same rows, duplicates included. Read-only."""
    columns = ", ".join(map(quote, [*sides.columns]))
    both = [
        f"(SELECT {columns} FROM {a} EXCEPT ALL SELECT {columns} FROM {b})"
        for a, b in ((sides.of(one), sides.of(other)), (sides.of(other), sides.of(one)))
    ]
    row = connection.execute(f"SELECT EXISTS ({both[0]} UNION ALL {both[1]}) AS differ").fetchone()
    return bool(row and not row["differ"])


def row_sums(connection: Connection, tables: Sequence[Object]) -> dict[str, object]:
    """Sum the rows of each table, by its address; equal sums mean equal rows, in whatever order. Read-only."""
    hashed = ", ".join(f"sum(hashtextextended(x::text, {seed})::numeric)" for seed in (0, 1))
    found: dict[str, object] = {each.address: EMPTY for each in tables}
    parts = [
        f"SELECT {literal(each.address)} AS name, (SELECT concat_ws(' ', count(*), {hashed}) FROM {each.rows} x) AS sum"
        for each in _with_pages(connection, tables)
    ]
    if parts:
        with connection.transaction():
            pin(connection, local=True, search_path="", row_security="off")
            found |= {str(row["name"]): row["sum"] for row in execute(connection, " UNION ALL ".join(parts))}
    return found


def _with_pages(connection: Connection, tables: Sequence[Object]) -> list[Object]:
    """Select the tables that may have rows: all except plain tables with an empty file on disk. Read-only."""
    asked = """SELECT t.name FROM unnest(%s::text[]) t(name) JOIN pg_class c ON c.oid = t.name::regclass
        JOIN pg_am a ON a.oid = c.relam WHERE c.relkind = 'r' AND a.amname = 'heap' AND pg_relation_size(c.oid) = 0"""
    empty = {row["name"] for row in execute(connection, asked, [each.quoted for each in tables])}
    return [each for each in tables if each.quoted not in empty]


def row_differences(one: Connection, other: Connection, catalog: Catalog, left_out: Collection[str] = ()) -> list[str]:
    """List the tables of a catalog, except some, whose rows as text differ between two databases.

    Changes the scratch schema of the first.
    """
    found = []
    execute(one, f"CREATE SCHEMA IF NOT EXISTS {SCRATCH}")
    whole = [each for each in catalog.of("table") if not each.definition["bound"] and each.address not in left_out]
    tables = [each for each in whole if catalog.parts(each, "column")]
    sums = [row_sums(connection, tables) for connection in (one, other)]
    for place, table in enumerate(tables):
        columns = {each.name: each.name for each in catalog.parts(table, "column")}
        if sums[0][table.address] == sums[1][table.address]:
            continue
        names = [f'{SCRATCH}."rows {place} {side}"' for side in ("one", "other")]
        for name, connection in zip(names, (one, other), strict=True):
            with one.transaction():
                load(one, name, Source(connection, table.rows, columns))
        listed = quoted_list(columns)
        for word, left, right in (("missing or different", *names), ("too many or different", *names[::-1])):
            more = f"(SELECT {listed} FROM {left}) EXCEPT ALL (SELECT {listed} FROM {right})"
            if count := execute(one, f"SELECT count(*) AS n FROM ({more}) x")[0]["n"]:
                found.append(f"{table.address}: {count} rows are {word}")
        execute(one, f"DROP TABLE {names[0]}, {names[1]}")
    return found


def quoted_list(names: Iterable[str]) -> str:
    """Quote names as an SQL list. Pure."""
    return ", ".join(map(quote, names))


def execute(connection: Connection, query: str, *parameters: object) -> list[dict[str, object]]:
    """Execute a statement built from names, and fetch its rows. Changes what the statement changes."""
    cursor = connection.execute(sql.SQL(query), parameters or None)
    return cursor.fetchall() if cursor.description else []
