"""One run's removal of the plan's columns: its state, and its short transactions."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from runbook_lib.config.plan import Database
from runbook_lib.errors import PreconditionError
from runbook_lib.postgres import Connection, dependents, lock_budget
from runbook_lib.postgres.blockers import Blocker
from runbook_lib.postgres.column_removal import definitions, records
from runbook_lib.postgres.column_removal.definitions import Definitions
from runbook_lib.postgres.column_removal.records import Record, Stage
from runbook_lib.postgres.connection import Postgres
from runbook_lib.postgres.fingerprint import Fingerprint
from runbook_lib.postgres.lock_budget import DROPPING, LockBudget
from runbook_lib.postgres.migration_history import History
from runbook_lib.postgres.round_trip import Statements
from runbook_lib.postgres.text_settings import ALL_ROWS, pin

Work = Callable[[Statements], None]
Progress = Callable[[int, int, str], None]  # done, total, unit
Waiting = Callable[[Sequence[Blocker]], None]


@dataclass(frozen=True)
class State:
    """Which of the plan's columns exist, how many history rows the migration has, and what this run did."""

    there: list[str]
    history: int
    record: Record | None

    @property
    def stage(self) -> Stage | None:
        """How far this run has come."""
        return self.record.stage if self.record else None


class Removal:
    """One run's work on the plan's columns in one database."""

    def __init__(self, postgres: Postgres, database: Database, run: str, history: History | None) -> None:
        self.postgres = postgres
        self.database = database
        self.run = run
        self.history = history
        self.fingerprint = Fingerprint(database, run)

    @contextmanager
    def connect(self) -> Iterator[Connection]:
        """A connection on which every value has the same text wherever the run is.

        Raises:
            AdapterError: The database cannot be reached, or a statement failed.
        """
        with self.postgres.connect() as connection:
            pin(connection, local=False, **ALL_ROWS)
            yield connection

    @contextmanager
    def unhurried(self) -> Iterator[Connection]:
        """The same without a time limit, for statements that read whole tables.

        Raises:
            AdapterError: The database cannot be reached, or a statement failed.
        """
        with self.connect() as connection:
            connection.execute("SET statement_timeout = 0")
            yield connection

    def state(self, connection: Connection) -> State:
        """Return the present state. Read-only.

        Raises:
            PreconditionError: The plan's table, or its migration history, does not exist.
        """
        definitions.require_table(connection, self.database, self.history)
        there = definitions.read(connection, self.database).names
        return State(there, self.recorded(connection), records.find(connection, self.run))

    def recorded(self, connection: Connection) -> int:
        """Count the history rows of the feature's migrations. Read-only."""
        return self.history.rows(connection) if self.history else 0

    def missing(self, connection: Connection, found: Definitions) -> list[str]:
        """Return a line for each object of the plan that was not found, and so may be misspelt. Read-only."""
        lines = definitions.absent(connection, self.database, found)
        return lines + (self.history.missing(connection) if self.history else [])

    def in_the_way(self, connection: Connection, mode: str, found: Definitions) -> list[str]:
        """Return a line for each dependent of the columns, and for each obstacle in table or history. Read-only."""
        hanging = dependents.dependents(connection, self.database, found.names, self.run)
        hanging += definitions.obstacles(connection, self.database, found, mode)
        return hanging + (self.history.in_the_way(connection) if self.history else [])

    def is_gone(self, connection: Connection) -> bool:
        """Whether none of the plan's objects exist. Read-only."""
        found = definitions.read(connection, self.database)
        return not (found.columns or found.indexes or found.constraints or self.recorded(connection))

    def require_named(self, connection: Connection, found: Definitions) -> None:
        """Check that every object of the plan was found. Read-only.

        Raises:
            PreconditionError: Something is missing.
        """
        if lines := self.missing(connection, found):
            raise PreconditionError(
                f"The plan names objects that do not exist: {'; '.join(lines)}.",
                where=self._where,
                state="Nothing was removed.",
                safe_next="Correct the plan, or find out who removed it; then take a new preview.",
            )

    def removable(self, connection: Connection, mode: str) -> Definitions:
        """Return what to remove, after checking that every object of the plan exists and nothing blocks. Read-only.

        Raises:
            PreconditionError: Something is missing, or blocks the removal.
        """
        definitions.require_table(connection, self.database, self.history)
        found = definitions.read(connection, self.database)
        self.require_named(connection, found)
        if lines := self.in_the_way(connection, mode, found):
            raise PreconditionError(
                f"Blocked by: {'; '.join(lines)}.",
                where=self._where,
                state="Nothing was removed, and nothing is ever removed along with the columns.",
                safe_next="Decide on each of them by hand; then take a new preview.",
            )
        return found

    @property
    def _where(self) -> str:
        return f"table {self.database.schema_}.{self.database.table}"

    def with_short_lock(
        self, work: Work, waiting: Waiting, came_about: Callable[[State], bool] | None, budget: LockBudget = DROPPING
    ) -> None:
        """Do `work` in one short transaction; if a COMMIT's answer is lost, look it up. Changes what `work` changes.

        Args:
            work: Takes its locks first, and reads nothing that it has written.
            waiting: Receives the sessions that blocked a lock.
            came_about: Whether the state shows that `work` was done; None if no state does.
            budget: How long to wait for the locks, and to hold them.

        Raises:
            PreconditionError: The locks could not be acquired.
            AdapterError: The connection broke, and nothing was committed.
            UnknownOutcome: The connection broke in the COMMIT, and the server could not be reached again.
        """

        def done(statements: Statements) -> bool:
            work(statements)
            return True

        def recorded(connection: Connection) -> bool | None:
            return (came_about is not None and came_about(self.state(connection))) or None

        lock_budget.with_short_lock_in_one_message(
            self.connect, done, waiting, budget=budget, recorded=recorded if came_about else None
        )
