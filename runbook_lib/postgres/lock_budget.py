"""Limits how long a transaction waits for strong locks and holds them.

A waiting ACCESS EXCLUSIVE lock makes every later reader queue behind it. So each try's wait is limited, and so is the whole
transaction from its first lock to its end. Servers since 17 end a transaction that takes too long. Older servers limit each
statement and each pause between two, and a cancellation from here limits their sum.

Autovacuum gives way only after `deadlock_timeout`. If nothing else blocks, a try outlasts that timeout: only then may others
wait longer than the limit, by about a second.
"""

import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from typing import TypeVar

import psycopg
from psycopg import errors, sql

from runbook_lib.errors import PreconditionError
from runbook_lib.postgres import Connection, Open, Row
from runbook_lib.postgres.blockers import Blocker, watched
from runbook_lib.postgres.connection import exists, one, paused
from runbook_lib.postgres.round_trip import OUTDATED, Statements, found_out, gone_through, session_of

TOO_LONG = (errors.QueryCanceled, errors.TransactionTimeout, errors.IdleInTransactionSessionTimeout)
CANCELLED_AGAIN = 0.02  # seconds before a cancellation is sent again if no statement was running

_LIMITS_TRANSACTIONS = 170000  # first server version with transaction_timeout


@dataclass(frozen=True)
class LockBudget:
    """Limits on strong locks, in milliseconds.

    `waits` limits the wait for locks of each try in turn; the last value is for all later tries. `limit` is how long a try
    may take from beginning to end, waits included; None means no limit.
    """

    waits: tuple[int, ...]
    limit: int | None = None

    def unlimited(self) -> "LockBudget":
        """Return a budget with the same waits and no limit on the work under the locks."""
        return LockBudget(self.waits)


RENAMING = LockBudget((60,), 150)  # catalog only
DROPPING = LockBudget((100, 150, 200), 300)  # includes catching up with some captured rows
EXCHANGING = LockBudget((100, 150), 250)


LONGEST_PAUSE_MS = 5000  # no pooler's clients are paused for work that may hold locks longer


def milliseconds_paused(budget: LockBudget) -> int:
    """Return how long a try makes clients of poolers wait at most; 0 if it pauses none. Pure."""
    return budget.limit if budget.limit is not None and budget.limit <= LONGEST_PAUSE_MS else 0


def _paused(connection: Connection, budget: LockBudget) -> AbstractContextManager[None]:
    return paused(connection) if milliseconds_paused(budget) else nullcontext()


def limit(connection: Connection, wait: int, whole: int | None) -> None:
    """Limit the present transaction's lock waits, and the rest of the transaction, in milliseconds.

    Changes only settings of the transaction.
    """
    limits = {"lock_timeout": wait}
    if whole is not None:
        limits |= {"statement_timeout": whole, "idle_in_transaction_session_timeout": whole}
        if connection.info.server_version >= _LIMITS_TRANSACTIONS:
            limits["transaction_timeout"] = whole
    settings = [sql.SQL("set_config({}, {}, true)").format(name, f"{value}ms") for name, value in limits.items()]
    connection.execute(sql.SQL("SELECT {}").format(sql.SQL(", ").join(settings)))


@contextmanager
def cancelled_after(connection: Connection, milliseconds: int | None) -> Iterator[None]:
    """Cancel the connection's statement if the block takes longer; for servers without such a limit."""
    if milliseconds is None or connection.info.server_version >= _LIMITS_TRANSACTIONS:
        yield
        return
    ended = threading.Event()

    def cancel() -> None:
        pause = milliseconds / 1000
        while not ended.wait(pause):
            connection.cancel_safe(timeout=1.0)
            pause = CANCELLED_AGAIN

    watcher = threading.Thread(target=cancel, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join()


LADDER = (100, 200, 300, 500, 500)  # milliseconds that a try may wait for its locks
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0  # seconds between tries
JITTER = 0.25  # share by which a pause varies
PATIENCE = 600.0  # seconds in all
BEYOND_DEADLOCK_TIMEOUT = 200  # milliseconds
TOO_LONG_TRIES = 8  # tries that may be ended for taking too long
OUTDATED_TRIES = 8  # tries in which the facts they rely on may change
AGAIN = (errors.LockNotAvailable, errors.DeadlockDetected, errors.SerializationFailure)

T = TypeVar("T")


def pauses(random_: Callable[[], float] = random.random) -> Iterator[float]:
    """Yield the seconds to wait after each failed try: doubled each time, up to a limit, with jitter."""
    pause = FIRST_PAUSE
    while True:
        yield pause * (1 + JITTER * (2 * random_() - 1))
        pause = min(2 * pause, LONGEST_PAUSE)


def with_short_lock(
    open_: Open,
    work: Callable[[Connection], T],
    waiting: Callable[[Sequence[Blocker]], None],
    patience: float = PATIENCE,
    *,
    budget: LockBudget | None = None,
) -> T:
    """Do `work`, which takes its locks first, in one short transaction; retry while others hold them.

    Changes what `work` changes, or nothing.

    Args:
        open_: Opens a connection to the target.
        work: What to do. If it gets no lock, or does not end, in time, it is rolled back and called again.
        waiting: Called with the blockers after each failed try.
        patience: Seconds after which no further try begins.
        budget: How long tries may take; by default they wait as `LADDER` says, with no limit on the work itself.

    Raises:
        PreconditionError: The locks could not be acquired, or the work under them took too long each time.
        AdapterError: The connection broke.
    """
    return _in_tries(open_, lambda _: work, waiting, patience, budget or LockBudget(LADDER), None)


def with_short_lock_in_one_message(
    open_: Open,
    work: Callable[[Statements], T],
    waiting: Callable[[Sequence[Blocker]], None],
    *,
    budget: LockBudget,
    recorded: Callable[[Connection], T | None] | None = None,
) -> T:
    """Do `work` as `with_short_lock` does, but record it first and send it in one message (see `round_trip`).

    So a slow network does not prolong the locks. Changes what `work` changes.

    Args:
        open_: Opens a connection to the target.
        work: What to do: it takes its locks first, and reads nothing that it has written.
        waiting: Called with the blockers after each failed try.
        budget: How long tries may take.
        recorded: Reads on another connection what `work` returned; None if it left no trace. It settles whether a COMMIT
            succeeded whose answer was lost.

    Raises:
        PreconditionError: The locks could not be acquired; or each time the work under them took too long, or the facts it
            relies on changed.
        AdapterError: The connection broke, and nothing was committed.
        UnknownOutcome: The connection broke in the COMMIT, and the server did not come back.
    """
    return _in_tries(open_, lambda connection: gone_through(connection, work), waiting, PATIENCE, budget, recorded)


def _in_tries(
    open_: Open,
    prepared: Callable[[Connection], Callable[[Connection], T]],
    waiting: Callable[[Sequence[Blocker]], None],
    patience: float,
    budget: LockBudget,
    recorded: Callable[[Connection], T | None] | None,
) -> T:
    deadline = time.monotonic() + patience
    ladder, wait, seen, too_long, outdated = list(budget.waits), pauses(), list[Blocker](), 0, 0
    while True:
        used_up = not ladder
        timeout = budget.waits[-1] if used_up else ladder.pop(0)
        lost: Row | None = None
        with open_() as connection:
            whole, session = budget.limit, session_of(connection) if recorded else None
            act = prepared(connection)
            if seen and all(blocker.gives_way for blocker in seen) and (used_up or whole is None):
                longer = max(timeout, _deadlock_timeout(connection) + BEYOND_DEADLOCK_TIMEOUT)
                timeout, whole = longer, None if whole is None else whole + longer - timeout
            with (
                _paused(connection, budget),
                watched(open_, connection.info.backend_pid) as seen,
                cancelled_after(connection, whole),
            ):
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
                f"The work under the locks took longer than {budget.limit} ms in {too_long} tries.",
                state="Nothing was changed: each try was rolled back.",
                safe_next="Run the step again when the server is less busy, or from a machine nearer to it.",
            )
        if outdated == OUTDATED_TRIES:
            raise PreconditionError(
                f"In each of {outdated} tries, others changed what the step had read before it held the locks.",
                state="Nothing was changed: each try was rolled back.",
                safe_next="Find out who changes it; then run the step again.",
            )
        if time.monotonic() > deadline:
            raise _not_granted(patience, seen)
        time.sleep(next(wait))


def with_patience(
    open_: Open,
    connection: Connection,
    work: Callable[[], T],
    waiting: Callable[[Sequence[Blocker]], None],
    patience: float = PATIENCE,
) -> T:
    """Do `work`, in its own transactions on `connection`; retry while others hold locks that it needs.

    For work that takes no strong lock, so nobody waits behind it. Changes what `work` changes.

    Args:
        open_: Opens a connection to the target.
        connection: In autocommit mode; its `lock_timeout` says how long a try waits.
        work: What to do; if it fails for a lock, it has changed nothing.
        waiting: Called with the blockers after each try but the first.
        patience: Seconds after which no further try begins.

    Raises:
        PreconditionError: The locks were not granted.
    """
    try:
        return work()
    except AGAIN:
        deadline, wait = time.monotonic() + patience, pauses()
    while True:
        done: list[T] = []
        with watched(open_, connection.info.backend_pid) as seen, suppress(*AGAIN):
            done.append(work())
        if seen or not done:
            waiting(seen)
        if done:
            return done[0]
        if time.monotonic() > deadline:
            raise _not_granted(patience, seen)
        time.sleep(next(wait))


def await_readable(open_: Open, table: sql.Identifier, waiting: Callable[[Sequence[Blocker]], None]) -> None:
    """Wait until no session blocks reads of a table. Read-only.

    Raises:
        PreconditionError: A session blocks them for longer than `PATIENCE`.
    """

    def read(connection: Connection) -> None:
        if exists(connection, table):
            connection.execute(sql.SQL("LOCK TABLE {} IN ACCESS SHARE MODE").format(table))

    with_short_lock(open_, read, waiting)


def _not_granted(patience: float, seen: Sequence[Blocker]) -> PreconditionError:
    return PreconditionError(
        f"Could not acquire the locks within {patience:g} s. Blocked by: "
        + ("; ".join(map(str, seen)) or "nobody who could be seen"),
        state="Nothing was changed: each try was rolled back.",
        safe_next="Let those sessions end, or end them one by one by their pid; then run the step again.",
    )


def _deadlock_timeout(connection: Connection) -> int:
    return int(one(connection, "SELECT setting::int AS ms FROM pg_settings WHERE name = 'deadlock_timeout'")["ms"])
