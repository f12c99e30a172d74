"""Clears a column by putting a new one in its place: two short locks, and the old column is the way back.

Stages, each told by the catalog alone: nothing done; a column aside, being filled; exchanged, the old column kept.
"""

import threading
from collections.abc import Callable, Sequence
from enum import StrEnum

from psycopg import sql

from runbook_lib.adapters.postgres.backfill import Backfill
from runbook_lib.adapters.postgres.brevity import EXCHANGING
from runbook_lib.adapters.postgres.clearing.capture import Capture
from runbook_lib.adapters.postgres.clearing.catching_up import bring_up_to_date, bring_up_to_date_wholly, catch_up
from runbook_lib.adapters.postgres.clearing.column import Column
from runbook_lib.adapters.postgres.clearing.crew import PaceOn, Pages, Range, at_once, within
from runbook_lib.adapters.postgres.clearing.guard import Expected, told, transaction
from runbook_lib.adapters.postgres.clearing.pacing import Pace
from runbook_lib.adapters.postgres.clearing.passes import TOGETHER, Lines, among, in_passes, passes_of
from runbook_lib.adapters.postgres.clearing.records import Records
from runbook_lib.adapters.postgres.connection import Connection
from runbook_lib.adapters.postgres.locks import Blocker, Open, briefly
from runbook_lib.adapters.postgres.named import Named, named
from runbook_lib.adapters.postgres.parallel import in_parallel

Waiting = Callable[[Sequence[Blocker]], None]
PAGES = 500  # a transaction


class Stage(StrEnum):
    """How far a swap has come."""

    NOTHING = "nothing"
    ASIDE = "aside"
    EXCHANGED = "exchanged"


class Swap:
    """One run's swap of the backfilled column; each method goes on where a crash left it."""

    def __init__(self, open_: Open, backfill: Backfill, waiting: Waiting) -> None:
        self.open = open_
        self.backfill = backfill
        self.waiting = waiting
        self.column = Column(backfill)
        self.capture = Capture(backfill)
        self.records = Records(backfill)

    def stage(self, connection: Connection) -> Stage:
        """How far this run's swap has come, by the catalog. Read-only."""
        names = self.column.present(connection)
        if self.column.old in names:
            return Stage.EXCHANGED
        return Stage.ASIDE if self.column.aside in names else Stage.NOTHING

    def apply(self, pace_on: PaceOn, workers: int, *, stopped: bool) -> None:
        """Put the cleared column in place of the old one, which stays beside it. Changes the target.

        Args:
            pace_on: Makes what stands before each batch, on a connection of its own.
            workers: How many connections fill the column at once.
            stopped: Whether nobody else uses the table meanwhile.

        Raises:
            StepFailed: A transaction would have changed anything else; it was rolled back.
            PreconditionError: A lock was not to be had in time.
        """
        with self.open() as connection:
            stage = self.stage(connection)
            if stage is Stage.EXCHANGED:
                return
            self.records.prepare(connection)
            self.capture.prepare(connection)
        if stage is Stage.NOTHING:
            self._briefly(self._put_aside, Stage.ASIDE)
        with self.open() as connection:
            pages = Pages(connection, self.backfill.table)
        at_once(self.open, pace_on, workers, lambda *of_one: self._fill(pages, *of_one))
        with self.open() as connection:
            if not stopped:
                self._capture_missed(connection)
            self.column.index_aside(connection, concurrently=not stopped)
        self._catch_up()
        self._briefly(self._exchange, Stage.EXCHANGED)

    def differing(self, connection: Connection, *, in_a_hurry: bool) -> Named:
        """The rows that hold another value than their old one gives once it is cleared. Read-only.

        Rows that others have written since the exchange do not count: they hold what was put there.
        """
        old = self.backfill.over(self.column.old)
        query = sql.SQL("""SELECT t.{key} AS key FROM {table} t
        WHERE NOT (t.{column} IS NOT DISTINCT FROM {fill} AND {plain}) AND t.{column} IS DISTINCT FROM ({value})
          AND (age(t.xmin) >= (SELECT min(age(xid)) FROM {writes}) OR t.xmin IN (SELECT xid FROM {writes}))""").format(
            key=self.backfill.key,
            table=self.backfill.table,
            writes=self.records.writes,
            column=self.backfill.column,
            fill=self.backfill.fill,
            plain=old.plain,
            value=old.value,
        )
        with in_parallel(connection, in_a_hurry):
            return named(connection, query)

    def _briefly(self, work: Callable[[Connection], None], then: Stage) -> None:
        def done(connection: Connection) -> Stage:
            work(connection)
            return then

        def waited(blockers: Sequence[Blocker]) -> None:
            self.waiting(blockers)
            if then is Stage.EXCHANGED:
                self._catch_up()

        def recorded(connection: Connection) -> Stage | None:
            return then if self.stage(connection) is then else None

        with told():
            briefly(self.open, done, waited, brevity=EXCHANGING, recorded=recorded, in_one_message=True)

    def _catch_up(self) -> None:
        catch_up(self.open, lambda connection: bring_up_to_date(connection, self))

    def _put_aside(self, connection: Connection) -> None:
        self.column.lock(connection)
        self.column.add_aside(connection)
        self.capture.begin(connection, self.backfill.columns_read)

    def _fill(self, pages: Pages, connection: Connection, pace: Pace, failed: threading.Event) -> None:
        def filled(pages_of_one: Range, lines: Lines) -> int:
            return self._filled(connection, pages_of_one, lines)

        to_fill = sql.SQL("NOT {}").format(self.backfill.plain)
        untold = 0
        while not failed.is_set() and (ranges := pages.take(PAGES, TOGETHER)):
            passes = {pages_of_one: passes_of(connection, self.backfill, pages_of_one, to_fill) for pages_of_one in ranges}
            untold = in_passes(passes, pace, failed, filled, untold)
        pace(untold)

    def _filled(self, connection: Connection, pages: Range, lines: Lines) -> int:
        expected: Expected = []
        with transaction(connection, expected):
            rows = connection.execute(
                self.backfill.filled(
                    sql.SQL("""UPDATE {table} t SET {aside} = k.value
                    FROM (SELECT t.ctid AS place, {value} AS value FROM {table} t
                          WHERE {within} AND CASE WHEN {among} THEN NOT {plain} ELSE FALSE END OFFSET 0) k
                    WHERE t.ctid = k.place AND {within} AND t.{aside} IS DISTINCT FROM k.value"""),
                    aside=sql.Identifier(self.column.aside),
                    value=self.backfill.value_unless_plain,
                    within=within("t", pages),
                    among=among(lines),
                    plain=self.backfill.plain,
                )
            ).rowcount
            if rows:
                self.records.write(connection, rows)
                expected += [(self.backfill.table, (0, rows, 0)), (self.records.writes, (1, 0, 0))]
        return rows

    def _capture_missed(self, connection: Connection) -> None:
        """Capture, in one snapshot, the rows that others moved from page to page past the filling."""
        expected: Expected = []
        with transaction(connection, expected):
            rows = connection.execute(
                self.backfill.filled(
                    sql.SQL("""INSERT INTO {captured} SELECT t.{key} FROM {table} t
                    WHERE NOT {plain} AND t.{aside} IS DISTINCT FROM ({value})"""),
                    captured=self.capture.keys,
                    aside=sql.Identifier(self.column.aside),
                    value=self.backfill.value_unless_plain,
                    plain=self.backfill.plain,
                )
            ).rowcount
            expected.append((self.capture.keys, (rows, 0, 0)))

    def _exchange(self, connection: Connection) -> None:
        self.column.lock(connection)
        bring_up_to_date_wholly(connection, self)
        self.records.write(connection, 0)  # from now on rows are written by others alone
        self.capture.end(connection)
        self.column.exchange(connection)
