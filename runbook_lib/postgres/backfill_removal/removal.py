"""Remove a backfill's values by one of three strategies, or undo that; each resumes after a crash."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from psycopg import sql

from runbook_lib.journal.control import Request
from runbook_lib.postgres import Connection, Open
from runbook_lib.postgres.backfill_removal import guard
from runbook_lib.postgres.backfill_removal.batches import clear_at_once, clear_by_key, clear_by_pages, clear_moved
from runbook_lib.postgres.backfill_removal.guard import Named, Records
from runbook_lib.postgres.backfill_removal.swap import Stage, Swap
from runbook_lib.postgres.backfill_removal.throttle import Throttle
from runbook_lib.postgres.backfill_removal.undo import undo_batches, undo_swap
from runbook_lib.postgres.backfill_terms import BackfillTerms
from runbook_lib.postgres.blockers import Blocker
from runbook_lib.postgres.indexes import Index, IndexBuilder, Indexes
from runbook_lib.postgres.lock_budget import EXCHANGING, with_patience, with_short_lock_in_one_message
from runbook_lib.postgres.proof import Proof
from runbook_lib.postgres.round_trip import Statements
from runbook_lib.postgres.script import script, written_down

WORKERS = 2  # connections that clear at once if nobody else uses the table


def _silent(*_: object) -> None:
    """Report nothing."""


@dataclass(frozen=True)
class Progress:
    """Callbacks for the progress of a removal."""

    cleared: Callable[[int, str], object] = _silent  # rows cleared since the last call, and the reason for waiting
    waiting: Callable[[Sequence[Blocker]], None] = _silent  # the sessions that block a lock
    open_cleanup: Callable[[str, str], object] = _silent  # a cleanup item about to be pending: its name and its work
    close_cleanup: Callable[[str], object] = _silent


@dataclass(frozen=True)
class BackfillRemoval:
    """One run's removal of a backfill's values; `stopped` says that nobody else uses the table meanwhile."""

    open: Open
    backfill: BackfillTerms
    strategy: str
    stopped: bool
    progress: Progress = field(default_factory=Progress)
    requested: Callable[[], Request] = lambda: "resume"  # called before each batch

    @property
    def swap(self) -> Swap:
        """The swap of the swap strategy."""
        return Swap(self.open, self.backfill, self.progress.waiting)

    @property
    def proof(self) -> Proof:
        """The proof that nothing else changed."""
        column = self.swap.column
        return Proof(self.backfill, [column.shadow, column.old] if self.strategy == "swap" else [])

    def apply(self, unused: Sequence[str] = ()) -> None:
        """Clear, or resume that. Changes the target.

        Args:
            unused: Names of indexes on the column that nobody uses meanwhile. Batches drop them and build them again; so
                does a swap if nobody else uses the table.

        Raises:
            Declined: It was aborted between two batches, as requested.
            StepFailed: A transaction would have changed something else; it was rolled back.
            PreconditionError: A lock could not be acquired in time.
        """
        with self.open() as connection:
            Records(self.backfill).prepare(connection)
        match self.strategy:
            case "swap":
                self.progress.open_cleanup(
                    "old-column", f"column {self.swap.column.old} is kept for the undo until it is purged"
                )
                with self._without(unused):
                    self.swap.apply(self._pace, self._workers, stopped=self.stopped)
            case "batched":
                self.progress.open_cleanup("undo-rows", "undo rows are kept for the undo until they are purged")
                with self._without(unused):
                    clear_by_pages(self.open, self.backfill, self._pace, self._workers)
                clear_moved(self.open, self.backfill, self._pace, exclusive=self.stopped)
            case _:
                self.progress.open_cleanup("undo-rows", "undo rows are kept for the undo until they are purged")
                with self.open() as connection, self.open() as looking:
                    clear_by_key(connection, self.backfill, self._pace(looking))

    def by_hand(self, connection: Connection, *, kept_out: bool) -> str:
        """Return a script that clears all rows like batches, with the records from which the run undoes it. Read-only."""
        with written_down(connection) as first:
            Records(self.backfill).prepare(connection)
            if self.stopped:
                Proof(self.backfill).record_at_once(connection)
        with written_down(connection) as then:
            if kept_out:
                connection.execute("SET LOCAL session_replication_role = replica")
            clear_at_once(connection, self.backfill)
        return f"{script(first, then)}\n{self.backfill.counted.as_string(connection)};"

    def undo(self) -> tuple[int, list[Any]]:
        """Restore the old values that nobody has changed since. Changes the target.

        Returns how many rows were restored, and the keys of those that someone has changed since.

        Raises:
            Declined: It was aborted between two batches.
        """
        with self.open() as connection:
            stage = self.swap.stage(connection)
            if stage is Stage.NOTHING:
                self._rebuild(connection, concurrently=not self.stopped)
            if stage is Stage.CUT_OVER:
                lost = self.swap.column.not_on_old(connection)
                self._remember(
                    connection, [index for index in Indexes(self.backfill).present(connection) if index.name in lost]
                )
        if stage is Stage.NOTHING:
            return undo_batches(self.open, self.backfill, self._pace)
        given_back = undo_swap(self.swap)
        with self.open() as connection:
            self._rebuild(connection, concurrently=True)  # the application may be running again
        return given_back

    def undo_begun(self, connection: Connection) -> bool:
        """Whether an undo of a swap was begun, and neither finished nor abandoned. Read-only."""
        return self.swap.stage(connection) is Stage.CUT_OVER and self.swap.capture.begun(connection)

    def begun(self, connection: Connection) -> bool:
        """Whether this run has begun to clear and has not undone that. Read-only."""
        return Records(self.backfill).exist(connection)

    def rows(self, connection: Connection) -> int:
        """Return how many rows this run has cleared. Read-only."""
        if self.swap.stage(connection) is Stage.CUT_OVER:
            return self.backfill.over(self.swap.column.old).count(connection)
        return Records(self.backfill).undo_rows(connection)

    def unexpected(self, connection: Connection) -> Named:
        """Return the rows that do not hold the value computed for them. Read-only."""
        if self.swap.stage(connection) is Stage.CUT_OVER:
            return self.swap.differing(connection, exclusive=self.stopped)
        return guard.unexpected(connection, self.backfill, stopped=self.stopped)

    def purge(self) -> None:
        """Permanently delete the undo data: drop the old column, or the undo rows. Changes the target."""

        def drop_old(statements: Statements) -> bool:
            self.swap.column.lock(statements)
            self.swap.column.drop(statements, self.swap.column.old)
            return True

        def dropped(connection: Connection) -> bool | None:
            return self.swap.stage(connection) is Stage.NOTHING or None

        with self.open() as connection:
            is_cut_over = self.swap.stage(connection) is Stage.CUT_OVER
        if is_cut_over:
            waiting = self.progress.waiting
            with_short_lock_in_one_message(self.open, drop_old, waiting, budget=EXCHANGING, recorded=dropped)
        with self.open() as connection:
            connection.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(self.backfill.own("conflicts")))
            Records(self.backfill).mark_purged(connection)

    @contextmanager
    def _without(self, unused: Sequence[str]) -> Iterator[None]:
        with self.open() as connection:
            indexes = [index for index in Indexes(self.backfill).present(connection) if index.name in unused]
            self._remember(connection, indexes)
            Indexes(self.backfill).drop(self._builder(concurrently=not self.stopped), indexes)
        yield
        with self.open() as connection:
            self._rebuild(connection, concurrently=not self.stopped)

    def _remember(self, connection: Connection, indexes: Sequence[Index]) -> None:
        for index in indexes:
            self.progress.open_cleanup(f"index-{index.name}", f"index {index.name} must be built again: {index.definition}")
        Indexes(self.backfill).remember(connection, indexes)

    def _rebuild(self, connection: Connection, *, concurrently: bool) -> None:
        for name in Indexes(self.backfill).rebuild(connection, self._builder(concurrently=concurrently)):
            self.progress.close_cleanup(f"index-{name}")

    @property
    def _workers(self) -> int:
        return WORKERS if self.stopped else 1

    def _builder(self, *, concurrently: bool) -> IndexBuilder:
        return IndexBuilder(self.open, self.progress.waiting, concurrently)

    def _pace(self, looking: Connection) -> Throttle:
        def granted(connection: Connection, work: Callable[[], int]) -> int:
            return with_patience(self.open, connection, work, self.progress.waiting)

        considerate = not self.stopped
        return Throttle(looking, self.progress.cleared, self.requested, considerate=considerate, granted=granted)
