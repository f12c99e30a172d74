"""Restore the plan's columns, or permanently delete what was kept of them."""

from dataclasses import replace
from functools import partial
from typing import Any

from psycopg import sql

from runbook_lib.errors import PreconditionError
from runbook_lib.postgres import Connection, dependents
from runbook_lib.postgres.blockers import watched
from runbook_lib.postgres.column_removal import definitions, records
from runbook_lib.postgres.column_removal.definitions import lock
from runbook_lib.postgres.column_removal.drop_columns import Dropping, Quarantine
from runbook_lib.postgres.column_removal.previous_values import Batch, Filling, PreviousValues, Snapshot, conflicts_table
from runbook_lib.postgres.column_removal.rebuild_constraints import ConstraintRebuild
from runbook_lib.postgres.column_removal.records import HALF_BACK, Record, Stage
from runbook_lib.postgres.column_removal.removal import Progress, Removal, State, Waiting, Work
from runbook_lib.postgres.indexes import IndexBuilder
from runbook_lib.postgres.lock_budget import DROPPING, RENAMING, with_patience
from runbook_lib.postgres.round_trip import Statements


def restore(removal: Removal, progress: Progress, waiting: Waiting) -> dict[str, Any]:
    """Restore columns, values, constraints, indexes and history from the record; return the result for the values.

    Changes the target.

    Raises:
        PreconditionError: Columns of those names exist again, the kept data was purged, or the locks were not acquired.
        StepFailed: Rows written since violate a constraint, or an index is invalid after its build.
    """
    with removal.connect() as connection:
        record = records.find(connection, removal.run)
    if record is None:
        return {}
    if record.stage is Stage.PURGED:
        raise PreconditionError(
            "The removed columns have been purged since.",
            where=f"table {removal.database.schema_}.{removal.database.table}",
            state="Nothing was changed.",
            safe_next="Only the backup has the values: restore the columns from it.",
        )
    if record.stage is Stage.COPYING:
        _discard(removal, record, waiting)
        return {}
    budget = RENAMING if record.mode == "quarantine" else DROPPING
    if record.stage is Stage.REMOVED:
        removal.with_short_lock(lambda statements: _return(removal, statements, record), waiting, _restoring, budget)
    with removal.unhurried() as connection:
        if (now := records.find(connection, removal.run)) and now.stage is Stage.FILLING:
            with_patience(removal.connect, connection, lambda: _fill(removal, connection, now), waiting)
        left = _values(removal, connection, record, progress, waiting) if record.mode == "drop" else {}

        def locked(work: Work) -> None:
            removal.with_short_lock(lambda statements: _under_lock(removal, statements, record, work), waiting, None, budget)

        builder = IndexBuilder(removal.connect, waiting, concurrently=True)
        with watched(removal.connect, connection.info.backend_pid, waiting):
            ConstraintRebuild(removal.database, removal.run, record.definitions).finish(connection, locked, builder)
        with connection.transaction():
            if record.mode == "drop":
                previous = PreviousValues(removal.database, removal.run, record.definitions)
                left["conflicts"], left["conflicting keys"] = previous.set_conflicts_apart(connection)
            removal.fingerprint.forget(Statements(connection))
            records.forget(Statements(connection), removal.run)
    return left


def purge(removal: Removal, waiting: Waiting) -> None:
    """Permanently delete what was kept: the quarantined columns, or the copy of dropped ones. Changes the target.

    Raises:
        PreconditionError: The removal is unfinished, something depends on the columns, or the locks could not be acquired.
    """
    with removal.connect() as connection:
        record = records.find(connection, removal.run)
    if record is None or record.stage is Stage.PURGED:
        return
    if record.stage is not Stage.REMOVED:
        raise PreconditionError(
            f"The columns are not in the removed state: this run is {record.stage}.",
            where=f"table {removal.database.schema_}.{removal.database.table}",
            state="Nothing was purged.",
            safe_next="Finish the step, or undo it; then purge if anything is left.",
        )

    def work(statements: Statements) -> None:
        if record.asides:
            asides = list(record.asides.values())
            lock(statements, removal.database, record.definitions.parents, removal.history)
            if lines := dependents.dependents(statements.connection, removal.database, asides, removal.run):
                raise PreconditionError(
                    f"Blocked by: {'; '.join(lines)}.",
                    where=f"table {removal.database.schema_}.{removal.database.table}",
                    state="Nothing was purged.",
                    safe_next="Decide on each of them by hand; then purge again.",
                )
            Dropping(removal.database, record.definitions).drop(statements, asides)
        Snapshot(removal.database, removal.run, record.definitions).discard(statements)
        removal.fingerprint.forget(statements)
        records.keep(statements, removal.run, replace(record, stage=Stage.PURGED))

    removal.with_short_lock(work, waiting, lambda state: state.stage is Stage.PURGED)


def purge_conflicts(removal: Removal) -> None:
    """Permanently delete the previous values that were not restored. Changes the target."""
    with removal.connect() as connection, connection.transaction():
        connection.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(conflicts_table(removal.run)))


def _return(removal: Removal, statements: Statements, record: Record) -> None:
    lock(statements, removal.database, record.definitions.parents, removal.history)
    if again := definitions.read(statements.connection, removal.database).names:
        raise PreconditionError(
            f"Columns of these names exist again: {', '.join(again)}.",
            where=f"table {removal.database.schema_}.{removal.database.table}",
            state="Nothing was changed; what was removed is still kept.",
            safe_next="Find out who created them, perhaps a migration on boot; remove them; then undo again.",
        )
    if removal.history and (why := removal.history.moved_on(statements.connection, record.history)):
        raise PreconditionError(
            why,
            where=f"table {removal.history.name}",
            state="Nothing was changed; what was removed is still kept.",
            safe_next="Find out which migration ran since; revert it; then undo again.",
        )
    stage = Stage.RESTORING
    if record.mode == "drop":
        stage = Stage.FILLING if Filling(removal.database, removal.run, record.definitions).columns else stage
        Dropping(removal.database, record.definitions).add(statements)
        ConstraintRebuild(removal.database, removal.run, record.definitions).add(statements, kinds=("f",))
    else:
        Quarantine(removal.database, removal.run, record.definitions, record.asides).take_back(statements)
    if removal.history:
        removal.history.put_back(statements, record.history)
    records.keep(statements, removal.run, replace(record, stage=stage))


def _fill(removal: Removal, connection: Connection, record: Record) -> None:
    filling = Filling(removal.database, removal.run, record.definitions)
    filling.fill(connection)
    with connection.transaction():
        filling.fill_rest(connection)
        records.keep(Statements(connection), removal.run, replace(record, stage=Stage.RESTORING))


def _values(
    removal: Removal, connection: Connection, record: Record, progress: Progress, waiting: Waiting
) -> dict[str, Any]:
    previous = PreviousValues(removal.database, removal.run, record.definitions)
    left: dict[str, Any] = previous.prepare(connection)
    total, restored, last = previous.snapshot.rows(connection) or 0, 0, None
    while True:
        batch = with_patience(removal.connect, connection, partial(_batch, previous, connection, last), waiting)
        if batch.last_key is None:
            return {"restored": restored, **left}
        restored, last = restored + batch.restored, batch.last_key
        progress(restored, total, "rows with their values restored")


def _batch(previous: PreviousValues, connection: Connection, last: str | None) -> Batch:
    with connection.transaction():
        return previous.restore_batch(connection, last)


def _discard(removal: Removal, record: Record, waiting: Waiting) -> None:
    def work(statements: Statements) -> None:
        lock(statements, removal.database, [], removal.history)
        Snapshot(removal.database, removal.run, record.definitions).discard(statements)
        removal.fingerprint.forget(statements)
        records.forget(statements, removal.run)

    removal.with_short_lock(work, waiting, lambda state: state.record is None)


def _under_lock(removal: Removal, statements: Statements, record: Record, work: Work) -> None:
    lock(statements, removal.database, record.definitions.parents, removal.history)
    work(statements)


def _restoring(state: State) -> bool:
    return state.stage in HALF_BACK
