"""Takes the plan's columns away: set aside in one move, or copied and then dropped."""

from collections.abc import Sequence
from dataclasses import replace

from runbook_lib.adapters.postgres.brevity import RENAMING
from runbook_lib.adapters.postgres.catalog import Catalog
from runbook_lib.adapters.postgres.connection import Connection
from runbook_lib.adapters.postgres.locks import Blocker
from runbook_lib.adapters.postgres.removal import names, records
from runbook_lib.adapters.postgres.removal.dropping import Dropping
from runbook_lib.adapters.postgres.removal.locking import lock
from runbook_lib.adapters.postgres.removal.quarantine import Quarantine
from runbook_lib.adapters.postgres.removal.records import Record, Stage
from runbook_lib.adapters.postgres.removal.removal import Progress, Removal, State, Waiting
from runbook_lib.adapters.postgres.removal.snapshot import Snapshot
from runbook_lib.errors import PreconditionError, StepFailed

BLOCKS = 8192  # of the table, copied in a transaction: 64 MB
FEW = 200  # captured rows that may be left for the moment in which the table is locked
ROUNDS = 100  # of catching up, after which the application writes faster than this can follow


def set_aside(removal: Removal, catalog: Catalog, waiting: Waiting) -> None:
    """Rename the columns, take the migration out of its history and keep the record, in one transaction.

    Changes the target.

    Raises:
        PreconditionError: Something the plan names is missing, something hangs on it, or the locks were not to be had.
    """

    def work(connection: Connection) -> None:
        record = records.find(connection, removal.run)
        if record and record.stage is Stage.REMOVED:
            return
        lock(connection, removal.database, [])
        if record:
            Snapshot(removal.database, removal.run, record.definitions).discard(connection)
        found = removal.removable(connection, "quarantine")
        asides = names.aside(found.names, removal.run)
        Quarantine(removal.database, removal.run, found, asides).set_aside(connection)
        taken = removal.history.take(connection)
        records.keep(connection, removal.run, Record("quarantine", Stage.REMOVED, found, asides, taken, catalog, 0))

    with removal.connect() as connection, connection.transaction():
        records.prepare(connection)
    removal.briefly(work, waiting, _removed, RENAMING)


def copy(removal: Removal, catalog: Catalog, progress: Progress, waiting: Waiting) -> None:
    """Copy what the columns hold while others write, up to a few rows, and show that nothing is left out.

    Changes the target.

    Raises:
        PreconditionError: Something the plan names is missing, something hangs on it, or the locks were not to be had.
        StepFailed: The copy does not hold all that the columns do.
    """
    with removal.connect() as connection:
        record = records.find(connection, removal.run)
        begun = record is not None and Snapshot(removal.database, removal.run, record.definitions).captures(connection)
    if not begun:
        removal.briefly(lambda connection: _begin(removal, connection, catalog), waiting, _copying)
    with removal.unhurried() as connection:
        record = records.find(connection, removal.run)
        assert record
        snapshot = Snapshot(removal.database, removal.run, record.definitions)
        blocks = snapshot.blocks(connection)
        for first in range(record.copied, blocks, BLOCKS):
            end = min(first + BLOCKS, blocks)
            with connection.transaction():
                snapshot.copy_blocks(connection, first, end)
                records.keep(connection, removal.run, replace(record, copied=end))
            progress(end, blocks, "blocks of the table copied")
        with connection.transaction():
            snapshot.index_keys(connection)
        _keep_up(snapshot, connection)
        if not snapshot.agrees(connection):
            raise StepFailed(
                "The copy does not hold what the columns hold.",
                where=f"table {snapshot.copy.as_string()}",
                state="Nothing was removed; the copy and its trigger are there.",
                safe_next="Undo the step, which removes them; find out who wrote past the trigger; then run it again.",
            )


def drop(removal: Removal, waiting: Waiting) -> None:
    """Catch up with the last rows, then drop columns, constraints and indexes, and take the migration out of its history.

    All in one transaction with the record. Changes the target.

    Raises:
        PreconditionError: What was copied has been redefined since, or the locks were not to be had.
    """
    with removal.connect() as connection:
        record = records.find(connection, removal.run)
    assert record
    dropping = Dropping(removal.database, record.definitions)
    snapshot = Snapshot(removal.database, removal.run, record.definitions)

    def work(connection: Connection) -> None:
        lock(connection, removal.database, record.definitions.parents)
        if removal.removable(connection, "drop") != record.definitions or not snapshot.captures(connection):
            raise PreconditionError(
                "The columns, or the trigger that keeps their copy current, were changed since the copy was begun.",
                where=f"table {removal.database.schema_}.{removal.database.table}",
                state="Nothing was removed; the copy and its trigger are there.",
                safe_next="Undo the step, which removes them; then run it again.",
            )
        snapshot.catch_up_wholly(connection)
        snapshot.stop_capturing(connection)
        dropping.drop(connection, record.definitions.names)
        taken = removal.history.take(connection)
        records.keep(connection, removal.run, replace(record, stage=Stage.REMOVED, history=taken))

    def kept_up(blockers: Sequence[Blocker]) -> None:
        waiting(blockers)
        with removal.connect() as connection:
            _keep_up(snapshot, connection)

    with removal.connect() as connection:
        _keep_up(snapshot, connection)
    removal.briefly(work, kept_up, _removed)


def _begin(removal: Removal, connection: Connection, catalog: Catalog) -> None:
    records.prepare(connection)
    found = removal.removable(connection, "drop")
    Snapshot(removal.database, removal.run, found).begin(connection)
    records.keep(connection, removal.run, Record("drop", Stage.COPYING, found, {}, [], catalog, 0))


def _keep_up(snapshot: Snapshot, connection: Connection) -> None:
    for _ in range(ROUNDS):
        with connection.transaction():
            left = snapshot.catch_up(connection)
        if left <= FEW:
            return
    raise PreconditionError(
        "The application writes faster than its writes can be copied.",
        where=f"table {snapshot.table.as_string()}",
        state="Nothing was removed; the copy and its trigger are there.",
        safe_next="Stop the application; then run the step again: it goes on from here.",
    )


def _copying(state: State) -> bool:
    return state.stage is Stage.COPYING


def _removed(state: State) -> bool:
    return state.stage is Stage.REMOVED
