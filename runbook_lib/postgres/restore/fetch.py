"""Fetch one table of a dump: its rows from the dump's file, or the whole table into a database of its own."""

import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql

from runbook_lib.config.plan import Database
from runbook_lib.errors import PreconditionError
from runbook_lib.postgres import Connection
from runbook_lib.postgres import dump as dump_files
from runbook_lib.postgres.backfill_removal.guard import Named, named
from runbook_lib.postgres.backfill_terms import BackfillTerms
from runbook_lib.postgres.catalog import OWN_SCHEMA
from runbook_lib.postgres.connection import MAINTENANCE, Postgres, one
from runbook_lib.postgres.dump import DumpTools
from runbook_lib.postgres.restore.dump_inspector import Dump, plain_names
from runbook_lib.postgres.restore.dump_needs import left_out, sections, unmet
from runbook_lib.postgres.restore.shape import Name
from runbook_lib.postgres.restore.staging_database import TIMEOUT, create_alike, drop, part_name
from runbook_lib.system import temporary

ROWS = 10_000  # read between two checks whether to continue
FETCHED = sql.Identifier("pg_temp", "fetched")
PRIOR = sql.Identifier("pg_temp", "prior")  # the same, for rows that hold another value now


@contextmanager
def staging_name_of(postgres: Postgres, tools: DumpTools, dump: Dump, table: Name) -> Iterator[str]:
    """Restore the dump's schema, without foreign keys, and the rows of one table into a temporary database; yield its name.

    Changes the target only by that database, which is dropped afterwards.

    Raises:
        PreconditionError: The dump does not hold the table.
        AdapterError: The restore failed.
    """
    require_rows(dump, table)
    name = part_name(postgres.database, postgres.run)
    with postgres.connect(MAINTENANCE) as maintenance:
        drop(maintenance, name, force=True)
        create_alike(maintenance, postgres.database, name)
        with postgres.connect() as live:
            entries = sections(dump.contents.schema)
            without = {each.number for each in left_out(entries, unmet(live, entries))[0]}  # only the rows matter here
        try:
            tools.restore_listed(dump.path, name, TIMEOUT, "--section=pre-data", left_out=without)
            tools.restore(dump.path, name, TIMEOUT, "--data-only", f"--schema={table[0]}", f"--table={table[1]}")
            tools.restore_listed(dump.path, name, TIMEOUT, "--section=post-data", without="FK CONSTRAINT", left_out=without)
            yield name
        finally:
            drop(maintenance, name, force=True)


def fetched(
    live: Connection,
    tools: DumpTools,
    dump: Dump,
    table: Name,
    names: Sequence[str],
    added: Mapping[str, str],
    look: Callable[[], object],
) -> None:
    """Read some columns of a table out of the dump into the temporary table `FETCHED` of the live database's session.

    Changes nothing outside the session.

    Args:
        live: A connection to the live database.
        tools: The client tools.
        dump: The dump to read.
        table: Its schema and name.
        names: The requested columns that the live table has.
        added: The requested columns that it lacks, with their types.
        look: Called repeatedly; an exception from it ends the reading.

    Raises:
        PreconditionError: The dump does not hold rows of the table, or lacks these columns.
    """
    require_rows(dump, table)
    requested = [*names, *added]
    live.execute("SET statement_timeout = 0")
    like = sql.SQL("CREATE TEMPORARY TABLE fetched AS SELECT {} FROM {} WITH NO DATA")
    live.execute(like.format(listed(names), sql.Identifier(*table)))
    for name, type_ in added.items():
        live.execute(sql.SQL("ALTER TABLE {} ADD COLUMN {} {}").format(FETCHED, sql.Identifier(name), sql.SQL(type_)))
    with _written(tools, dump, table) as (held, rows), live.cursor() as writing:
        if missing := [name for name in requested if name not in held]:
            raise _no_values(dump, table, ", ".join(missing))
        places = [held.index(name) for name in requested]
        with writing.copy(sql.SQL("COPY {} FROM STDIN").format(FETCHED)) as into:
            for number, row in enumerate(rows):
                if number % ROWS == 0:
                    look()
                into.write(b"\t".join([row[place] for place in places]) + b"\n")
    live.execute(sql.SQL("ANALYZE {}").format(FETCHED))


def rows_in(tools: DumpTools, dump: Dump, table: Name) -> int:
    """Count a table's rows in the dump. Read-only.

    Raises:
        PreconditionError: It does not hold the table.
    """
    require_rows(dump, table)
    with _written(tools, dump, table) as (held, rows):
        if not held:
            raise _no_values(dump, table, "any column")
        return sum(1 for _ in rows)


def require_rows(dump: Dump, table: Name) -> None:
    """Check that a dump holds the rows of a table. Read-only.

    Raises:
        PreconditionError: It does not.
    """
    if ".".join(table) not in dump.contents.tables_with_data:
        raise lacking(f"The backup {dump.path.name} does not hold the table {'.'.join(table)}.", "Choose another backup.")


def _no_values(dump: Dump, table: Name, of: str) -> PreconditionError:
    return lacking(f"The backup {dump.path.name} holds no values of {of} in {'.'.join(table)}.", "Choose another backup.")


@contextmanager
def _written(tools: DumpTools, dump: Dump, table: Name) -> Iterator[tuple[list[str], Iterator[dump_files.Fields]]]:
    with temporary.directory() as directory:
        file = directory / "rows"
        tools.rows_of(dump.path, *table, file, TIMEOUT)
        with dump_files.rows(file) as found:
            yield found


def listed(names: Sequence[str], of: str = "") -> sql.Composed:
    """List columns, quoted and separated by commas, each with the alias `of` if given."""
    return sql.SQL(", ").join(sql.Identifier(*([of] if of else []), name) for name in names)


def lacking(what: str, safe_next: str) -> PreconditionError:
    """Return the error for something missing, found before any change."""
    return PreconditionError(what, state="Nothing was changed.", safe_next=safe_next)


def gone_since(connection: Connection, backfill: BackfillTerms) -> Named | None:
    """Return the fetched rows that the backfill's table does not hold any more. Read-only."""
    return named(connection, backfill.filled(sql.SQL(_GONE), fetched=FETCHED))


_GONE = "SELECT f.{key} AS key FROM {fetched} f WHERE NOT EXISTS (SELECT FROM {table} t WHERE t.{key} = f.{key})"


SAMPLE = 1000  # rows from the beginning of a dump
TABLES = 5  # tables tried
SAMPLE_TIMEOUT = 120.0
_COPY = re.compile(r"^COPY .+? \((?P<columns>.+)\) FROM stdin;$", re.MULTILINE)
_ESCAPED = re.compile(r"\\(.)")
_ESCAPES = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}

Sampled = Mapping[str, str | None]  # column -> its value as text


@dataclass(frozen=True)
class _Table:
    """A table whose rows are identified by one column; `leaves` are the tables that store its rows."""

    schema: str
    name: str
    key: str
    without: tuple[str, ...]  # columns that the feature changed
    leaves: tuple[Name, ...]


@dataclass(frozen=True)
class Sample:
    """How many rows were read, how many of their keys the live database has, and how many of those have the same values."""

    table: str  # schema.name
    rows: int
    found: int
    same: int  # by the identifying column that agrees best; without one, by all of them

    @property
    def share(self) -> float:
        """The share of the rows that the live database has with the same values, 0 to 1."""
        return self.same / self.rows if self.rows else 0.0


def sampled(
    tools: DumpTools, dump: Dump, connection: Connection, database: Database | None, history: Collection[Name]
) -> Sample:
    """Look for some rows of a dump in the live database by their keys. Read-only.

    The table is the plan's if both have it and it can be read. Else it is a large one with a primary key of one column that
    is not of `history`, the migration tool's tables.
    """
    for table in _candidates(connection, database, history):
        leaf = next((leaf for leaf in table.leaves if ".".join(leaf) in dump.contents.tables_with_data), None)
        if leaf and (rows := rows_of_copy(tools.first_rows(dump.path, *leaf, SAMPLE, SAMPLE_TIMEOUT))):
            with suppress(psycopg.DatabaseError):  # a corrupt table shows nothing
                return _compared(connection, table, rows)
    return Sample("no table", 0, 0, 0)


def rows_of_copy(copied: str) -> list[dict[str, str | None]]:
    """Parse the rows in the text of a COPY command with its data. Pure."""
    start = _COPY.search(copied)
    if start is None:
        return []
    names, rows = plain_names(start["columns"]), []
    for line in copied[start.end() + 1 :].split("\n"):
        values = line.split("\t")
        if line == r"\." or len(values) != len(names):
            break
        rows.append({name: None if value == r"\N" else _unescaped(value) for name, value in zip(names, values, strict=True)})
    return rows


def _unescaped(value: str) -> str:
    return _ESCAPED.sub(lambda found: _ESCAPES.get(found[1], found[1]), value)


def _compared(connection: Connection, table: _Table, rows: Sequence[Sampled]) -> Sample:
    types = _types(connection, table)
    shared = [name for name in rows[0] if name in types and name not in (*table.without, table.key)]
    distinct = [name for name in shared if len({row[name] for row in rows if row[name]}) > len(rows) / 2]
    columns = distinct or shared
    names = {table.key, *columns}
    records = [{name: _json(row[name], types[name]) for name in names} for row in rows]
    query = sql.SQL("""SELECT {counts} count(t.{key}) AS found
        FROM json_populate_recordset(NULL::{table}, {rows}) s LEFT JOIN {table} t ON t.{key} = s.{key}""").format(
        key=sql.Identifier(table.key),
        table=sql.Identifier(table.schema, table.name),
        rows=sql.Literal(json.dumps(records)),
        counts=sql.SQL(" ").join(
            sql.SQL("count(t.{key}) FILTER (WHERE s.{it}::text IS NOT DISTINCT FROM t.{it}::text) AS {alias},").format(
                key=sql.Identifier(table.key), it=sql.Identifier(name), alias=sql.Identifier(f"{number}")
            )
            for number, name in enumerate(columns)
        ),
    )
    row = one(connection, query)
    equal = [row[str(number)] for number in range(len(columns))]
    if types[table.key] == "uuid":  # no other database has the same values by chance
        equal, distinct = [row["found"], *(equal if distinct else [])], ["the key"]
    same = (max if distinct else min)(equal, default=row["found"])
    return Sample(f"{table.schema}.{table.name}", len(rows), row["found"], same)


def _json(value: str | None, type_name: str) -> Any:
    return json.loads(value) if value is not None and type_name in ("json", "jsonb") else value


def _types(connection: Connection, table: _Table) -> dict[str, str]:
    found = connection.execute(
        """SELECT attname AS name, typname AS type FROM pg_attribute JOIN pg_type t ON t.oid = atttypid
           WHERE attrelid = to_regclass(%s) AND attnum > 0 AND NOT attisdropped""",
        [sql.Identifier(table.schema, table.name).as_string(connection)],
    )
    return {row["name"]: row["type"] for row in found}


def _candidates(connection: Connection, database: Database | None, history: Collection[Name]) -> list[_Table]:
    found, of_plan = [], [database.schema_, database.table, database.key] if database else [""] * 3
    spec = database.backfill_ if database else None
    changed = [*(database.columns if database else []), *([spec.touch_column] if spec and spec.touch_column else [])]
    for row in connection.execute(_CANDIDATES, [*of_plan, OWN_SCHEMA, [".".join(name) for name in history], TABLES]):
        without = changed if [row["schema"], row["name"]] == of_plan[:2] else []
        found.append(_Table(row["schema"], row["name"], row["key"], tuple(without), tuple((s, n) for s, n in row["leaves"])))
    return found


_CANDIDATES = """
WITH plans AS (SELECT %s::text AS schema, %s::text AS name, %s::text AS key)
SELECT n.nspname AS schema, c.relname AS name, a.attname AS key,
       ARRAY(SELECT ARRAY[h.nspname::text, l.relname::text] FROM pg_class l JOIN pg_namespace h ON h.oid = l.relnamespace
             WHERE l.oid = c.oid OR l.oid IN (SELECT relid FROM pg_partition_tree(c.oid) WHERE isleaf)
             ORDER BY l.oid) AS leaves
FROM plans, pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_attribute a ON a.attrelid = c.oid
LEFT JOIN pg_index i ON i.indrelid = c.oid AND i.indisprimary AND i.indnkeyatts = 1 AND i.indkey[0] = a.attnum
WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relpersistence <> 't' AND n.nspname NOT LIKE 'pg\\_%%'
  AND n.nspname NOT IN ('information_schema', %s)
  AND ((n.nspname, c.relname, a.attname) = (plans.schema, plans.name, plans.key)
       OR (n.nspname, c.relname) <> (plans.schema, plans.name) AND i.indrelid IS NOT NULL
          AND c.reltuples >= 20 AND n.nspname || '.' || c.relname <> ALL (%s))
ORDER BY (n.nspname, c.relname) = (plans.schema, plans.name) DESC, c.reltuples DESC, 1, 2 LIMIT %s
"""
