"""Clear a column by replacing it: two short locks, and the old column is kept for the undo.

The catalog alone shows the stage: nothing done; a shadow column, being filled; cut over, the old column kept.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import StrEnum
from functools import partial

from psycopg import sql

from runbook_lib.postgres import Connection, Open
from runbook_lib.postgres.backfill_removal.column import Column
from runbook_lib.postgres.backfill_removal.guard import Expected, Named, Records, block, labelled, named, transaction
from runbook_lib.postgres.backfill_removal.throttle import Lines, PaceOn, Throttle, among, over_pages
from runbook_lib.postgres.backfill_terms import BackfillTerms
from runbook_lib.postgres.blockers import Blocker
from runbook_lib.postgres.change_capture import MOST, ChangeCapture
from runbook_lib.postgres.connection import one
from runbook_lib.postgres.lock_budget import EXCHANGING, with_patience, with_short_lock_in_one_message
from runbook_lib.postgres.page_ranges import Range, within
from runbook_lib.postgres.round_trip import Statements
from runbook_lib.postgres.text_settings import in_parallel

Waiting = Callable[[Sequence[Blocker]], None]
PAGES = 500  # pages per transaction


class Stage(StrEnum):
    """The progress of a swap."""

    NOTHING = "nothing"
    SHADOW = "shadow"
    CUT_OVER = "cut over"


class Swap:
    """One run's swap of the backfilled column; each method resumes where a crash left it."""

    def __init__(self, open_: Open, backfill: BackfillTerms, waiting: Waiting) -> None:
        self.open = open_
        self.backfill = backfill
        self.waiting = waiting
        self.column = Column(backfill)
        self.capture = ChangeCapture(backfill.table, backfill.database.key, backfill.run, "capture")
        self.records = Records(backfill)

    def stage(self, connection: Connection) -> Stage:
        """Return the stage of this run's swap, from the catalog. Read-only."""
        names = self.column.present(connection)
        if self.column.old in names:
            return Stage.CUT_OVER
        return Stage.SHADOW if self.column.shadow in names else Stage.NOTHING

    def apply(self, throttle_on: PaceOn, workers: int, *, stopped: bool) -> None:
        """Put the cleared column in place of the old one, which is kept next to it. Changes the target.

        Args:
            throttle_on: Makes the throttle called before each batch, on its own connection.
            workers: How many connections fill the column at once.
            stopped: Whether nobody else uses the table meanwhile.

        Raises:
            StepFailed: A transaction would have changed something else; it was rolled back.
            PreconditionError: A lock could not be acquired in time, or others write faster than this can follow.
        """
        with self.open() as connection:
            stage = self.stage(connection)
            capturing = self.capture.begun(connection)
            if stage is not Stage.CUT_OVER:
                self.records.prepare(connection)
                with connection.transaction():
                    self.capture.prepare(Statements(connection))
        if stage is Stage.CUT_OVER:
            if capturing:  # an undo was begun and is now superseded
                self._with_short_lock(self._end_capture, Stage.CUT_OVER)
            return
        if stage is Stage.NOTHING:
            self._with_short_lock(self._add_shadow, Stage.SHADOW)
        self._fill(throttle_on, workers)
        with self.open() as connection:
            if not stopped:
                with_patience(self.open, connection, partial(self._capture_missed, connection), self.waiting)
        self.column.index_shadow(self.open, self.waiting, concurrently=not stopped)
        self._catch_up()
        self._with_short_lock(self.cut_over, Stage.CUT_OVER)

    def differing(self, connection: Connection, *, exclusive: bool) -> Named:
        """Return the rows whose value differs from their cleared old value. Read-only.

        Rows that others have written since the cut-over do not count.
        """
        old = self.backfill.over(self.column.old)
        query = sql.SQL("""SELECT t.{key} AS key FROM {table} t
        WHERE NOT ({as_filled} AND {plain}) AND {differ}
          AND (age(t.xmin) >= (SELECT min(age(xid)) FROM {writes}) OR t.xmin IN (SELECT xid FROM {writes}))""").format(
            key=self.backfill.key,
            table=self.backfill.table,
            writes=self.records.writes,
            as_filled=self.backfill.same(self.backfill.of("t"), self.backfill.fill),
            plain=old.plain,
            differ=self.backfill.differ(self.backfill.of("t"), old.value),
        )
        with in_parallel(connection, exclusive):
            return named(connection, query)

    def _with_short_lock(self, work: Callable[[Statements], None], then: Stage) -> None:
        def done(statements: Statements) -> Stage:
            work(statements)
            return then

        def waited(blockers: Sequence[Blocker]) -> None:
            self.waiting(blockers)
            if then is Stage.CUT_OVER:
                self._catch_up()

        def recorded(connection: Connection) -> Stage | None:
            return then if self.stage(connection) is then else None

        with labelled():
            with_short_lock_in_one_message(self.open, done, waited, budget=EXCHANGING, recorded=recorded)

    def _catch_up(self) -> None:
        with self.open() as connection:
            self.capture.catch_up(connection, lambda: bring_up_to_date(connection, self))

    def _add_shadow(self, statements: Statements) -> None:
        self.column.lock(statements)
        self.column.add_shadow(statements)
        self.capture.begin(statements, self.backfill.columns_read)

    def _end_capture(self, statements: Statements) -> None:
        self.column.lock(statements)
        self.capture.end(statements)

    def _fill(self, throttle_on: PaceOn, workers: int) -> None:
        def filled(connection: Connection, pace: Throttle, pages: Range, lines: Lines) -> int:
            return pace.granted(connection, partial(self._filled, connection, pages, lines))

        to_fill = sql.SQL("NOT {}").format(self.backfill.plain)
        over_pages(self.open, self.backfill, to_fill, throttle_on, workers, filled, PAGES)

    def _filled(self, connection: Connection, pages: Range, lines: Lines) -> int:
        expected: Expected = []
        with transaction(connection, expected, self.backfill.written_by_triggers):
            rows = connection.execute(
                self.backfill.filled(
                    sql.SQL("""UPDATE {table} t SET {shadow} = k.value
                    FROM (SELECT t.ctid AS place, {value} AS value FROM {table} t
                          WHERE {within} AND CASE WHEN {among} THEN NOT {plain} ELSE FALSE END OFFSET 0) k
                    WHERE t.ctid = k.place AND {within} AND {differ}"""),
                    shadow=sql.Identifier(self.column.shadow),
                    value=self.backfill.value_unless_plain,
                    differ=self.backfill.differ(self._of_shadow, sql.SQL("k.value")),
                    within=within("t", pages),
                    among=among(lines),
                    plain=self.backfill.plain,
                )
            ).rowcount
            if rows:
                self.records.write(Statements(connection), rows)
                expected += [(self.backfill.table, (0, rows, 0)), (self.records.writes, (1, 0, 0))]
        return rows

    @property
    def _of_shadow(self) -> sql.Identifier:
        return sql.Identifier("t", self.column.shadow)

    def _capture_missed(self, connection: Connection) -> None:
        """Capture, in one snapshot, the rows that others moved to other pages past the filling."""
        expected: Expected = []
        with transaction(connection, expected):
            rows = connection.execute(
                self.backfill.filled(
                    sql.SQL("""INSERT INTO {captured} SELECT t.{key} FROM {table} t
                    WHERE NOT {plain} AND {differ}"""),
                    captured=self.capture.keys,
                    differ=self.backfill.differ(self._of_shadow, self.backfill.value_unless_plain),
                    plain=self.backfill.plain,
                )
            ).rowcount
            expected.append((self.capture.keys, (rows, 0, 0)))

    def cut_over(self, statements: Statements) -> None:
        """Put the new column in place, with rows written meanwhile, under the table's lock. Changes the target."""
        self.column.lock(statements)
        bring_up_to_date_wholly(statements, self)
        self.records.write(statements, 0)  # from now on only others write rows
        self.capture.end(statements)
        self.column.cut_over(statements)


def bring_up_to_date(connection: Connection, swap: Swap) -> int:
    """Recompute the shadow value of captured rows in one transaction; return how many keys were processed.

    Each row's latest version counts: a write meanwhile captures it again. Changes the target.

    Raises:
        StepFailed: The transaction would have changed something else; it was rolled back.
    """
    expected: Expected = []
    with transaction(connection, expected, swap.backfill.written_by_triggers):
        it = one(connection, _brought_up_to_date(swap, MOST))
        expected += [
            (swap.capture.keys, (0, 0, it["keys"])),
            (swap.backfill.table, (0, it["rows"], 0)),
            (swap.records.writes, (min(it["rows"], 1), 0, 0)),
        ]
    return int(it["keys"])


def bring_up_to_date_wholly(statements: Statements, swap: Swap) -> None:
    """Recompute the shadow value of all captured rows, in a `guard.block`.

    Runs in the caller's transaction, under the table's lock. Changes the target.
    """
    none, keys, rows = sql.SQL("0"), sql.SQL("it.keys"), sql.SQL("it.rows")
    expected = [
        (swap.capture.keys, (none, none, keys)),
        (swap.backfill.table, (none, rows, none)),
        (swap.records.writes, (sql.SQL("least(it.rows, 1)"), none, none)),
    ]
    statements.write(block(_brought_up_to_date(swap, None), expected, swap.backfill.written_by_triggers))


def _brought_up_to_date(swap: Swap, most: int | None) -> sql.Composed:
    backfill = swap.backfill
    return backfill.filled(
        sql.SQL("""WITH taken AS ({taken}), changed AS (
            UPDATE {table} t SET {shadow} = {value} WHERE t.{key} = ANY (ARRAY (SELECT key FROM taken))
              AND {differ} RETURNING TRUE
        ), noted AS (
            INSERT INTO {writes} SELECT pg_current_xact_id()::xid, count(*) FROM changed HAVING count(*) > 0
        )
        SELECT (SELECT count(*) FROM taken) AS keys, (SELECT count(*) FROM changed) AS rows"""),
        taken=swap.capture.taken(most),
        shadow=sql.Identifier(swap.column.shadow),
        value=backfill.value,
        differ=backfill.differ(sql.Identifier("t", swap.column.shadow), backfill.value),
        writes=swap.records.writes,
    )
