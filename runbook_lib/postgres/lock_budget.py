"""How long a strong lock may be waited for and held, and what makes that real: limits of the server's, and of our own.

The waits of all tries, and the whole of a transaction from its first lock to its end, are limited, since whoever uses the
table waits behind ours for as long. Servers from 17 on end a transaction that takes too long; of older ones each statement
and each pause between two is limited by the server, and their sum by a cancellation from here.

A waiting ACCESS EXCLUSIVE lock makes every later reader queue behind it, so no try waits long, and what is done under the
lock is limited too. Autovacuum gives way only after `deadlock_timeout`, so where nothing but autovacuum is in the way a try
outlasts that: the one kind of try that others may wait for longer than the limit, by about a second.
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
CANCELLED_AGAIN = 0.02  # seconds after which a cancellation that met no statement is sent again

_LIMITS_TRANSACTIONS = 170000  # the first version of the server that has transaction_timeout


@dataclass(frozen=True)
class LockBudget:
    """How short strong locks are kept, in milliseconds.

    `waits` are the times that one try after another may wait for its locks, the last of them standing for all later ones;
    `limit` is how long a try may take from its beginning to its end, waiting included: None for as long as it needs.
    """

    waits: tuple[int, ...]
    limit: int | None = None

    def unlimited(self) -> "LockBudget":
        """The same waits, with no limit on what is done under the locks: for what may take as long as it takes."""
        return LockBudget(self.waits)


RENAMING = LockBudget((60,), 150)  # catalog only
DROPPING = LockBudget((100, 150, 200), 300)  # some captured rows are caught up on as well
EXCHANGING = LockBudget((100, 150), 250)


LONGEST_PAUSE_MS = 5000  # what may take longer under its locks has no pooler's clients wait


def milliseconds_paused(budget: LockBudget) -> int:
    """For how long a try has the clients of poolers wait at most; 0 where it has none wait. Pure."""
    return budget.limit if budget.limit is not None and budget.limit <= LONGEST_PAUSE_MS else 0


def _paused(connection: Connection, budget: LockBudget) -> AbstractContextManager[None]:
    return paused(connection) if milliseconds_paused(budget) else nullcontext()


def limit(connection: Connection, wait: int, whole: int | None) -> None:
    """Limit the present transaction: its waits for locks, and the whole of it from now on, in milliseconds.

    Changes nothing but settings of the transaction.
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
    """Cancel what the connection does when the block takes longer, where the server has no such limit of its own."""
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
JITTER = 0.25  # share by which a pause is made shorter or longer
PATIENCE = 600.0  # seconds in all
BEYOND_DEADLOCK_TIMEOUT = 200  # milliseconds
TOO_LONG_TRIES = 8  # that may be ended for taking too long
OUTDATED_TRIES = 8  # before which something that they rest on may change
AGAIN = (errors.LockNotAvailable, errors.DeadlockDetected, errors.SerializationFailure)

T = TypeVar("T")


def pauses(random_: Callable[[], float] = random.random) -> Iterator[float]:
    """The seconds to wait after each failed try: doubled each time, up to a limit, and jittered."""
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
    """Do `work`, which takes its locks first, in one short transaction, trying again while others hold them.

    Changes what `work` changes, or nothing.

    Args:
        open_: Opens a connection to the target.
        work: What to do; it is rolled back and called again where a lock is not granted, or its end not reached, in time.
        waiting: Gets who was in the way, after each try that failed.
        patience: Seconds after which no further try begins.
        budget: How long tries may take; without it they wait as `LADDER` says, and what is done takes what it takes.

    Raises:
        PreconditionError: The locks could not be acquired, or what was done under them took too long each time.
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
    """Do `work` as `briefly` does, but go through it first and then send it whole, as `round_trip` says.

    So the time for which the locks are held does not grow with the way to the server. Changes what `work` changes.

    Args:
        open_: Opens a connection to the target.
        work: What to do: its locks first; it looks at nothing that it has written.
        waiting: Gets who was in the way, after each try that failed.
        budget: How long tries may take.
        recorded: Reads on another connection what `work` returned, None where it left no trace. With it, a COMMIT whose
            answer was lost is looked up.

    Raises:
        PreconditionError: The locks could not be acquired; or, each time, what was done under them took too long, or what it
            rests on changed.
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
                f"What is to be done under the locks took longer than {budget.limit} ms in {too_long} tries.",
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
            raise _not_granted(patience, seen)
        time.sleep(next(wait))


def with_patience(
    open_: Open,
    connection: Connection,
    work: Callable[[], T],
    waiting: Callable[[Sequence[Blocker]], None],
    patience: float = PATIENCE,
) -> T:
    """Do `work`, transactions of its own on `connection`, again while others hold locks that it needs.

    For what takes no strong lock, so that nobody waits behind it. Changes what `work` changes.

    Args:
        open_: Opens a connection to the target.
        connection: In autocommit mode; its `lock_timeout` says how long a try waits.
        work: What to do; where it fails for a lock, it has changed nothing.
        waiting: Gets who was in the way, after each try but the first.
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
    """Wait until nobody keeps others from reading a table. Read-only.

    Raises:
        PreconditionError: Somebody does for longer than `PATIENCE`.
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
