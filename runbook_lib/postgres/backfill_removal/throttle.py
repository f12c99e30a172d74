"""Throttles batches: sizes them, and waits before each while it is paused or others suffer.

The first moves a few row versions to other pages, or into the page's last free bytes; once those are pruned each later pass
finds room in the page itself and leaves the indexes alone (a HOT update), and where rows get smaller by it, the room grows.
Passes over one range alternate with those over others, so that no snapshot of this run's own keeps the old versions alive.
Where few rows are to be written one pass is enough: these find room anyway, and each pass reads every line.
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

TARGET = 0.25  # seconds that a batch should take
GROWTH = 1.2  # how much larger than the one before a batch may be
LAG = 1.5  # seconds that a replica may be behind
BLOCKED = 0.2  # seconds that another session may have waited for one of ours
PAUSE = 0.5  # seconds between looks while waiting
FIRST = LARGEST = 1400  # pages a batch: eight of them fit the buffers of a server as it comes, and indexes as well
FIRST_LIVE, LARGEST_LIVE = 64, 1024  # while others use the table: where sparse pages end, the next may hold sixty rows each


def resized(pages: int, seconds: float, largest: int) -> int:
    """The size of the next batch after one of `pages` pages took `seconds`: near the target, grown only a little."""
    if seconds <= 0:
        return min(largest, int(pages * GROWTH) + 1)
    wanted = pages * min(TARGET / seconds, GROWTH)
    return max(1, min(largest, round(wanted)))


@dataclass(frozen=True)
class Pressure:
    """What says that the batches are too much for others."""

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
    """How far replicas are behind: for how long what was written has not been replayed by each.

    The server's own replay_lag is not enough: it stands still while a replica's replay does. Consumers of logical slots are
    no replicas here.
    """

    def __init__(self) -> None:
        self._written: deque[tuple[float, Decimal]] = deque()  # when the log had come how far, as long as it is not replayed

    def lag(self, connection: Connection) -> float:
        """The seconds by which the slowest is behind, as far as these looks can tell. Read-only."""
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
    """How far replicas are behind, and who waits for a session of this run. Read-only."""
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


Granted = Callable[[Connection, Callable[[], int]], int]  # does a batch, again while others hold locks that it needs


def _at_once(_: Connection, work: Callable[[], int]) -> int:
    return work()


class Throttle:
    """Stands before each batch: waits while it is paused or others suffer, and ends the clearing where that is wanted."""

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
        """Tell how many rows the batch before cleared, and wait until the next one may begin. Read-only.

        Raises:
            Declined: The clearing is to end here.
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
                "It was ended between two batches, as was asked for.",
                state="Each row is either cleared, with its undo row, or as it was before.",
                safe_next="Run the step, or its undo, again to go on.",
            )
        if request == "pause":
            return "paused"
        if self.considerate and (found := pressure(self.connection, self.replicas)).too_much:
            return f"waiting: {found}"
        return ""


PaceOn = Callable[[Connection], Throttle]


Lines = tuple[int, int]  # of a page, modulo STRIDE: the first and the last
STRIDE = 64
PASSES: Sequence[Lines] = ((0, 3), (4, 10), (11, 23), (24, 63))
AT_ONCE: Sequence[Lines] = ((0, 63),)
TOGETHER = 4  # ranges whose passes alternate
SLICES, SLICE = 4, 8  # of a range, and the pages of each, that tell how many rows are to be written in it
FEW = 3  # rows a page


def passes_of(connection: Connection, backfill: BackfillTerms, pages: Range, wanted: sql.Composable) -> Sequence[Lines]:
    """The passes by which the wanted rows `t` of a range are best written: none where there is no such row. Read-only."""
    slices = _slices(pages)
    count = sql.SQL("(SELECT count(*) FROM {table} t WHERE {within} AND {wanted})")
    query = sql.SQL("SELECT EXISTS (SELECT FROM {table} t WHERE {within} AND {wanted}) AS any, {counted} AS n").format(
        table=backfill.table,
        within=within("t", pages),
        wanted=wanted,
        counted=sql.SQL(" + ").join(
            count.format(table=backfill.table, within=within("t", each), wanted=wanted) for each in slices
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
    untold: int,
) -> int:
    """Have `work` done on ranges of pages pass by pass, until another thread has failed. Changes what `work` changes.

    Args:
        ranges: Pages of the table, and the passes over them.
        pace: Stands before each batch, and gets the rows of the one before.
        failed: Is set once another thread has failed.
        work: Is given a range and lines of its pages, and returns the rows that it wrote.
        untold: The rows of the last batch before these, which `pace` did not get.

    Returns the rows of the last batch, which `pace` did not get.
    """
    for number in range(len(PASSES)):
        for pages, passes in ranges.items():
            if number >= len(passes):
                continue
            pace(untold)
            if failed.is_set():
                return 0
            untold = work(pages, passes[number])
    return untold


def among(lines: Lines) -> sql.Composed:
    """That a row stands on one of these lines: the last byte of its place is the line's number, modulo 256."""
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
    wanted: sql.Composable,
    throttle_on: PaceOn,
    workers: int,
    work: Callable[[Connection, Throttle, Range, Lines], int],
    size: int | None = None,
) -> None:
    """Have `work` done in passes over all ranges of the backfill's table. Changes what `work` changes.

    Args:
        open_: Opens a connection to the target.
        backfill: Whose table it is.
        wanted: A condition on a row `t` that is to be written.
        throttle_on: Makes what stands before each batch, on a connection of its own.
        workers: How many connections work at once; more than one only where nobody else uses the table.
        work: Writes those rows on some lines of a range in one batch, and returns how many.
        size: Pages a range; without it, ranges are sized by how long the batches take.

    Raises:
        Declined: It was ended between two batches.
        Exception: What the first worker that failed had raised.
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
            pages_each, untold = size or pace.first, 0
            while not failed.is_set() and (ranges := queue.take(pages_each, TOGETHER)):
                longest = 0.0
                passes = {pages: passes_of(connection, backfill, pages, wanted) for pages in ranges}
                untold = in_passes(passes, pace, failed, timed, untold)
                pages_each = size or resized(pages_each, longest, pace.largest)
            pace(untold)

    run_workers(workers, of_one)
