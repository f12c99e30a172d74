"""Finds the sessions and prepared transactions that block others. Read-only."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from psycopg import sql

from runbook_lib.postgres import Connection, Open

FIRST_SAMPLE, SAMPLE = 0.02, 0.05  # seconds before the first look for blockers, and between two looks
NAMED_AFTER = 1.0  # seconds before a blocker of an unlimited wait is reported
LONG = 30.0  # seconds; a transaction this old may last as long again
IDLE = 5.0  # seconds; a transaction idle for this long waits for a person

PREPARED = "prepared transaction"


@dataclass(frozen=True)
class Blocker:
    """A session that blocks another; `kind` is its backend type. A prepared transaction has no pid."""

    pid: int
    user: str
    seconds: float  # since its transaction began, or was prepared
    query: str  # for a prepared transaction, its name
    kind: str

    def __str__(self) -> str:
        if self.kind == PREPARED:
            held = f"prepared transaction {self.query!r} ({self.user}, {self.seconds:.1f} s)"
            return f"{held}, which only COMMIT PREPARED or ROLLBACK PREPARED ends"
        return f"pid {self.pid} ({self.user or self.kind}, {self.seconds:.1f} s): {self.query}"

    @property
    def gives_way(self) -> bool:
        """Report whether it is an autovacuum that yields to a waiting lock; one against wraparound does not."""
        return self.kind == "autovacuum worker" and "wraparound" not in self.query


def blockers(connection: Connection, pid: int | None) -> list[Blocker]:
    """List who blocks the session `pid` now; empty without a `pid`. Read-only."""
    rows = connection.execute(_BLOCKERS, {"pid": pid})
    return [Blocker(**row) for row in rows]


def lasting(connection: Connection, table: sql.Identifier, without: str | None) -> list[Blocker]:
    """List who holds a lock on a table for long or in a strong mode, except one role's sessions. Read-only.

    Prepared transactions count at any age, since ending a service does not end them.
    """
    rows = connection.execute(
        _LASTING, {"table": table.as_string(connection), "without": without, "long": LONG, "idle": IDLE}
    )
    return [blocker for row in rows if not (blocker := Blocker(**row)).gives_way]


def holders(connection: Connection) -> list[Blocker]:
    """List who holds a strong lock on any relation of the database, except this run's sessions. Read-only."""
    return [blocker for row in connection.execute(_HOLDERS) if not (blocker := Blocker(**row)).gives_way]


def transactions(connection: Connection) -> list[Blocker]:
    """List the transactions in progress on the database, except the runbook's own. Read-only."""
    return [Blocker(**row) for row in connection.execute(_TRANSACTIONS)]


def behind(connection: Connection, pid: int) -> list[int]:
    """List the sessions that the session `pid` blocks. Read-only."""
    query = "SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND %s = ANY (pg_blocking_pids(pid))"
    return [row["pid"] for row in connection.execute(query, [pid])]


def waiting_dump(connection: Connection) -> int | None:
    """Find the session of a pg_dump of this database that waits for a lock; None if none waits. Read-only."""
    row = connection.execute(_WAITING_DUMP).fetchone()
    return row["pid"] if row else None


@contextmanager
def watched(
    open_: Open,
    waiter: int | Callable[[Connection], int | None],
    report: Callable[[Sequence[Blocker]], object] | None = None,
    every: float = SAMPLE,
) -> Iterator[list[Blocker]]:
    """Record, from a separate connection, everyone who blocks a session while the block runs. Read-only.

    Args:
        open_: Opens a connection to the target.
        waiter: The session that waits, or how to find it.
        report: Called with whoever has blocked for a second, once each, while the block still waits.
        every: Seconds between two looks.
    """
    seen: dict[tuple[int, str], Blocker] = {}
    since: dict[tuple[int, str], float] = {}
    reported: set[tuple[int, str]] = set()
    found: list[Blocker] = []
    ended = threading.Event()

    def watch() -> None:
        if ended.wait(FIRST_SAMPLE):
            return
        with open_() as connection:
            while not ended.is_set():
                pid = waiter if isinstance(waiter, int) else waiter(connection)
                now = {(blocker.pid, blocker.query): blocker for blocker in blockers(connection, pid)}
                seen.update(now)
                if report:
                    at = time.monotonic()
                    since.update({key: at for key in now if key not in since})
                    late = [key for key in now if key not in reported and at - since[key] > NAMED_AFTER]
                    if late:
                        reported.update(late)
                        report([now[key] for key in late])
                ended.wait(every)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield found
    finally:
        ended.set()
        watcher.join()
        found.extend(seen.values())


_PARTS = {
    "<session>": """a.pid, coalesce(a.usename, '') AS user, a.backend_type AS kind, left(a.query, 200) AS query,
coalesce(extract(epoch FROM clock_timestamp() - a.xact_start), 0)::float AS seconds""",
    "<prepared>": """0 AS pid, p.owner::text AS user, 'prepared transaction' AS kind, p.gid AS query,
extract(epoch FROM clock_timestamp() - p.prepared)::float AS seconds""",
    "<holds>": """JOIN pg_locks x ON l.pid IS NULL AND l.granted AND x.pid IS NULL AND x.locktype = 'transactionid'
 AND x.virtualtransaction = l.virtualtransaction
JOIN pg_prepared_xacts p ON p.transaction = x.transactionid""",
    "<strong>": """l.mode IN ('ShareUpdateExclusiveLock', 'ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock',
'AccessExclusiveLock')""",
}


def _filled(query: str) -> bytes:
    for name, part in _PARTS.items():
        query = query.replace(name, part)
    return query.encode()


# pg_locks lists a prepared transaction without a pid; pg_blocking_pids lists it as 0.
_BLOCKERS = _filled("""
SELECT <session> FROM pg_stat_activity a WHERE a.pid = ANY (pg_blocking_pids(%(pid)s))
UNION SELECT <prepared> FROM pg_locks w
JOIN pg_locks l ON l.locktype = w.locktype AND l.database IS NOT DISTINCT FROM w.database
 AND l.relation IS NOT DISTINCT FROM w.relation AND l.transactionid IS NOT DISTINCT FROM w.transactionid
<holds>
WHERE w.pid = %(pid)s AND NOT w.granted AND 0 = ANY (pg_blocking_pids(%(pid)s))
ORDER BY pid, query
""")

_WAITING_DUMP = """
SELECT pid FROM pg_stat_activity
WHERE application_name = 'pg_dump' AND datname = current_database() AND wait_event_type = 'Lock' LIMIT 1
"""

_LASTING = _filled("""
SELECT DISTINCT <session> FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid
WHERE l.relation = to_regclass(%(table)s) AND l.granted AND a.pid <> pg_backend_pid()
  AND a.application_name NOT LIKE 'runbook %%' AND a.usename IS DISTINCT FROM %(without)s
  AND (<strong> OR clock_timestamp() - a.xact_start > make_interval(secs => %(long)s)
       OR a.state LIKE 'idle in transaction%%' AND clock_timestamp() - a.state_change > make_interval(secs => %(idle)s))
UNION SELECT <prepared> FROM pg_locks l <holds> WHERE l.relation = to_regclass(%(table)s)
ORDER BY pid, query
""")

_TRANSACTIONS = _filled("""
SELECT <session> FROM pg_stat_activity a
WHERE a.datname = current_database() AND a.xact_start IS NOT NULL AND a.backend_type = 'client backend'
  AND a.application_name NOT LIKE 'runbook %%' AND a.pid <> pg_backend_pid()
ORDER BY a.xact_start
""")

_HOLDERS = _filled("""
SELECT DISTINCT <session> FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid
WHERE l.locktype = 'relation' AND l.granted AND <strong> AND a.datname = current_database()
  AND a.application_name <> current_setting('application_name')
UNION SELECT <prepared> FROM pg_locks l <holds> WHERE l.locktype = 'relation' AND p.database = current_database()
ORDER BY pid, query
""")
