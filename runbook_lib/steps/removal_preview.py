"""The previews of removing the feature's columns, and of purging their kept values."""

import hashlib
import json

from runbook_lib.context import Context
from runbook_lib.context.migration_files import companions
from runbook_lib.errors import AdapterError
from runbook_lib.postgres import Connection, dependents
from runbook_lib.postgres.catalog import catalog
from runbook_lib.postgres.column_removal import HALF_BACK, Record, Removal, Stage, definitions, previous_values
from runbook_lib.postgres.column_removal import definitions as locking
from runbook_lib.postgres.column_removal.definitions import Definitions
from runbook_lib.postgres.column_removal.previous_values import Snapshot, conflicting, conflicts_table, place
from runbook_lib.postgres.connection import identity
from runbook_lib.postgres.dependents import would_lack_columns
from runbook_lib.postgres.migration_history import History
from runbook_lib.postgres.text_settings import identifier
from runbook_lib.steps import Preview
from runbook_lib.system.processes import shown

KEPT_UNTIL = {"quarantine": "kept in the renamed column until you purge it", "drop": "kept in a copy until you purge it"}


def of_removal(context: Context, removal: Removal, step: str, mode: str) -> Preview:
    """Show what would be removed, what is lost, and what blocks it. Read-only.

    Raises:
        PreconditionError: The plan names something that does not exist.
    """
    spec, database = context.plan.steps[step], context.plan.database
    with removal.unhurried() as connection:
        state = removal.state(connection)
        gone = state.stage in (Stage.REMOVED, Stage.PURGED) or removal.is_gone(connection)
        found = definitions.read(connection, database)
        if not gone and state.stage not in HALF_BACK:
            removal.require_named(connection, found)
        hidden = dependents.hides_rows(connection, database)  # a hidden row must not count as no row
        lost = {} if hidden else previous_values.counts(connection, identifier(database), found.columns)
        would = ["nothing: the columns no longer exist"] if gone else _would(context, removal, connection, found, mode)
        undone_by = _undone_by(removal, connection, mode)
    with context.adapters.postgres.connect() as connection:
        here, shape = identity(connection), catalog(connection)
        loses = [
            f"{_lost(context, connection, name, number)}; {KEPT_UNTIL[mode]}" for name, number in lost.items() if number
        ]
    return Preview(
        step,
        spec.title,
        would=would,
        loses=loses,
        locks="none" if gone else locking.described(database, found.parents, mode, removal.history),
        undone_by=undone_by,
        estimate=spec.estimate,
        facts={
            "server": here.system,
            "database": here.database,
            "catalog": hashlib.sha256(json.dumps(shape, sort_keys=True).encode()).hexdigest(),
            "mode": mode,
        },
        volumes={f"values of {name}": number for name, number in lost.items()},
    )


def of_purge(context: Context, removal: Removal, step: str, record: Record | None) -> Preview:
    """Show which kept values a purge would destroy, counted by column. Read-only."""
    database = context.plan.database
    would, lost, locks = ["nothing: no values are kept any more"], dict[str, int](), "none"
    if record and record.stage is Stage.REMOVED:
        columns, asides = record.definitions.columns, record.asides
        copy = Snapshot(database, removal.run, record.definitions).copy
        with removal.unhurried() as connection:
            if asides:
                lost = previous_values.counts(connection, identifier(database), columns, asides)
                would = [f"drop {', '.join(asides.values())} of {database.table}, and the plan's constraints and indexes"]
                hanging = dependents.dependents(connection, database, list(asides.values()), removal.run)
                would += [f"STOPPED by: {line}" for line in hanging]
                locks = locking.described(database, record.definitions.parents, "purge", removal.history)
            else:
                places = {column.name: place(number) for number, column in enumerate(columns)}
                lost = previous_values.counts(connection, copy, columns, places)
                would = [f"drop the table {copy.as_string()}, the copy of the dropped columns"]
    volumes = {f"values of {name}": number for name, number in lost.items()}
    return _irreversible(context, step, would, volumes, locks)


def of_purge_of_conflicts(context: Context, removal: Removal, step: str) -> Preview:
    """Show which values would be destroyed that the undo did not restore. Read-only."""
    with removal.connect() as connection:
        rows, _ = conflicting(connection, removal.run)
    would = [f"drop the table {conflicts_table(removal.run).as_string()}, the values that the undo did not restore"]
    return _irreversible(context, step, would, {"rows of previous values": rows}, "none")


def _irreversible(context: Context, step: str, would: list[str], volumes: dict[str, int], locks: str) -> Preview:
    spec = context.plan.steps[step]
    return Preview(
        step,
        f"{spec.title}: purge their kept values",
        would=would,
        loses=[f"{number} {name}, permanently" for name, number in volumes.items()],
        locks=locks,
        undone_by="nothing; afterwards only backups have the values",
        irreversible=True,
        estimate=spec.estimate,
        volumes=volumes,
    )


def _would(context: Context, removal: Removal, connection: Connection, found: Definitions, mode: str) -> list[str]:
    database = removal.database
    table = database.table
    things = [f"the index {index.name}" for index in found.indexes]
    things += [f"the constraint {c.name}" for c in found.constraints if c.name in database.constraints]
    if mode == "quarantine":
        asides = definitions.quarantine_name(found.names, removal.run)
        dropped = [f"NOT NULL of {column.name}" for column in found.columns if column.not_null]
        dropped += [f"the check {c.name}" for c in found.constraints if c.kind == "c"]
        lines = [f"rename the column {name} of {table} to {other}" for name, other in asides.items()]
        lines += [f"drop {', '.join(dropped)}, which would refuse new rows; undo adds them again"] if dropped else []
        lines += [f"leave {', '.join(things)} on the renamed columns"] if things else []
    else:
        copy = Snapshot(database, removal.run, found).copy.as_string()
        lines = [
            f"copy {', '.join(found.names)} of {table} to {copy}",
            f"drop the columns {', '.join(found.names)} and {', '.join(things)}, in one ALTER",
        ]
    lines += _of_history(context, removal.history, connection) if removal.history else []
    lines.append("(no need to clear the backfilled entries first: they go with their column)")
    lines += [f"STOPPED by: {line}" for line in removal.in_the_way(connection, mode, found)]
    lines += [f"RISK: {line}" for line in dependents.risks(connection, database, found.names)]
    if mode == "quarantine":
        lines += [f"RENAMING IS SEEN BY SUBSCRIBERS: {line}" for line in would_lack_columns(connection, database)]
    return lines


def _of_history(context: Context, history: History, connection: Connection) -> list[str]:
    """Return what happens to the migrations' rows and files, and to their shared files, a line each."""
    migration = history.migration
    first, *others = history.would(connection)
    lines = [f"{first}; its file goes with the code", *others]
    if migration.validator and not migration.validation:
        lines.append(f"`{shown(migration.validator)}` is not run afterwards; set `validate: true` in the plan to run it")
    try:
        found = companions(migration, context.checkout(migration.repository).files("."))
    except AdapterError as error:
        return [*lines, f"UNKNOWN which files all migrations share: {error.what}"]
    return lines + [f"{file} {GOES[companion.follows]}: {companion.because}" for file, companion in found.items()]


GOES = {
    "migration": "goes with the migration's file",
    "code": "goes with the code",
    "nothing": "stays as it is",
}


def _undone_by(removal: Removal, connection: Connection, mode: str) -> str:
    if mode == "quarantine":
        return "renaming the columns back; rows inserted in between hold the columns' defaults"
    triggers = dependents.update_triggers(connection, removal.database, removal.run)
    return (
        "adding the columns again, with their values from the copy; rows inserted in between hold the defaults. RISK: the "
        "columns come back as the last ones, so an INSERT or COPY without a list of columns, and SELECT *, see a new order"
        + (f". RISK: it fires the triggers {', '.join(triggers)} for each row that gets a value back" if triggers else "")
    )


def _lost(context: Context, connection: Connection, name: str, number: int) -> str:
    if "backfill" not in context.plan.parts or name != context.plan.database.backfill.name:
        return f"{number} values of {name}, which users entered and no backfill can restore"
    kinds = {row["kind"]: row["rows"] for row in context.statistics(connection).kinds(connection)}
    own = sum(rows for kind, rows in kinds.items() if kind not in ("null", "empty", "backfilled"))
    return f"{number} values of {name}, of which {own} hold users' input that the backfill did not write"
