"""How long a strong lock may be waited for and held, and what makes that real: limits of the server's, and of our own.

The waits of all tries, and the whole of a transaction from its first lock to its end, are limited, since whoever uses the
table waits behind ours for as long. Servers from 17 on end a transaction that takes too long; of older ones each statement
and each pause between two is limited by the server, and their sum by a cancellation from here.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from psycopg import errors, sql

from runbook_lib.adapters.postgres.connection import Connection

TOO_LONG = (errors.QueryCanceled, errors.TransactionTimeout, errors.IdleInTransactionSessionTimeout)
CANCELLED_AGAIN = 0.02  # seconds after which a cancellation that met no statement is sent again

_LIMITS_TRANSACTIONS = 170000  # the first version of the server that has transaction_timeout


@dataclass(frozen=True)
class Brevity:
    """How short strong locks are kept, in milliseconds.

    `waits` are the times that one try after another may wait for its locks, the last of them standing for all later ones;
    `limit` is how long a try may take from its beginning to its end, waiting included: None for as long as it needs.
    """

    waits: tuple[int, ...]
    limit: int | None = None

    def unlimited(self) -> "Brevity":
        """The same waits, with no limit on what is done under the locks: for what may take as long as it takes."""
        return Brevity(self.waits)


RENAMING = Brevity((60,), 150)  # catalog only
DROPPING = Brevity((100, 150, 200), 300)  # some captured rows are caught up on as well
EXCHANGING = Brevity((100, 150), 250)


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
