"""Tells which indexes on the cleared column nobody uses, by the server's own count of their scans."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from runbook_lib.adapters.postgres.clearing.indexes import Indexes
from runbook_lib.adapters.postgres.connection import Connection, one

WATCH = 15.0  # seconds between the first look and the last; a session that stands idle counts its scans after ten
POLL = 0.5  # seconds


@dataclass(frozen=True)
class Reading:
    """How often each index on the column had been scanned at a moment, in seconds by the server's clock."""

    at: float
    scans: dict[str, int]


def reading(connection: Connection, indexes: Indexes) -> Reading:
    """How often each whole index on the column has been scanned until now. Read-only."""
    names = [index.name for index in indexes.present(connection) if index.valid]
    return Reading(_now(connection), scans(connection, indexes, names))


@contextmanager
def unscanned(connection: Connection) -> Iterator[None]:
    """Look at the table without the indexes on the column, so that their counts of scans tell of others alone."""
    connection.execute("SET enable_bitmapscan = off")
    yield
    connection.execute("RESET enable_bitmapscan")


def unused(
    connection: Connection, indexes: Indexes, told: Callable[[int, str], object], since: Reading | None = None
) -> list[str]:
    """The names of the plan's indexes whose count of scans stays as it is while it is watched; ours do not scan meanwhile.

    One that is not whole serves nobody, and is not watched. Read-only.

    Args:
        connection: In autocommit mode, so that each look is a new one.
        indexes: The indexes on the column.
        told: Is told that and why it waits.
        since: An earlier reading, from which on it counts as watched; without it, it is watched from now on.
    """
    broken = [index.name for index in indexes.present(connection) if not index.valid]
    now = reading(connection, indexes)
    first = since or now
    left = max(0.0, WATCH - (now.at - first.at))
    flat, deadline = {name for name in now.scans if _flat(name, first, now.scans)}, time.monotonic() + left
    if flat and left:
        told(0, f"watching for {left:.0f} s whether anybody uses {', '.join(sorted(flat))}")
    while flat and time.monotonic() < deadline:
        time.sleep(min(POLL, WATCH))
        found = scans(connection, indexes, list(now.scans))
        flat = {name for name in flat if _flat(name, first, found)}
    return sorted([*broken, *flat])


def _flat(name: str, first: Reading, found: dict[str, int]) -> bool:
    return name in found and found[name] == first.scans.get(name)


def _now(connection: Connection) -> float:
    return float(one(connection, "SELECT extract(epoch FROM clock_timestamp())::float AS it")["it"])


def scans(connection: Connection, indexes: Indexes, names: list[str]) -> dict[str, int]:
    """How often each of some indexes was scanned, by the server's statistics. Read-only."""
    rows = connection.execute(
        """SELECT indexrelname AS name, idx_scan AS scans FROM pg_stat_user_indexes
           WHERE relid = %s::regclass AND indexrelname = ANY (%s)""",
        [indexes.backfill.table.as_string(connection), names],
    )
    return {row["name"]: row["scans"] for row in rows}
