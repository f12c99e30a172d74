"""One run's removal of the plan's columns: what is there, and how its short transactions are made."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from psycopg import sql

from runbook_lib.adapters.postgres import dependents, locks
from runbook_lib.adapters.postgres.brevity import DROPPING, Brevity
from runbook_lib.adapters.postgres.connection import Connection, Postgres
from runbook_lib.adapters.postgres.removal import definitions, obstacles, records
from runbook_lib.adapters.postgres.removal.definitions import Definitions
from runbook_lib.adapters.postgres.removal.fingerprint import Fingerprint
from runbook_lib.adapters.postgres.removal.history import History
from runbook_lib.adapters.postgres.removal.records import Record, Stage
from runbook_lib.errors import PreconditionError
from runbook_lib.plan import Database

# What a value looks like as text must not depend on who looks; nor may row security leave rows out without a word.
SETTINGS = {
    "timezone": "UTC",
    "datestyle": "ISO",
    "intervalstyle": "postgres",
    "extra_float_digits": "1",
    "bytea_output": "hex",
    "row_security": "off",
}

Work = Callable[[Connection], None]
Progress = Callable[[int, int, str], None]  # done, in all, of what
Waiting = Callable[[Sequence[locks.Blocker]], None]


@dataclass(frozen=True)
class State:
    """Which of the plan's columns are there, how many rows the migration has in its history, and what this run did."""

    there: list[str]
    history: int
    record: Record | None

    @property
    def stage(self) -> Stage | None:
        """How far this run has come."""
        return self.record.stage if self.record else None


class Removal:
    """What one run does to the plan's columns on one database."""

    def __init__(self, postgres: Postgres, database: Database, run: str) -> None:
        self.postgres = postgres
        self.database = database
        self.run = run
        self.history = History(database)
        self.fingerprint = Fingerprint(database, run)

    @contextmanager
    def connect(self) -> Iterator[Connection]:
        """A connection on which every value reads the same wherever the run is.

        Raises:
            AdapterError: The database cannot be reached, or a statement failed.
        """
        settings = [sql.SQL("set_config({}, {}, false)").format(*map(sql.Literal, pair)) for pair in SETTINGS.items()]
        with self.postgres.connect() as connection:
            connection.execute(sql.SQL("SELECT {}").format(sql.SQL(", ").join(settings)))
            yield connection

    @contextmanager
    def unhurried(self) -> Iterator[Connection]:
        """The same, for statements that read whole tables, which may take as long as they need.

        Raises:
            AdapterError: The database cannot be reached, or a statement failed.
        """
        with self.connect() as connection:
            connection.execute("SET statement_timeout = 0")
            yield connection

    def state(self, connection: Connection) -> State:
        """What is there now. Read-only.

        Raises:
            PreconditionError: The plan's table, or its history of migrations, is not there.
        """
        definitions.require_table(connection, self.database)
        there = definitions.read(connection, self.database).names
        return State(there, self.history.rows(connection), records.find(connection, self.run))

    def missing(self, connection: Connection, found: Definitions) -> list[str]:
        """What the plan names and was not found, so that it may be misspelt. Read-only."""
        lines = definitions.absent(connection, self.database, found)
        migration = self.database.migration
        if not self.history.rows(connection):
            lines.append(f"migration {migration.version} in {migration.history_table}")
        return lines

    def in_the_way(self, connection: Connection, mode: str, found: Definitions) -> list[str]:
        """What hangs on the columns, and what of the table cannot be handled, a line each. Read-only."""
        hanging = dependents.dependents(connection, self.database, found.names)
        return hanging + obstacles.obstacles(connection, self.database, found, mode)

    def is_gone(self, connection: Connection) -> bool:
        """Whether nothing at all is there of what the plan names. Read-only."""
        found = definitions.read(connection, self.database)
        return not (found.columns or found.indexes or found.constraints or self.history.rows(connection))

    def require_named(self, connection: Connection, found: Definitions) -> None:
        """Make sure that all that the plan names was found. Read-only.

        Raises:
            PreconditionError: Something is missing.
        """
        if lines := self.missing(connection, found):
            raise PreconditionError(
                f"The plan names what is not there: {'; '.join(lines)}.",
                where=self._where,
                state="Nothing was removed.",
                safe_next="Correct the plan, or find out who removed it; then take a new preview.",
            )

    def removable(self, connection: Connection, mode: str) -> Definitions:
        """What is to go, once it is sure that all the plan names is there and nothing is in the way. Read-only.

        Raises:
            PreconditionError: Something is missing, or in the way.
        """
        definitions.require_table(connection, self.database)
        found = definitions.read(connection, self.database)
        self.require_named(connection, found)
        if lines := self.in_the_way(connection, mode, found):
            raise PreconditionError(
                f"In the way: {'; '.join(lines)}.",
                where=self._where,
                state="Nothing was removed, and nothing is ever removed along with the columns.",
                safe_next="Decide on each of them by hand; then take a new preview.",
            )
        return found

    @property
    def _where(self) -> str:
        return f"table {self.database.schema_}.{self.database.table}"

    def briefly(
        self, work: Work, waiting: Waiting, came_about: Callable[[State], bool] | None, brevity: Brevity = DROPPING
    ) -> None:
        """Do `work` in one short transaction; a COMMIT whose answer was lost is looked up. Changes what `work` changes.

        Args:
            work: What to do; it takes its locks first, and reads nothing that it has written: see `trip.noted`.
            waiting: Is told who was in the way of a lock.
            came_about: Whether the state tells that `work` was done; None where no state does.
            brevity: How long the locks may be waited for and held.

        Raises:
            PreconditionError: The locks were not to be had.
            AdapterError: The connection broke, and nothing was committed.
            UnknownOutcome: The connection broke in the COMMIT, and the server did not come back.
        """

        def done(connection: Connection) -> bool:
            work(connection)
            return True

        def recorded(connection: Connection) -> bool | None:
            return (came_about is not None and came_about(self.state(connection))) or None

        locks.briefly(
            self.connect, done, waiting, brevity=brevity, recorded=recorded if came_about else None, in_one_message=True
        )
