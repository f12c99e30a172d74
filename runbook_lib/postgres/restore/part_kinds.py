"""The kinds of partial restore: the missing rows of a table, a missing table, one column."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any, Literal

from psycopg import sql

from runbook_lib.errors import PreconditionError
from runbook_lib.postgres import Connection
from runbook_lib.postgres.backfill_removal.guard import Expected, transaction
from runbook_lib.postgres.catalog import identify_rows, make_own_schema
from runbook_lib.postgres.connection import one
from runbook_lib.postgres.lock_budget import with_short_lock
from runbook_lib.postgres.restore.dump_inspector import DumpedKey
from runbook_lib.postgres.restore.fetch import lacking, listed, rows_in, staging_name_of
from runbook_lib.postgres.restore.part import FINISHED, Count, Keys, Part, Source, compared, keys_of, make_undo
from runbook_lib.postgres.restore.shape import Name, Table, tables
from runbook_lib.postgres.restore.staging_database import TIMEOUT


class RowsPart(Part):
    """The missing rows of a table, in one statement, because they may refer to one another in any order."""

    name = "rows"
    fires = "INSERT"
    at_once = True

    def said(self, rows: int) -> str:
        """Say that rows are restored. Pure."""
        return f"{rows} rows are restored"

    def count(self) -> Count:
        """Count what restoring them would do; the live database is only read."""
        with self.fetched(self._names, {}) as (live, table):
            kept, gone, newer = compared(live, self._terms(self.key(table), self._names(table)))
            return Count(gone, kept, 0, newer)

    def take(self) -> Count:
        """Restore the rows. Changes the target.

        Raises:
            AdapterError: A row points to a missing one; none was restored.
        """
        with self.fetched(self._names, {}) as (live, table):
            terms = self._terms(self.key(table), self._names(table))
            expected: Expected = []
            with transaction(live, expected, self.source.allowed):
                make_undo(live, "SELECT {columns} FROM {table}", terms)
                added = live.execute(
                    sql.SQL("""WITH added AS (INSERT INTO {table} ({columns}) OVERRIDING SYSTEM VALUE
                        SELECT {columns} FROM {fetched} ON CONFLICT DO NOTHING RETURNING {columns})
                    INSERT INTO {undo} SELECT * FROM added""").format(**terms)
                ).rowcount
                expected += [(terms["table"], (added, 0, 0)), (terms["undo"], (added, 0, 0))]
                self.mark(live, FINISHED)
            self.source.filled(added)
            return Count(added, *compared(live, terms))

    def give_back(self) -> tuple[int, int]:
        """Delete the restored rows that are unchanged. Changes the target."""
        with self.postgres.connect() as live, live.transaction():
            if not self.begun(live):
                return 0, 0
            terms = self._of_undo(live)
            removed = live.execute(
                sql.SQL("""WITH gone AS (DELETE FROM {table} t USING {undo} r
                    WHERE {same} AND NOT {differs} RETURNING r.ctid AS place)
                DELETE FROM {undo} u USING gone WHERE u.ctid = gone.place""").format(**terms)
            ).rowcount
            left = self.undo_rows(live)
            if left:
                self.mark(live)
            else:
                live.execute(sql.SQL("DROP TABLE {undo}").format(**terms))
        return removed, left

    def altered(self, live: Connection) -> int:
        """Count restored rows that differ from the dump, including rows written since. Read-only."""
        query = sql.SQL("SELECT count(*) AS n FROM {undo} r JOIN {table} t ON {same} WHERE {differs}")
        return int(one(live, query.format(**self._of_undo(live)))["n"])

    def _names(self, table: Table) -> list[str]:
        there = self.source.dump.columns.get(".".join(self.table), {})
        return [each.name for each in table.columns if each.name in there and not each.generated]

    def _of_undo(self, live: Connection) -> dict[str, Any]:
        query = "SELECT attname AS name FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0 ORDER BY attnum"
        names = [row["name"] for row in live.execute(query, [self.undo.as_string(live)])]
        return self._terms(self.key(self.live_table(live)), names)

    def _terms(self, key: Sequence[str], names: list[str]) -> dict[str, Any]:
        of_both = {"t": listed(names, "t"), "r": listed(names, "r")}
        differs = sql.SQL("ROW({t})::text IS DISTINCT FROM ROW({r})::text").format(**of_both)
        return {**self.terms(key), "columns": listed(names), "differs": sql.SQL("({})").format(differs)}


class TablePart(Part):
    """A table with rows, indexes, constraints and triggers, and the foreign keys of other tables that point to it.

    Instead of undo rows it keeps a checksum of all its rows, so that it is dropped again only if unchanged.
    """

    name = "table"
    fires = "INSERT"
    makes_table = True

    def said(self, rows: int) -> str:
        """Say that the table is restored. Pure."""
        return f"the table is restored with {rows} rows, its indexes, constraints and triggers"

    def count(self) -> Count:
        """Count the rows it would have; the live database is only read."""
        with self.postgres.connect() as live:
            if self.table in tables(live):
                raise self._there()
            without = self._keys.impossible(live)
        return self._counted(rows_in(self.source.tools, self.source.dump, self.table), without)

    def take(self) -> Count:
        """Restore it, or finish that. Changes the target.

        Raises:
            PreconditionError: The table exists, and not by this run.
            AdapterError: A row points to a missing one; that foreign key holds only for new rows.
        """
        with self.postgres.connect() as live:
            is_there = self.table in tables(live)
            if is_there and not self.begun(live):
                raise self._there()
        if not is_there:
            self._restore()
        self._keys.make(self.postgres.connect, self.source.waiting)
        with self.postgres.connect() as live, live.transaction():
            live.execute(sql.SQL("UPDATE {} SET rows = {}").format(self.undo, sql.Literal(self._sum(live))))
            self.mark(live, FINISHED)
            rows, without = _rows(live, self.table), self._keys.impossible(live)
        self.source.filled(rows)
        return self._counted(rows, without)

    def give_back(self) -> tuple[int, int]:
        """Drop it again if its rows are unchanged since the restore. Changes the target.

        Raises:
            PreconditionError: They changed.
        """

        def work(live: Connection) -> tuple[int, int]:
            if not self.begun(live):
                return 0, 0
            rows = 0
            if self.table in tables(live):
                live.execute(sql.SQL("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE").format(sql.Identifier(*self.table)))
                if self.finished(live) and self.altered(live):
                    raise PreconditionError(
                        f"Rows of {'.'.join(self.table)} were written since it was restored.",
                        state="Nothing was changed.",
                        safe_next="Keep the table; or delete those rows, and undo again.",
                    )
                rows = _rows(live, self.table)
                self._keys.drop_pointing(live)
                live.execute(sql.SQL("DROP TABLE {}").format(sql.Identifier(*self.table)))
            live.execute(sql.SQL("DROP TABLE {}").format(self.undo))
            return rows, 0

        return with_short_lock(self.postgres.connect, work, self.source.waiting)

    def altered(self, live: Connection) -> int:
        """1 if its rows changed since the restore, else 0. Read-only."""
        return int(one(live, sql.SQL("SELECT rows AS it FROM {}").format(self.undo))["it"] != self._sum(live))

    @property
    def _keys(self) -> Keys:
        return keys_of(self.source.dump, self.table)

    def _counted(self, rows: int, without: Mapping[DumpedKey, str]) -> Count:
        again = tuple(str(key) for key in self._keys.pointing if key not in without)
        return Count(rows, 0, 0, 0, keys=again, without=tuple(f"{key}: {reason}" for key, reason in without.items()))

    def _restore(self) -> None:
        dump = self.source.dump
        scratch = dump.path.with_name(f".{dump.path.name}.{self.postgres.run}.part")
        pattern = '"{}"."{}"'.format(*(part.replace('"', '""') for part in self.table))
        try:
            with staging_name_of(self.postgres, self.source.tools, dump, self.table) as source:
                self.source.tools.dump_part(scratch, TIMEOUT, f"--table={pattern}", database=source)
            with self.postgres.connect() as live, live.transaction():
                make_own_schema(live)
                live.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(self.undo))
                live.execute(sql.SQL("CREATE TABLE {} AS SELECT NULL::text AS rows").format(self.undo))
                live.execute(identify_rows(self.undo))
            tools = replace(self.source.tools, hold=None)  # paused, it would hold a transaction of the live database
            tools.restore(scratch, self.postgres.database, TIMEOUT, "--single-transaction")
        finally:
            scratch.unlink(missing_ok=True)

    def _sum(self, live: Connection) -> str:
        query = sql.SQL("SELECT concat(count(*), ' ', sum(hashtextextended(t::text, 0))) AS it FROM {} t")
        return str(one(live, query.format(sql.Identifier(*self.table)))["it"])

    def _there(self) -> PreconditionError:
        return lacking(f"The table {'.'.join(self.table)} exists already.", "Restore its rows, or one column of it.")


def _rows(connection: Connection, table: tuple[str, str]) -> int:
    return int(one(connection, sql.SQL("SELECT count(*) AS n FROM {}").format(sql.Identifier(*table)))["n"])


BATCH = 5000  # rows per transaction
ADDED = "the column was added"
CHOSEN_ROWS = {
    "missing": "t.{0} IS NULL AND r.{0} IS NOT NULL",
    "differing": "t.{0} IS DISTINCT FROM r.{0}",
}
UNDO = """SELECT {as_noted}, t.{column} AS old, t.{column} AS new, '1'::xid AS written FROM {table} t"""


class ColumnPart(Part):
    """One column, in rows whose key still exists; `only` says whether only rows without a value, or all that differ.

    A missing column is added with the dump's type, without default or NOT NULL.
    """

    name = "column"
    fires = "UPDATE"

    def __init__(self, source: Source, table: Name, column: str, only: Literal["missing", "differing"] = "missing") -> None:
        super().__init__(source, table)
        self.column = column
        self.only = only

    def said(self, rows: int) -> str:
        """Say that rows get their value back. Pure."""
        return f"{rows} rows get their value of {self.column} back"

    def count(self) -> Count:
        """Count what filling it would do; the live database is only read."""
        with self._fetched() as (live, table):
            terms, missing = self._terms(self.key(table)), self.column not in table.names
            if missing:
                terms |= {"chosen_rows": sql.SQL("r.{column} IS NOT NULL").format(**terms)}
                terms["differs"] = terms["chosen_rows"]
            query = sql.SQL("SELECT count(*) AS n FROM {table} t JOIN {fetched} r ON {same} WHERE {chosen_rows}")
            filled = int(one(live, query.format(**terms))["n"])
            differ, gone, newer = compared(live, terms)
            return Count(filled, differ - filled, gone, newer, column_added=missing)

    def take(self) -> Count:
        """Fill it, or resume that. Changes the target."""
        with self._fetched() as (live, table):
            terms, missing = self._terms(self.key(table)), self.column not in table.names
            if missing:
                self._add(terms)
            make_undo(live, UNDO, terms)
            filled, last = 0, None
            while batch := _fill(live, terms, last):
                filled, last = filled + batch[0], batch[1]
                self.source.filled(batch[0])
            with live.transaction():
                self.mark(live, *dict.fromkeys([*self.marks(live), FINISHED]))
            return Count(filled, *compared(live, terms), column_added=missing)

    def give_back(self) -> tuple[int, int]:
        """Restore the column's previous values where it still holds what was filled in.

        An added column is dropped again if it holds no value any more. Changes the target.
        """

        def work(live: Connection) -> tuple[int, int]:
            terms = self._terms(self.key(self.live_table(live)))
            if not self.begun(live):
                return 0, 0
            restored = live.execute(
                sql.SQL("""WITH back AS (UPDATE {table} t SET {column} = u.old FROM {undo} u
                    WHERE {is_noted} AND t.{column} IS NOT DISTINCT FROM u.new RETURNING u.ctid AS place)
                DELETE FROM {undo} u USING back WHERE u.ctid = back.place""").format(**terms)
            ).rowcount
            added = [mark for mark in self.marks(live) if mark == ADDED]
            left = sql.SQL("SELECT (SELECT count(*) FROM {undo}) AS undo, (SELECT count({column}) FROM {table}) AS filled")
            row = one(live, left.format(**terms))
            if added and not row["filled"]:
                live.execute(sql.SQL("ALTER TABLE {table} DROP COLUMN {column}").format(**terms))
            if row["undo"]:
                self.mark(live, *added)
            else:
                live.execute(sql.SQL("DROP TABLE {undo}").format(**terms))
            return restored, row["undo"]

        return with_short_lock(self.postgres.connect, work, self.source.waiting)

    def altered(self, live: Connection) -> int:
        """Count rows that differ from what was filled in, although nobody has written them since. Read-only."""
        query = sql.SQL("""SELECT count(*) AS n FROM {undo} u JOIN {table} t ON {is_noted}
            WHERE t.xmin = u.written AND t.{column} IS DISTINCT FROM u.new""")
        return int(one(live, query.format(**self._terms(self.key(self.live_table(live)))))["n"])

    def _fetched(self) -> AbstractContextManager[tuple[Connection, Table]]:
        return self.fetched(lambda table: [self.column], {self.column: self._type})

    @property
    def _type(self) -> str:
        dump = self.source.dump
        type_name = dump.columns.get(".".join(self.table), {}).get(self.column)
        if type_name is None:
            raise lacking(
                f"The backup {dump.path.name} has no column {self.column} in {'.'.join(self.table)}.", "Choose another."
            )
        return type_name

    def _terms(self, key: Sequence[str]) -> dict[str, Any]:
        rows = sql.SQL(CHOSEN_ROWS[self.only]).format(sql.Identifier(self.column))
        return {**self.terms(key), "chosen_rows": rows, "allowed": self.source.allowed}

    def _add(self, terms: dict[str, Any]) -> None:
        """Add the column, and mark that in the same transaction. Changes the target."""

        def work(live: Connection) -> None:
            add = sql.SQL("ALTER TABLE {table} ADD COLUMN IF NOT EXISTS {column} {type}")
            live.execute(add.format(**terms, type=sql.SQL(self._type)))
            make_undo(live, UNDO, terms)
            self.mark(live, ADDED)

        with_short_lock(self.postgres.connect, work, self.source.waiting)


def _fill(live: Connection, terms: dict[str, Any], after: Sequence[str] | None) -> tuple[int, list[str]] | None:
    """Fill a batch of rows whose key, as text, comes after `after`; None if no row is left.

    Raises:
        StepFailed: A trigger would have changed something else; the batch was rolled back.
    """
    query = sql.SQL("""
        WITH chosen AS MATERIALIZED (
            SELECT {as_noted}, t.{column} AS old, r.{column} AS new FROM {table} t JOIN {fetched} r ON {same}
            WHERE {after} AND {chosen_rows} ORDER BY {keys} LIMIT {size} FOR UPDATE OF t
        ), changed AS (
            UPDATE {table} t SET {column} = u.new FROM chosen u WHERE {is_noted} RETURNING {as_noted}
        ), saved AS (
            INSERT INTO {undo} SELECT {noted}, old, new, pg_current_xact_id()::xid FROM chosen JOIN changed USING ({noted})
            RETURNING 1
        ) SELECT (SELECT count(*) FROM saved) AS rows, ARRAY[{texts}] AS last
        FROM chosen ORDER BY {backwards} LIMIT 1""")
    place: sql.Composable = sql.SQL("TRUE")
    if after is not None:
        place = sql.SQL("ROW({}) > ROW({})").format(terms["keys"], sql.SQL(", ").join(map(sql.Literal, after)))
    expected: Expected = []
    with transaction(live, expected, terms["allowed"]):
        row = live.execute(query.format(**terms, after=place, size=sql.Literal(BATCH))).fetchone()
        if row is None:
            return None
        expected += [(terms["table"], (0, row["rows"], 0)), (terms["undo"], (row["rows"], 0, 0))]
    return row["rows"], row["last"]
