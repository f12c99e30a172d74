"""One column from a dump: filled in rows that are still there, in batches, each with its undo row."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, Literal

from psycopg import sql

from runbook_lib.adapters.postgres.clearing.guard import Expected, transaction
from runbook_lib.adapters.postgres.connection import Connection, one
from runbook_lib.adapters.postgres.locks import briefly
from runbook_lib.adapters.postgres.restore.fetch import lacking
from runbook_lib.adapters.postgres.restore.part import FINISHED, Count, Part, Source, compared, make_undo
from runbook_lib.adapters.postgres.restore.shape import Name, Table

BATCH = 5000  # rows a transaction
ADDED = "the column was added"
WANTED = {
    "missing": "t.{0} IS NULL AND r.{0} IS NOT NULL",
    "differing": "t.{0} IS DISTINCT FROM r.{0}",
}
UNDO = """SELECT {as_noted}, t.{column} AS old, t.{column} AS new, '1'::xid AS written FROM {table} t"""


class ColumnPart(Part):
    """One column, in rows whose key is still there; `only` says whether rows without a value alone, or all that differ.

    A column that is not there is added with the dump's type, without default or NOT NULL.
    """

    def __init__(self, source: Source, table: Name, column: str, only: Literal["missing", "differing"] = "missing") -> None:
        super().__init__(source, table)
        self.column = column
        self.only = only

    def count(self) -> Count:
        """What filling it would come to; the live database is only read."""
        with self._fetched() as (live, table):
            terms, missing = self._terms(self.key(table)), self.column not in table.names
            if missing:
                terms |= {"wanted": sql.SQL("r.{column} IS NOT NULL").format(**terms)}
                terms["differs"] = terms["wanted"]
            query = sql.SQL("SELECT count(*) AS n FROM {table} t JOIN {fetched} r ON {same} WHERE {wanted}")
            filled = int(one(live, query.format(**terms))["n"])
            differ, gone, newer = compared(live, terms)
            return Count(filled, differ - filled, gone, newer, column_added=missing)

    def take(self) -> Count:
        """Fill it, or go on where that stopped. Changes the target."""
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
        """Put back what the column held where it still holds what was filled in.

        A column that was added is dropped again where nothing is left in it. Changes the target.
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

        return briefly(self.postgres.connect, work, self.source.waiting)

    def altered(self, live: Connection) -> int:
        """How many rows that nobody has written since hold something else than was filled in. Read-only."""
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
        return {**self.terms(key), "wanted": sql.SQL(WANTED[self.only]).format(sql.Identifier(self.column))}

    def _add(self, terms: dict[str, Any]) -> None:
        """Add the column, and note that in the same transaction. Changes the target."""

        def work(live: Connection) -> None:
            add = sql.SQL("ALTER TABLE {table} ADD COLUMN IF NOT EXISTS {column} {type}")
            live.execute(add.format(**terms, type=sql.SQL(self._type)))
            make_undo(live, UNDO, terms)
            self.mark(live, ADDED)

        briefly(self.postgres.connect, work, self.source.waiting)


def _fill(live: Connection, terms: dict[str, Any], after: Sequence[str] | None) -> tuple[int, list[str]] | None:
    """Fill a batch of rows whose key, as text, comes after `after`; None where none is left.

    Raises:
        StepFailed: A trigger would have changed anything else; the batch was rolled back.
    """
    query = sql.SQL("""
        WITH chosen AS MATERIALIZED (
            SELECT {as_noted}, t.{column} AS old, r.{column} AS new FROM {table} t JOIN {fetched} r ON {same}
            WHERE {after} AND {wanted} ORDER BY {keys} LIMIT {size} FOR UPDATE OF t
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
    with transaction(live, expected):
        row = live.execute(query.format(**terms, after=place, size=sql.Literal(BATCH))).fetchone()
        if row is None:
            return None
        expected += [(terms["table"], (0, row["rows"], 0)), (terms["undo"], (row["rows"], 0, 0))]
    return row["rows"], row["last"]
