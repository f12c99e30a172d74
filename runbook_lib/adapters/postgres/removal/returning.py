"""Gives the plan's columns back, or destroys for good what was kept of them."""

from dataclasses import replace
from typing import Any

from psycopg import sql

from runbook_lib.adapters.postgres import dependents
from runbook_lib.adapters.postgres.brevity import DROPPING, RENAMING
from runbook_lib.adapters.postgres.connection import Connection
from runbook_lib.adapters.postgres.removal import definitions, records
from runbook_lib.adapters.postgres.removal.dropping import Dropping
from runbook_lib.adapters.postgres.removal.filling import Filling
from runbook_lib.adapters.postgres.removal.former_values import FormerValues, conflicts_table
from runbook_lib.adapters.postgres.removal.locking import lock
from runbook_lib.adapters.postgres.removal.mending import Mending
from runbook_lib.adapters.postgres.removal.quarantine import Quarantine
from runbook_lib.adapters.postgres.removal.records import HALF_BACK, Record, Stage
from runbook_lib.adapters.postgres.removal.removal import Progress, Removal, State, Waiting, Work
from runbook_lib.adapters.postgres.removal.snapshot import Snapshot
from runbook_lib.errors import PreconditionError


def give_back(removal: Removal, progress: Progress, waiting: Waiting) -> dict[str, Any]:
    """Put columns, values, constraints, indexes and history back as the record has them; returns what came of the values.

    Changes the target.

    Raises:
        PreconditionError: Columns of those names are there again, what was kept was purged, or the locks were not to be had.
        StepFailed: Rows written since do not satisfy a constraint.
    """
    with removal.connect() as connection:
        record = records.find(connection, removal.run)
    if record is None:
        return {}
    if record.stage is Stage.PURGED:
        raise PreconditionError(
            "What was removed has been purged since.",
            where=f"table {removal.database.schema_}.{removal.database.table}",
            state="Nothing was changed.",
            safe_next="The values are in the backup alone: restore the columns from it.",
        )
    if record.stage is Stage.COPYING:
        _discard(removal, record, waiting)
        return {}
    brevity = RENAMING if record.mode == "quarantine" else DROPPING
    if record.stage is Stage.REMOVED:
        removal.briefly(lambda connection: _return(removal, connection, record), waiting, _restoring, brevity)
    with removal.unhurried() as connection:
        if (now := records.find(connection, removal.run)) and now.stage is Stage.FILLING:
            _fill(removal, connection, now)
        left = _values(removal, connection, record, progress) if record.mode == "drop" else {}

        def locked(work: Work) -> None:
            removal.briefly(lambda connection: _under_lock(removal, connection, record, work), waiting, None, brevity)

        Mending(removal.database, removal.run, record.definitions).finish(connection, locked)
        with connection.transaction():
            if record.mode == "drop":
                former = FormerValues(removal.database, removal.run, record.definitions)
                left["conflicts"], left["conflicting keys"] = former.set_conflicts_apart(connection)
            removal.fingerprint.forget(connection)
            records.forget(connection, removal.run)
    return left


def purge(removal: Removal, waiting: Waiting) -> None:
    """Destroy what was kept: the columns set aside, or the copy of those dropped. Changes the target, for good.

    Raises:
        PreconditionError: The removal is under way, something hangs on the columns, or the locks were not to be had.
    """
    with removal.connect() as connection:
        record = records.find(connection, removal.run)
    if record is None or record.stage is Stage.PURGED:
        return
    if record.stage is not Stage.REMOVED:
        raise PreconditionError(
            f"The columns are not removed now: this run is {record.stage}.",
            where=f"table {removal.database.schema_}.{removal.database.table}",
            state="Nothing was purged.",
            safe_next="Finish the step, or undo it; then there is either something to purge or nothing.",
        )

    def work(connection: Connection) -> None:
        if record.asides:
            asides = list(record.asides.values())
            lock(connection, removal.database, record.definitions.parents)
            if lines := dependents.dependents(connection, removal.database, asides):
                raise PreconditionError(
                    f"In the way: {'; '.join(lines)}.",
                    where=f"table {removal.database.schema_}.{removal.database.table}",
                    state="Nothing was purged.",
                    safe_next="Decide on each of them by hand; then purge again.",
                )
            Dropping(removal.database, record.definitions).drop(connection, asides)
        Snapshot(removal.database, removal.run, record.definitions).discard(connection)
        removal.fingerprint.forget(connection)
        records.keep(connection, removal.run, replace(record, stage=Stage.PURGED))

    removal.briefly(work, waiting, lambda state: state.stage is Stage.PURGED)


def purge_conflicts(removal: Removal) -> None:
    """Destroy the former values that were not put back. Changes the target, for good."""
    with removal.connect() as connection, connection.transaction():
        connection.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(conflicts_table(removal.run)))


def _return(removal: Removal, connection: Connection, record: Record) -> None:
    lock(connection, removal.database, record.definitions.parents)
    if again := definitions.read(connection, removal.database).names:
        raise PreconditionError(
            f"There are columns of these names again: {', '.join(again)}.",
            where=f"table {removal.database.schema_}.{removal.database.table}",
            state="Nothing was changed; what was removed is still kept.",
            safe_next="Find out who made them, perhaps a migration on boot; take them away; then undo again.",
        )
    stage = Stage.RESTORING
    if record.mode == "drop":
        stage = Stage.FILLING if Filling(removal.database, removal.run, record.definitions).columns else stage
        Dropping(removal.database, record.definitions).add(connection)
        Mending(removal.database, removal.run, record.definitions).add(connection, kinds=("f",))
    else:
        Quarantine(removal.database, removal.run, record.definitions, record.asides).take_back(connection)
    removal.history.put_back(connection, record.history)
    records.keep(connection, removal.run, replace(record, stage=stage))


def _fill(removal: Removal, connection: Connection, record: Record) -> None:
    filling = Filling(removal.database, removal.run, record.definitions)
    filling.fill(connection)
    with connection.transaction():
        filling.fill_rest(connection)
        records.keep(connection, removal.run, replace(record, stage=Stage.RESTORING))


def _values(removal: Removal, connection: Connection, record: Record, progress: Progress) -> dict[str, Any]:
    former = FormerValues(removal.database, removal.run, record.definitions)
    left: dict[str, Any] = former.prepare(connection)
    total, restored, last = former.snapshot.rows(connection) or 0, 0, None
    while True:
        with connection.transaction():
            batch = former.restore_batch(connection, last)
        if batch.last_key is None:
            return {"restored": restored, **left}
        restored, last = restored + batch.restored, batch.last_key
        progress(restored, total, "rows given their values back")


def _discard(removal: Removal, record: Record, waiting: Waiting) -> None:
    def work(connection: Connection) -> None:
        lock(connection, removal.database, [])
        Snapshot(removal.database, removal.run, record.definitions).discard(connection)
        removal.fingerprint.forget(connection)
        records.forget(connection, removal.run)

    removal.briefly(work, waiting, lambda state: state.record is None)


def _under_lock(removal: Removal, connection: Connection, record: Record, work: Work) -> None:
    lock(connection, removal.database, record.definitions.parents)
    work(connection)


def _restoring(state: State) -> bool:
    return state.stage in HALF_BACK
