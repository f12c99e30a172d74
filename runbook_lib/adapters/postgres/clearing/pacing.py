"""How fast batches may go: their size, and when to wait for others."""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal

from runbook_lib.adapters.postgres.clearing.records import Records
from runbook_lib.adapters.postgres.connection import Connection, one
from runbook_lib.errors import Declined

TARGET = 0.25  # seconds that a batch should take
GROWTH = 1.2  # how much larger than the one before a batch may be
LAG = 1.5  # seconds that a replica may be behind
BLOCKED = 0.2  # seconds that another session may have waited for one of ours
PAUSE = 0.5  # seconds between looks while waiting
FIRST = LARGEST = 1400  # pages a batch: eight of them fit the buffers of a server as it comes, and indexes beside them
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
                      coalesce(max(extract(epoch FROM replay_lag)), 0)::float AS told
               FROM pg_stat_replication
               WHERE pid NOT IN (SELECT active_pid FROM pg_replication_slots
                                 WHERE slot_type = 'logical' AND active_pid IS NOT NULL)""",
        )
        now = time.monotonic()
        self._written.append((now, found["written"]))
        while self._written and (found["replayed"] is None or self._written[0][1] <= found["replayed"]):
            self._written.popleft()
        return max(now - self._written[0][0] if self._written else 0.0, float(found["told"]))


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


class Pace:
    """Stands before each batch: waits while it is paused or others suffer, and ends the clearing where that is wanted."""

    def __init__(
        self, connection: Connection, records: Records, told: Callable[[int, str], object], *, considerate: bool
    ) -> None:
        self.connection = connection
        self.records = records
        self.told = told
        self.considerate = considerate
        self.first, self.largest = (FIRST_LIVE, LARGEST_LIVE) if considerate else (FIRST, LARGEST)
        self.ended = threading.Event()  # set once another thread has failed or was interrupted
        self.replicas = Replicas()

    def __call__(self, cleared: int) -> None:
        """Tell how many rows the batch before cleared, and wait until the next one may begin. Read-only.

        Raises:
            Declined: The clearing is to end here.
        """
        self.told(cleared, "")
        said = ""
        while not self.ended.is_set() and (why := self._waits()):
            if why != said:
                self.told(0, said := why)
            self.ended.wait(PAUSE)

    def _waits(self) -> str:
        wanted = self.records.wanted(self.connection)
        if wanted == "abort":
            raise Declined(
                "It was ended between two batches, as was asked for.",
                where=self.records.control.as_string(self.connection),
                state="Each row is either cleared, with its undo row, or as it was before.",
                safe_next="Run the step, or its undo, again to go on.",
            )
        if wanted == "pause":
            return "paused"
        if self.considerate and (found := pressure(self.connection, self.replicas)).too_much:
            return f"waiting: {found}"
        return ""
