"""The prerequisites of restoring a backup to a staging database and swapping it with the live one."""

import shutil
from collections.abc import Callable
from pathlib import Path

from runbook_lib.config.plan import RestoringStep
from runbook_lib.context import Context
from runbook_lib.postgres import Connection
from runbook_lib.postgres.catalog import database_size, old_template
from runbook_lib.postgres.connection import identity
from runbook_lib.postgres.restore import dump_inspector
from runbook_lib.postgres.restore.dump_needs import LEAVABLE, Section, Unmet, left_out, sections, unmet
from runbook_lib.postgres.restore.fetch import sampled
from runbook_lib.postgres.restore.staging_database import counts, tables
from runbook_lib.results import Found, Status

LEAVE = " (to restore without that, choose NOT_HERE=leave_out)"
LOSE = " (to go back without it, choose MISSING_TABLES=lose)"
SAME = "same-database"  # the name that waives it
GRANT = "GRANT CREATE ON SCHEMA … TO …"
ALIKE = 0.5  # share of sampled rows from which on a dump counts as one of the live database
ROOM = 1.2  # the restored database may be as large as the live one; a fifth is kept free


def restores(context: Context) -> RestoringStep | None:
    """Return the step that restores a backup, if the run's type and option have one."""
    return next((spec for spec in context.specs.values() if isinstance(spec, RestoringStep)), None)


def missing_tables(context: Context, connection: Connection) -> dict[str, int]:
    """Return the live tables with rows that are not in the backup, with their row counts. Read-only."""
    there = context.dump.contents.tables_with_data
    absent = [name for name in tables(connection) if ".".join(name) not in there]
    return {name: rows for name, rows in counts(connection, absent).items() if rows}


def _dump(context: Context) -> Found:
    dump, database = context.dump, context.plan.database
    with context.adapters.postgres.connect() as connection:
        here = identity(connection)
        missing = missing_tables(context, connection)
        _, lacking = what_is_left_out(context, connection)
    of_feature = dump.columns_of_feature(database)
    kept = dump.columns.get(f"{database.schema_}.{database.table}", {})
    spec = restores(context)
    lost = context.state.choices.get("MISSING_TABLES", spec.missing_tables if spec else "refuse") == "lose"
    problems = [
        *(f"it lacks the column {name}" for name in [database.key, *database.kept_columns] if name not in kept),
        *(f"it lacks the table {name}, which has {rows} rows now{LOSE}" for name, rows in missing.items() if not lost),
        *(f"{each}{_leave(each)}" for each in lacking),
    ]
    if 0 < len(of_feature) < len(database.columns):
        problems.append(f"of the feature's columns it has only {', '.join(of_feature)}")
    server = here.server_version // 10000
    if dump.contents.server and dump.contents.server > server:
        problems.append(f"it is from PostgreSQL {dump.contents.server}, newer than this server's {server}")
    columns = "with the feature's columns" if of_feature else "without the feature's columns"
    facts = f"{dump.path.name}, made {dump.made:%Y-%m-%d %H:%M} UTC from database {dump.contents.database}, {columns}"
    if problems:
        worst = Status.UNKNOWN if len(problems) == len(lacking) and all(each.unknown for each in lacking) else Status.FAIL
        return worst, f"{facts}: {'; '.join(problems)}"
    return Status.PASS, facts


def what_is_left_out(context: Context, connection: Connection) -> tuple[list[Section], list[Unmet]]:
    """Return the backup's entries that are left out by choice, and what the server lacks for others. Read-only."""
    entries, spec = sections(context.dump.contents.sql), restores(context)
    lacks = unmet(connection, entries)
    chosen = context.state.choices.get("NOT_HERE", spec.not_here if spec else "refuse")
    return left_out(entries, lacks) if chosen == "leave_out" else ([], lacks)


def _leave(lack: Unmet) -> str:
    return LEAVE if all(entry.kind in LEAVABLE for entry in lack.entries) and not lack.unknown else ""


def _same(context: Context) -> Found:
    dump, live = context.dump, context.adapters.postgres.database
    with context.adapters.postgres.connect() as connection:
        table = context.plan.database if context.plan.database_ else None
        sample = sampled(context.adapters.dump_tools, dump, connection, table, context.plan.history_tables)
    facts = (
        f"{dump.path.name} is of the database {dump.contents.database}; of {sample.rows} sampled rows of {sample.table} the "
        f"live database has {sample.found} keys, {sample.same} with the same values"
    )
    doubts = [
        *([f"the live database is {live}"] if dump.contents.database != live else []),
        *(["too few rows agree to identify it as the same database"] if sample.share < ALIKE else []),
    ]
    return (Status.UNKNOWN if doubts else Status.PASS), "; ".join([facts, *doubts])


def _rights(context: Context) -> Found:
    with context.adapters.postgres.connect() as connection:
        may = dump_inspector.rights(connection)
        without = {each.number for each in what_is_left_out(context, connection)[0]}
        entries = [each for each in sections(context.dump.contents.sql) if each.number not in without]
        owners = dump_inspector.owners_not_ours(
            connection, sorted({each.owner for each in entries if each.owner and each.kind not in LEAVABLE})
        )
        tables = dump_inspector.tables_of_others(connection)
        settings = dump_inspector.settings_out_of_hand(connection)
        kept_out = dump_inspector.owners_kept_out(connection)
        template = old_template(connection)
    problems = [
        *(f"it may not {right}" for right, held in may.items() if not held),
        *(f"the backup names the owner {name}, and our role is not a member of it" for name in owners),
        *(f"our role is not a member of the owner of {name}" for name in tables),
        *(f"{owner} may not create, so its objects cannot be restored with that owner: {GRANT}" for owner in kept_out),
        *(f"our role may not set the database's {name}" for name in settings),
        *(f"no database can be created: {line}" for line in template),
    ]
    return (Status.FAIL, "; ".join(problems)) if problems else (Status.PASS, "it may")


def room_for(context: Context, databases: int, size: int | None = None) -> Found:
    """Check that the server has room for so many databases of a size, by default the live one's. Read-only."""
    with context.adapters.postgres.connect() as connection:
        place = dump_inspector.directory(connection)
        needed = (size or database_size(connection)) * databases * ROOM
    directory = Path(place or "-")
    if not directory.is_dir():
        return Status.UNKNOWN, f"the server's disk cannot be seen from here; the restore may take {_gb(needed)}"
    free = shutil.disk_usage(directory).free
    return (Status.PASS if free > needed else Status.FAIL), f"{_gb(free)} free on the server, {_gb(needed)} needed"


def _room(context: Context) -> Found:
    return room_for(context, 2 if context.plan.draft_ else 1)  # the second is the copy on which the migrations run


def _ties(context: Context) -> Found:
    with context.adapters.postgres.connect() as connection:
        found = dump_inspector.ties(connection)
    if found:
        return Status.FAIL, f"these stay with the old database when it is renamed: {'; '.join(found)}"
    return Status.PASS, "no replication slot, subscription or prepared transaction depends on it"


def _gb(size: float) -> str:
    return f"{size / 1e9:.2f} GB"


RESTORABLE: dict[str, tuple[str, Callable[[Context], Found]]] = {  # name -> title, look
    "restorable-backup": ("The backup covers the live database, and can be restored here", _dump),
    SAME: ("The backup is of this database", _same),
    "restore-rights": ("Our role may restore a database and rename both", _rights),
    "server-disk": ("The server has room for the restored database", _room),
    "ties": ("No object of the live database would stay behind when it is renamed", _ties),
}
