"""Takes strong locks for a moment: short tries with pauses between them, showing who is in the way.

A waiting ACCESS EXCLUSIVE lock makes every later reader queue behind it, so no try waits long, and what is done under the
lock is limited too. Autovacuum gives way only after `deadlock_timeout`, so where nothing but autovacuum is in the way a try
outlasts that: the one kind of try that others may wait for longer than the limit, by about a second.
"""

import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import TypeVar

import psycopg
from psycopg import errors

from runbook_lib.adapters.postgres.brevity import TOO_LONG, Brevity, cancelled_after, limit
from runbook_lib.adapters.postgres.commit import found_out, session_of
from runbook_lib.adapters.postgres.connection import Connection, Row, one
from runbook_lib.adapters.postgres.trip import OUTDATED, noted
from runbook_lib.errors import PreconditionError

LADDER = (100, 200, 300, 500, 500)  # milliseconds that a try may wait for its locks
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0  # seconds between tries
JITTER = 0.25  # share by which a pause is made shorter or longer
PATIENCE = 600.0  # seconds in all
FIRST_SAMPLE, SAMPLE = 0.02, 0.05  # seconds before the first look at who is in the way, and between two
BEYOND_DEADLOCK_TIMEOUT = 200  # milliseconds
TOO_LONG_TRIES = 8  # that may be ended for taking too long
OUTDATED_TRIES = 8  # before which something that they rest on may change
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
    *,
    brevity: Brevity | None = None,
    recorded: Callable[[Connection], T | None] | None = None,
    in_one_message: bool = False,
) -> T:
    """Do `work`, which takes its locks first, in one short transaction, trying again while others hold them.

    Changes what `work` changes, or nothing.

    Args:
        open_: Opens a connection to the target.
        work: What to do; it is rolled back and called again where a lock is not granted, or its end not reached, in time.
        waiting: Is told who was in the way, after each try that failed.
        patience: Seconds after which no further try begins.
        brevity: How long tries may take; without it they wait as `LADDER` says, and what is done takes what it takes.
        recorded: Reads on another connection what `work` returned, None where it left no trace. With it, a COMMIT whose
            answer was lost is looked up.
        in_one_message: Whether `work` is gone through first and then sent whole, as `trip.noted` says, so that the time for
            which the locks are held does not grow with the way to the server.

    Raises:
        PreconditionError: The locks were not to be had; or, each time, what was done under them took too long, or what it
            rests on changed.
        AdapterError: The connection broke, and nothing was committed.
        UnknownOutcome: The connection broke in the COMMIT, and the server did not come back.
    """
    brevity = brevity or Brevity(LADDER)
    deadline = time.monotonic() + patience
    ladder, wait, seen, too_long, outdated = list(brevity.waits), pauses(), list[Blocker](), 0, 0
    while True:
        used_up = not ladder
        timeout = brevity.waits[-1] if used_up else ladder.pop(0)
        lost: Row | None = None
        with open_() as connection:
            whole, session = brevity.limit, session_of(connection)
            act = noted(connection, work) if in_one_message else work
            if seen and all(blocker.gives_way for blocker in seen) and (used_up or whole is None):
                longer = max(timeout, _deadlock_timeout(connection) + BEYOND_DEADLOCK_TIMEOUT)
                timeout, whole = longer, None if whole is None else whole + longer - timeout
            with watched(open_, connection.info.backend_pid) as seen, cancelled_after(connection, whole):
                try:
                    with connection.transaction():
                        limit(connection, timeout, whole)
                        result = act(connection)
                        lost = session
                    return result
                except AGAIN:
                    lost = None
                except TOO_LONG:
                    if whole is None:
                        raise
                    lost, too_long = None, too_long + 1
                except psycopg.OperationalError:
                    if lost is None or recorded is None or not connection.broken:
                        raise
                except psycopg.DatabaseError as error:
                    if error.sqlstate != OUTDATED:
                        raise
                    lost, outdated = None, outdated + 1
        if lost and recorded:
            return found_out(open_, lost, recorded)
        waiting(seen)
        if too_long == TOO_LONG_TRIES:
            raise PreconditionError(
                f"What is to be done under the locks took longer than {brevity.limit} ms in {too_long} tries.",
                state="Nothing was changed: each try was rolled back.",
                safe_next="Run the step again when the server has less to do, or from a machine that is nearer to it.",
            )
        if outdated == OUTDATED_TRIES:
            raise PreconditionError(
                f"In each of {outdated} tries others changed what was looked at before it was locked.",
                state="Nothing was changed: each try was rolled back.",
                safe_next="Find out who changes it; then run the step again.",
            )
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
        with open_() as connection:
            ended.wait(FIRST_SAMPLE)
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
