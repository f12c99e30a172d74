"""Builds, drops and rebuilds indexes, with a short lock or concurrently, and finds unused ones."""

import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from psycopg import sql

from runbook_lib.errors import StepFailed
from runbook_lib.postgres import Connection, Open
from runbook_lib.postgres.backfill_terms import BackfillTerms
from runbook_lib.postgres.blockers import Blocker, watched
from runbook_lib.postgres.connection import exists, one
from runbook_lib.postgres.lock_budget import with_short_lock

Waiting = Callable[[Sequence[Blocker]], None]


@dataclass(frozen=True)
class IndexBuilder:
    """Builds and drops indexes; calls `waiting` with the sessions that block it."""

    open: Open
    waiting: Waiting
    concurrently: bool

    def build(self, index: sql.Identifier, definition: str) -> None:
        """Build an index by its definition unless a valid one exists; drop an invalid one first. Changes the target.

        Raises:
            PreconditionError: A lock was not granted in time.
            StepFailed: The built index is not valid.
        """
        with self.open() as connection:
            valid = _is_valid(connection, index)
        if valid:
            return
        if valid is False:  # left by an interrupted build
            self.drop(index)
        (self._concurrently if self.concurrently else self._with_short_lock)(definition)
        with self.open() as connection:
            if not _is_valid(connection, index):
                raise StepFailed(
                    "An index was built but is not valid.",
                    where=f"index {index.as_string()}",
                    state="Writes maintain it, and no query uses it.",
                    safe_next="Run the step, or its undo, again: it builds the index again.",
                )

    def drop(self, index: sql.Identifier) -> None:
        """Drop an index if it exists. Changes the target.

        Raises:
            PreconditionError: A lock was not granted in time.
        """
        statement = sql.SQL("DROP INDEX IF EXISTS {}").format(index).as_string()
        (self._concurrently if self.concurrently else self._with_short_lock)(statement)

    def _with_short_lock(self, statement: str) -> None:
        def work(connection: Connection) -> None:
            connection.execute("SET LOCAL statement_timeout = 0")  # a large index takes as long as it takes
            connection.execute(statement.encode())

        with_short_lock(self.open, work, self.waiting)

    def _concurrently(self, statement: str) -> None:
        """Execute a statement that waits for others, however long, and makes none of them wait."""
        with self.open() as connection:
            connection.execute("SET statement_timeout = 0; SET lock_timeout = 0")
            with watched(self.open, connection.info.backend_pid, self.waiting):
                connection.execute(concurrently(statement).encode())


def concurrently(statement: str) -> str:
    """Make a statement that creates or drops an index run concurrently. Pure."""
    return re.sub(r"^(CREATE (?:UNIQUE )?INDEX|DROP INDEX) ", r"\1 CONCURRENTLY ", statement)


def _is_valid(connection: Connection, index: sql.Identifier) -> bool | None:
    """Report whether an index is valid; None if it does not exist. Read-only."""
    row = connection.execute(
        "SELECT indisvalid AS valid FROM pg_index WHERE indexrelid = to_regclass(%s)", [index.as_string(connection)]
    ).fetchone()
    return row["valid"] if row else None


@dataclass(frozen=True)
class Index:
    """An index on the cleared column: its name, its definition, and whether it is valid."""

    name: str
    definition: str
    valid: bool


class Indexes:
    """The plan's indexes on the cleared column; the target records dropped ones until they are rebuilt."""

    def __init__(self, backfill: BackfillTerms) -> None:
        self.backfill = backfill
        self.dropped = backfill.own("dropped")

    def present(self, connection: Connection) -> list[Index]:
        """List the plan's existing indexes on the column. Read-only."""
        rows = connection.execute(
            """SELECT x.relname AS name, pg_get_indexdef(i.indexrelid) AS definition, i.indisvalid AS valid
               FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid
               JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey)
               WHERE i.indrelid = %s::regclass AND a.attname = %s AND x.relname = ANY (%s)
                 AND NOT i.indisunique AND NOT i.indisreplident ORDER BY 1""",
            [
                self.backfill.table.as_string(connection),
                self.backfill.spec.name,
                self.backfill.database.indexes,
            ],
        )
        return [Index(**row) for row in rows]

    def missing(self, connection: Connection) -> dict[str, str]:
        """List the indexes that this run dropped and that are missing or invalid: name -> definition. Read-only."""
        if not exists(connection, self.dropped):
            return {}
        rows = connection.execute(sql.SQL("SELECT name, definition FROM {}").format(self.dropped)).fetchall()
        whole = {index.name for index in self.present(connection) if index.valid}
        return {row["name"]: row["definition"] for row in rows if row["name"] not in whole}

    def remember(self, connection: Connection, indexes: Sequence[Index]) -> None:
        """Record the definitions of indexes to be dropped. Changes the runbook's own table."""
        if not indexes:
            return
        connection.execute(
            sql.SQL("CREATE TABLE IF NOT EXISTS {} (name text PRIMARY KEY, definition text NOT NULL)").format(self.dropped)
        )
        for index in indexes:
            connection.execute(
                sql.SQL("INSERT INTO {} VALUES ({}, {}) ON CONFLICT DO NOTHING").format(
                    self.dropped, sql.Literal(index.name), sql.Literal(index.definition)
                )
            )

    def drop(self, builder: IndexBuilder, remembered: Sequence[Index]) -> None:
        """Drop indexes whose definitions are recorded. Changes the target."""
        for index in remembered:
            builder.drop(self._qualified(index.name))

    def rebuild(self, connection: Connection, builder: IndexBuilder) -> list[str]:
        """Rebuild every index that was dropped and is missing; return their names. Changes the target."""
        missing = self.missing(connection)
        for name, definition in missing.items():
            builder.build(self._qualified(name), definition)
        connection.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(self.dropped))
        return list(missing)

    def _qualified(self, name: str) -> sql.Identifier:
        return sql.Identifier(self.backfill.database.schema_, name)


WATCH = 15.0  # seconds from the first look to the last; an idle session reports its scans after ten
POLL = 0.5  # seconds


@dataclass(frozen=True)
class Reading:
    """The number of scans of each index on the column, and the moment, in seconds by the server's clock."""

    at: float
    scans: dict[str, int]


def reading(connection: Connection, indexes: Indexes) -> Reading:
    """Count the scans so far of each valid index on the column. Read-only."""
    names = [index.name for index in indexes.present(connection) if index.valid]
    return Reading(_now(connection), scans(connection, indexes, names))


@contextmanager
def unscanned(connection: Connection) -> Iterator[None]:
    """Query the table without the indexes on the column, so that only others' scans are counted."""
    connection.execute("SET enable_bitmapscan = off")
    yield
    connection.execute("RESET enable_bitmapscan")


def unused(
    connection: Connection, indexes: Indexes, report: Callable[[int, str], object], since: Reading | None = None
) -> list[str]:
    """Name the plan's indexes that nobody scans while they are watched; our own queries do not scan them. Read-only.

    An invalid index serves no query and is not watched.

    Args:
        connection: In autocommit mode, so that each look reads new counts.
        indexes: The indexes on the column.
        report: Called with the progress and the reason for the wait.
        since: An earlier reading from which to count as watched; by default, now.
    """
    broken = [index.name for index in indexes.present(connection) if not index.valid]
    now = reading(connection, indexes)
    first = since or now
    left = max(0.0, WATCH - (now.at - first.at))
    flat, deadline = {name for name in now.scans if _flat(name, first, now.scans)}, time.monotonic() + left
    if flat and left:
        report(0, f"watching for {left:.0f} s whether anybody uses {', '.join(sorted(flat))}")
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
    """Count the scans of some indexes, by the server's statistics. Read-only."""
    rows = connection.execute(
        """SELECT indexrelname AS name, idx_scan AS scans FROM pg_stat_user_indexes
           WHERE relid = %s::regclass AND indexrelname = ANY (%s)""",
        [indexes.backfill.table.as_string(connection), names],
    )
    return {row["name"]: row["scans"] for row in rows}
