"""Tells which indexes on the cleared column nobody uses, by the server's own count of their scans."""

import time
from collections.abc import Callable

from runbook_lib.adapters.postgres.clearing.indexes import Indexes
from runbook_lib.adapters.postgres.connection import Connection

WATCH = 15.0  # seconds between the first look and the last; a session that stands idle counts its scans after ten
POLL = 0.5  # seconds


def unused(connection: Connection, indexes: Indexes, told: Callable[[int, str], object]) -> list[str]:
    """The names of the plan's indexes whose count of scans stays as it is while it is watched; ours do not scan meanwhile.

    One that is not whole serves nobody, and is not watched. Read-only.

    Args:
        connection: In autocommit mode, so that each look is a new one.
        indexes: The indexes on the column.
        told: Is told that and why it waits.
    """
    present = indexes.present(connection)
    broken = [index.name for index in present if not index.valid]
    watched = [index.name for index in present if index.valid]
    connection.execute("SELECT pg_stat_force_next_flush()")  # what this session itself has scanned before counts as before
    first = scans(connection, indexes, watched)
    flat, deadline = set(first), time.monotonic() + WATCH
    if flat:
        told(0, f"watching for {WATCH:g} s whether anybody uses {', '.join(sorted(flat))}")
    while flat and time.monotonic() < deadline:
        time.sleep(min(POLL, WATCH))
        now = scans(connection, indexes, watched)
        flat = {name for name in flat if now.get(name) == first[name]}
    return sorted([*broken, *flat])


def scans(connection: Connection, indexes: Indexes, names: list[str]) -> dict[str, int]:
    """How often each of some indexes was scanned, by the server's statistics. Read-only."""
    rows = connection.execute(
        """SELECT indexrelname AS name, idx_scan AS scans FROM pg_stat_user_indexes
           WHERE relid = %s::regclass AND indexrelname = ANY (%s)""",
        [indexes.backfill.table.as_string(connection), names],
    )
    return {row["name"]: row["scans"] for row in rows}
