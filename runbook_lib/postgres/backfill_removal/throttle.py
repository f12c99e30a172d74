"""Throttle batches: size them, and wait before each while paused or while others suffer.

A range is written in several passes. The first moves a few row versions to other pages, or into a page's last free bytes.
Once those are pruned, each later pass finds room in the page itself and leaves the indexes alone (a HOT update). If rows get
smaller, the room grows. Passes over several ranges alternate, so that no snapshot of this run keeps old versions alive. If
few rows are to be written, one pass is enough: they find room anyway, and each pass reads every line.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from psycopg import sql

from runbook_lib.errors import Declined
from runbook_lib.journal.control import Request
from runbook_lib.postgres import Connection, Open
from runbook_lib.postgres.backfill_terms import BackfillTerms
from runbook_lib.postgres.connection import one
from runbook_lib.postgres.page_ranges import PageQueue, Range, run_workers, within

TARGET = 0.25  # seconds for a batch
GROWTH = 1.2  # how much larger than the previous batch one may be
LAG = 1.5  # seconds that a replica may lag
BLOCKED = 0.2  # seconds that another session may have waited for one of ours
PAUSE = 0.5  # seconds between checks while waiting
FIRST = LARGEST = 1400  # pages per batch: eight batches, and indexes, fit a default server's buffers
FIRST_LIVE, LARGEST_LIVE = 64, 1024  # while others use the table: after sparse pages, each next page may hold sixty rows


def resized(pages: int, seconds: float, largest: int) -> int:
    """Return the size of the next batch after one of `pages` pages took `seconds`: near the target, with limited growth."""
    if seconds <= 0:
        return min(largest, int(pages * GROWTH) + 1)
    ideal = pages * min(TARGET / seconds, GROWTH)
    return max(1, min(largest, round(ideal)))


@dataclass(frozen=True)
class Pressure:
    """Signs that the batches hurt others."""

    lag: float  # seconds
    blocked: Sequence[str]

    def __str__(self) -> str:
        parts = [f"a replica is {self.lag:.1f} s behind"] if self.lag > LAG else []
        return "; ".join([*parts, *self.blocked])

    @property
    def too_much(self) -> bool:
        """Whether to wait."""
        return self.lag > LAG or bool(self.blocked)


class Replicas:
    """Measures how far replicas lag: for how long each has not replayed what was written.

    The server's own replay_lag is not enough: it freezes while a replica's replay does. Consumers of logical slots do not
    count as replicas.
    """

    def __init__(self) -> None:
        self._written: deque[tuple[float, Decimal]] = deque()  # the times of WAL positions that are not replayed yet

    def lag(self, connection: Connection) -> float:
        """Return the lag of the slowest in seconds, as far as these measurements show. Read-only."""
        found = one(
            connection,
            """SELECT pg_current_wal_lsn() - '0/0' AS written, min(replay_lsn) - '0/0' AS replayed,
                      coalesce(max(extract(epoch FROM replay_lag)), 0)::float AS reported
               FROM pg_stat_replication
               WHERE pid NOT IN (SELECT active_pid FROM pg_replication_slots
                                 WHERE slot_type = 'logical' AND active_pid IS NOT NULL)""",
        )
        now = time.monotonic()
        self._written.append((now, found["written"]))
        while self._written and (found["replayed"] is None or self._written[0][1] <= found["replayed"]):
            self._written.popleft()
        return max(now - self._written[0][0] if self._written else 0.0, float(found["reported"]))


def pressure(connection: Connection, replicas: Replicas) -> Pressure:
    """Return how far replicas lag, and who waits for a session of this run. Read-only."""
    lag = replicas.lag(connection)
    waiting = connection.execute(
        """SELECT w.pid, coalesce(w.usename, '') AS name, left(w.query, 100) AS query
           FROM pg_stat_activity w
           WHERE w.wait_event_type = 'Lock' AND clock_timestamp() - w.query_start > make_interval(secs => %s)
             AND EXISTS (SELECT FROM unnest(pg_blocking_pids(w.pid)) b JOIN pg_stat_activity o ON o.pid = b
                         WHERE o.application_name = current_setting('application_name'))""",
        [BLOCKED],
    )
    return Pressure(lag, [f"pid {row['pid']} ({row['name']}) waits for this run: {row['query']}" for row in waiting])


Granted = Callable[[Connection, Callable[[], int]], int]  # does a batch, and repeats it while others hold its locks


def _at_once(_: Connection, work: Callable[[], int]) -> int:
    return work()


class Throttle:
    """Called before each batch: waits while paused or while others suffer, and ends the removal on request."""

    def __init__(
        self,
        connection: Connection,
        report: Callable[[int, str], object],
        requested: Callable[[], Request],
        *,
        considerate: bool,
        granted: Granted = _at_once,
    ) -> None:
        self.connection = connection
        self.report = report
        self.requested = requested
        self.considerate = considerate
        self.granted = granted
        self.first, self.largest = (FIRST_LIVE, LARGEST_LIVE) if considerate else (FIRST, LARGEST)
        self.ended = threading.Event()  # set once another thread has failed or was interrupted
        self.replicas = Replicas()

    def __call__(self, cleared: int) -> None:
        """Report how many rows the previous batch cleared, and wait until the next one may begin. Read-only.

        Raises:
            Declined: An abort was requested.
        """
        self.report(cleared, "")
        said = ""
        while not self.ended.is_set() and (why := self._waits()):
            if why != said:
                self.report(0, said := why)
            self.ended.wait(PAUSE)

    def _waits(self) -> str:
        request = self.requested()
        if request == "abort":
            raise Declined(
                "It was aborted between two batches, as requested.",
                state="Each row is either cleared, with its undo row, or unchanged.",
                safe_next="Run the step, or its undo, again to resume.",
            )
        if request == "pause":
            return "paused"
        if self.considerate and (found := pressure(self.connection, self.replicas)).too_much:
            return f"waiting: {found}"
        return ""


PaceOn = Callable[[Connection], Throttle]


Lines = tuple[int, int]  # line pointers of a page, modulo STRIDE: the first and the last
STRIDE = 64
PASSES: Sequence[Lines] = ((0, 3), (4, 10), (11, 23), (24, 63))
AT_ONCE: Sequence[Lines] = ((0, 63),)
TOGETHER = 4  # ranges whose passes alternate
SLICES, SLICE = 4, 8  # samples per range, and pages per sample, for estimating the rows to write
FEW = 3  # rows per page


def passes_of(connection: Connection, backfill: BackfillTerms, pages: Range, matching: sql.Composable) -> Sequence[Lines]:
    """Return the best passes for writing a range's rows `t` that are `matching`; none if no row matches. Read-only."""
    slices = _slices(pages)
    count = sql.SQL("(SELECT count(*) FROM {table} t WHERE {within} AND {matching})")
    query = sql.SQL("SELECT EXISTS (SELECT FROM {table} t WHERE {within} AND {matching}) AS any, {counted} AS n").format(
        table=backfill.table,
        within=within("t", pages),
        matching=matching,
        counted=sql.SQL(" + ").join(
            count.format(table=backfill.table, within=within("t", each), matching=matching) for each in slices
        ),
    )
    found = one(connection, query)
    if not found["any"]:
        return ()
    return PASSES if found["n"] > FEW * sum(beyond - first for first, beyond in slices) else AT_ONCE


def in_passes(
    ranges: Mapping[Range, Sequence[Lines]],
    pace: Throttle,
    failed: threading.Event,
    work: Callable[[Range, Lines], int],
    unreported: int,
) -> int:
    """Run `work` on ranges of pages pass by pass, until another thread has failed. Changes what `work` changes.

    Args:
        ranges: Pages of the table, and the passes over them.
        pace: Called before each batch with the rows of the previous one.
        failed: Set once another thread has failed.
        work: Receives a range and lines of its pages, and returns the number of rows it wrote.
        unreported: The rows of the batch before these, not yet passed to `pace`.

    Returns the rows of the last batch, not yet passed to `pace`.
    """
    for number in range(len(PASSES)):
        for pages, passes in ranges.items():
            if number >= len(passes):
                continue
            pace(unreported)
            if failed.is_set():
                return 0
            unreported = work(pages, passes[number])
    return unreported


def among(lines: Lines) -> sql.Composed:
    """Return the condition that a row is on one of these lines: the last byte of its ctid is the line, modulo 256."""
    return sql.SQL("(get_byte(tidsend(t.ctid), 5) & {}) BETWEEN {} AND {}").format(
        sql.Literal(STRIDE - 1), *(sql.Literal(number) for number in lines)
    )


def _slices(pages: Range) -> list[Range]:
    first, beyond = pages
    step = (beyond - first) // SLICES
    return [(first + n * step, first + n * step + SLICE) for n in range(SLICES)] if step > SLICE else [pages]


def over_pages(
    open_: Open,
    backfill: BackfillTerms,
    matching: sql.Composable,
    throttle_on: PaceOn,
    workers: int,
    work: Callable[[Connection, Throttle, Range, Lines], int],
    size: int | None = None,
) -> None:
    """Run `work` in passes over all ranges of the backfill's table. Changes what `work` changes.

    Args:
        open_: Opens a connection to the target.
        backfill: The backfill of the table.
        matching: A condition on a row `t` that must be written.
        throttle_on: Makes the throttle called before each batch, on its own connection.
        workers: How many connections work at once; more than one only if nobody else uses the table.
        work: Writes those rows on some lines of a range in one batch, and returns how many.
        size: Pages per range; without it, the duration of the batches sets the size.

    Raises:
        Declined: It was aborted between two batches.
        Exception: The exception of the first worker that failed.
    """
    with open_() as connection:
        queue = PageQueue(connection, backfill.table)

    def of_one(failed: threading.Event) -> None:
        longest = 0.0

        def timed(pages: Range, lines: Lines) -> int:
            nonlocal longest
            begun = time.monotonic()
            rows = work(connection, pace, pages, lines)
            longest = max(longest, time.monotonic() - begun)
            return rows

        with open_() as connection, open_() as looking:
            pace = throttle_on(looking)
            pace.ended = failed
            pages_each, unreported = size or pace.first, 0
            while not failed.is_set() and (ranges := queue.take(pages_each, TOGETHER)):
                longest = 0.0
                passes = {pages: passes_of(connection, backfill, pages, matching) for pages in ranges}
                unreported = in_passes(passes, pace, failed, timed, unreported)
                pages_each = size or resized(pages_each, longest, pace.largest)
            pace(unreported)

    run_workers(workers, of_one)
