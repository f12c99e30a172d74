"""Takes strong locks for a moment: short tries with pauses between them, showing who is in the way.

A waiting ACCESS EXCLUSIVE lock makes every later reader queue behind it, so no try waits long. Autovacuum gives way only
after `deadlock_timeout`, so a last try outlasts that where nothing but autovacuum is in the way.
"""

import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import TypeVar

from psycopg import errors

from runbook_lib.adapters.postgres.connection import Connection, one
from runbook_lib.errors import PreconditionError

LADDER = (100, 200, 300, 500, 500)  # milliseconds that a try may wait for its locks
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0  # seconds between tries
JITTER = 0.25  # share by which a pause is made shorter or longer
PATIENCE = 600.0  # seconds in all
SAMPLE = 0.05  # seconds between two looks at who is in the way
BEYOND_DEADLOCK_TIMEOUT = 200  # milliseconds
AGAIN = (errors.LockNotAvailable, errors.DeadlockDetected, errors.SerializationFailure)

T = TypeVar("T")
Open = Callable[[], AbstractContextManager[Connection]]


@dataclass(frozen=True)
class Blocker:
    """A session that holds what another waits for; `kind` is its backend type."""

    pid: int
    user: str
    seconds: float  # since its transaction began
    query: str
    kind: str

    def __str__(self) -> str:
        return f"pid {self.pid} ({self.user or self.kind}, {self.seconds:.1f} s): {self.query}"

    @property
    def gives_way(self) -> bool:
        """Whether it is an autovacuum that yields to a waiting lock; one against wraparound does not."""
        return self.kind == "autovacuum worker" and "wraparound" not in self.query


def blockers(connection: Connection, pid: int) -> list[Blocker]:
    """Who is in the way of the session `pid` now. Read-only."""
    rows = connection.execute(
        """SELECT pid, coalesce(usename, '') AS user, backend_type AS kind, left(query, 200) AS query,
                  coalesce(extract(epoch FROM clock_timestamp() - xact_start), 0)::float AS seconds
           FROM pg_stat_activity WHERE pid = ANY (pg_blocking_pids(%s)) ORDER BY pid""",
        [pid],
    )
    return [Blocker(**row) for row in rows]


def pauses(random_: Callable[[], float] = random.random) -> Iterator[float]:
    """The seconds to wait after each failed try: doubled each time, up to a limit, and jittered."""
    pause = FIRST_PAUSE
    while True:
        yield pause * (1 + JITTER * (2 * random_() - 1))
        pause = min(2 * pause, LONGEST_PAUSE)


def briefly(
    open_: Open,
    work: Callable[[Connection], T],
    waiting: Callable[[Sequence[Blocker]], None],
    patience: float = PATIENCE,
) -> T:
    """Do `work`, which takes its locks first, in one short transaction, trying again while others hold them.

    Changes what `work` changes, or nothing.

    Args:
        open_: Opens a connection to the target.
        work: What to do; it is rolled back and called again where a lock is not granted in time.
        waiting: Is told who was in the way, after each try that failed.
        patience: Seconds after which no further try begins.

    Raises:
        PreconditionError: The locks were not to be had.
    """
    deadline = time.monotonic() + patience
    ladder, wait, seen = list(LADDER), pauses(), list[Blocker]()
    while True:
        timeout = ladder.pop(0) if ladder else LADDER[-1]
        with open_() as connection:
            if seen and all(blocker.gives_way for blocker in seen):
                timeout = max(timeout, _deadlock_timeout(connection) + BEYOND_DEADLOCK_TIMEOUT)
            with watched(open_, connection.info.backend_pid) as seen:
                try:
                    with connection.transaction():
                        connection.execute(f"SET LOCAL lock_timeout = '{timeout}ms'")
                        return work(connection)
                except AGAIN:
                    pass
        waiting(seen)
        if time.monotonic() > deadline:
            raise PreconditionError(
                f"The locks were not to be had in {patience:g} s; in the way: "
                + ("; ".join(map(str, seen)) or "nobody who could be seen"),
                state="Nothing was changed: each try was rolled back.",
                safe_next="Let those sessions end, or end them one by one by their pid; then run the step again.",
            )
        time.sleep(next(wait))


@contextmanager
def watched(open_: Open, pid: int) -> Iterator[list[Blocker]]:
    """Note, from a connection of its own, everyone who gets in the way of the session `pid` meanwhile. Read-only."""
    seen: dict[int, Blocker] = {}
    found: list[Blocker] = []
    ended = threading.Event()

    def watch() -> None:
        if ended.wait(SAMPLE):
            return
        with open_() as connection:
            while not ended.is_set():
                seen.update({blocker.pid: blocker for blocker in blockers(connection, pid)})
                ended.wait(SAMPLE)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield found
    finally:
        ended.set()
        watcher.join()
        found.extend(seen.values())


def _deadlock_timeout(connection: Connection) -> int:
    return int(one(connection, "SELECT setting::int AS ms FROM pg_settings WHERE name = 'deadlock_timeout'")["ms"])
