"""One column from a dump: filled in rows that are still there, in batches, each with its undo row."""

from typing import Any, Literal

from psycopg import sql

from runbook_lib.adapters.postgres.clearing.guard import Expected, transaction
from runbook_lib.adapters.postgres.connection import Connection, one
from runbook_lib.adapters.postgres.locks import briefly
from runbook_lib.adapters.postgres.restore.fetch import FETCHED, lacking, streamed
from runbook_lib.adapters.postgres.restore.part import FINISHED, Count, Part, Source, compared, make_undo
from runbook_lib.adapters.postgres.restore.shape import Name

BATCH = 5000  # rows a transaction
ADDED = "the column was added"
WANTED = {
    "missing": "t.{0} IS NULL AND r.{0} IS NOT NULL",
    "differing": "t.{0} IS DISTINCT FROM r.{0}",
}
UNDO = """SELECT {key} AS key, {column} AS old, {column} AS new, '1'::xid AS written FROM {table}"""


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
        type_name = self._type()
        with self.both() as (_, there, _, table):
            terms, missing = self._terms(table.keys[0][0]), self.column not in table.names
            names = [table.keys[0][0], *([] if missing else [self.column])]
            streamed(self.postgres, self.postgres.database, there, self.table, names)
            if missing:
                add = sql.SQL("ALTER TABLE {} ADD COLUMN {column} {}")
                there.execute(add.format(FETCHED, sql.SQL(type_name), **terms))
            # here the dump's rows are in the table, and the live ones fetched: the other way round than when it is filled
            turned = {**terms, "table": terms["fetched"], "fetched": terms["table"]}
            query = sql.SQL("SELECT count(*) AS n FROM {table} t JOIN {fetched} r ON t.{key} = r.{key} WHERE {wanted}")
            filled = int(one(there, query.format(**turned))["n"])
            differ, gone, newer = compared(there, turned)
            return Count(filled, differ - filled, gone, newer, column_added=missing)

    def take(self) -> Count:
        """Fill it, or go on where that stopped. Changes the target."""
        type_name = self._type()
        with self.both() as (source, _, live, table):
            terms, missing = self._terms(table.keys[0][0]), self.column not in table.names
            if missing:
                self._add(terms, type_name)
            streamed(self.postgres, source, live, self.table, [table.keys[0][0], self.column])
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
            terms = self._terms(self.live_table(live).keys[0][0])
            if not self.begun(live):
                return 0, 0
            restored = live.execute(
                sql.SQL("""WITH back AS (UPDATE {table} t SET {column} = u.old FROM {undo} u
                    WHERE t.{key} = u.key AND t.{column} IS NOT DISTINCT FROM u.new RETURNING u.key)
                DELETE FROM {undo} u USING back WHERE u.key = back.key""").format(**terms)
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
        query = sql.SQL("""SELECT count(*) AS n FROM {undo} u JOIN {table} t ON t.{key} = u.key
            WHERE t.xmin = u.written AND t.{column} IS DISTINCT FROM u.new""")
        return int(one(live, query.format(**self._terms(self.live_table(live).keys[0][0])))["n"])

    def _type(self) -> str:
        dump = self.source.dump
        type_name = dump.columns.get(".".join(self.table), {}).get(self.column)
        if type_name is None:
            raise lacking(
                f"The backup {dump.path.name} has no column {self.column} in {'.'.join(self.table)}.", "Choose another."
            )
        return type_name

    def _terms(self, key: str) -> dict[str, Any]:
        return {**self.terms(key), "wanted": sql.SQL(WANTED[self.only]).format(sql.Identifier(self.column))}

    def _add(self, terms: dict[str, Any], type_name: str) -> None:
        """Add the column, and note that in the same transaction. Changes the target."""

        def work(live: Connection) -> None:
            add = sql.SQL("ALTER TABLE {table} ADD COLUMN IF NOT EXISTS {column} {type}")
            live.execute(add.format(**terms, type=sql.SQL(type_name)))
            make_undo(live, UNDO, terms)
            self.mark(live, ADDED)

        briefly(self.postgres.connect, work, self.source.waiting)


def _fill(live: Connection, terms: dict[str, Any], after: Any) -> tuple[int, Any] | None:
    """Fill a batch of rows whose key comes after `after`; None where none is left.

    Raises:
        StepFailed: A trigger would have changed anything else; the batch was rolled back.
    """
    query = sql.SQL("""
        WITH chosen AS MATERIALIZED (
            SELECT t.{key} AS key, t.{column} AS old, r.{column} AS new FROM {table} t JOIN {fetched} r ON t.{key} = r.{key}
            WHERE {after} AND {wanted} ORDER BY t.{key} LIMIT {size} FOR UPDATE OF t
        ), changed AS (
            UPDATE {table} t SET {column} = chosen.new FROM chosen WHERE t.{key} = chosen.key RETURNING t.{key} AS key
        ), saved AS (
            INSERT INTO {undo} SELECT key, old, new, pg_current_xact_id()::xid FROM chosen JOIN changed USING (key)
            RETURNING key
        ) SELECT count(*) AS rows, (SELECT (array_agg(key ORDER BY key DESC))[1] FROM chosen) AS last
        FROM saved""")
    place = sql.SQL("TRUE") if after is None else sql.SQL("t.{} > {}").format(terms["key"], sql.Literal(after))
    expected: Expected = []
    with transaction(live, expected):
        row = one(live, query.format(**terms, after=place, size=sql.Literal(BATCH)))
        expected += [(terms["table"], (0, row["rows"], 0)), (terms["undo"], (row["rows"], 0, 0))]
    return (row["rows"], row["last"]) if row["rows"] else None
