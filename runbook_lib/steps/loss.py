"""The loss of a return to a backup: counted, kept in the run folder, and shown."""

import itertools
from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime
from math import inf
from pathlib import Path

from runbook_lib.checks.restorable import restores
from runbook_lib.context import Context
from runbook_lib.errors import PreconditionError
from runbook_lib.journal.control import Control
from runbook_lib.postgres.connection import MAINTENANCE
from runbook_lib.postgres.dump import sha256
from runbook_lib.postgres.restore import staging_database
from runbook_lib.postgres.restore.applier import Between
from runbook_lib.postgres.restore.diff import UNWATCHED, Ledger, Watch, diff
from runbook_lib.postgres.restore.difference_kinds import Kind
from runbook_lib.postgres.restore.export import MANIFEST, Outcome
from runbook_lib.postgres.restore.salvage import Salvage

LEDGER = "evidence/loss-ledger.json"
TABLE = "evidence/loss.json"
MEANS = {
    Kind.NEW: "rows written since the backup",
    Kind.DELETED: "rows deleted since the backup, which come back",
    Kind.CHANGED: "rows changed since the backup, which become what they were",
    Kind.FEATURE: "rows that differ only in the feature's own columns, in values by users",
    Kind.BACKFILLED: "rows that differ only in the feature's own columns, in values by the backfill",
    Kind.TOUCHED: "rows that differ only in the time of their last change",
}


def staging_state_of(context: Context) -> staging_database.StagingState:
    """Return which databases of the run exist. Read-only."""
    with context.adapters.postgres.connect(MAINTENANCE) as maintenance:
        return staging_database.staging_state(maintenance, context.adapters.postgres.database, context.adapters.postgres.run)


def count(context: Context, live: str, backup: str, watch: Watch = UNWATCHED) -> Ledger:
    """Compare two databases, given by name, and count the loss. Read-only."""
    postgres = context.adapters.postgres
    return diff(
        lambda: postgres.connect(live),
        lambda: postgres.connect(backup),
        context.plan.database,
        context.plan.history_tables,
        watch,
        context.folder.short,
    )


def watching(control: Control, doing: str) -> Watch:
    """Return a watch that reports each finished table, and lets the step pause or abort within a table too."""
    done = itertools.count(1)
    return Watch(lambda table: control.part(next(done), 0, f"{doing}: {table}", "tables"), control.heed, control.must_pause)


def keep(context: Context, counted: Ledger, seconds: float) -> None:
    """Keep a ledger and its duration for the next preview. Changes the run folder only."""
    checked, at = checksum(context, context.dump.path), datetime.now(UTC).isoformat()
    context.folder.write_json(LEDGER, {"sha256": checked, "at": at, "seconds": seconds, "ledger": counted.as_json()})
    rows = [[t.table, t.live, t.backup, *(t.counts.get(kind, 0) for kind in Kind), t.unknown] for t in counted.tables]
    columns = ["table", "live", "backup", *(str(kind) for kind in Kind), "not known"]
    context.folder.write_json(TABLE, {"columns": columns, "index": list(range(len(rows))), "data": rows})
    context.reporter.append(
        "evidence", title="Rows in which the live database and the backup differ", file=TABLE, kind="table"
    )


def ledger(context: Context) -> Ledger | None:
    """Return the last kept ledger, if it is of the run's backup; else None. Read-only."""
    kept = context.folder.read_json(LEDGER)
    if kept is None or kept["sha256"] != checksum(context, context.dump.path):
        return None
    return Ledger.from_json(kept["ledger"])


def seconds_compared(context: Context) -> float:
    """Return how long the kept ledger took, infinity if that is unknown. Read-only."""
    return float((context.folder.read_json(LEDGER) or {}).get("seconds", inf))


def numbers(counted: Ledger, without: Collection[Kind] = ()) -> dict[str, int]:
    """Return the counts that an approval binds, each with a label, without some kinds of row. Pure."""
    found = {
        f"{table.table}: {MEANS[kind]}": rows
        for table in counted.tables
        for kind, rows in table.counts.items()
        if rows and kind not in without
    }
    for table in counted.untold:
        found[f"{table.table}: rows more or fewer (it has no key to identify them)"] = table.live - table.backup
    for name, lost in counted.tables_only_in_live.items():
        found[f"{name}: rows of a table that the backup lacks"] = lost or 0
    if counted.large_objects.differs:
        found["large objects more or fewer"] = counted.large_objects.live - counted.large_objects.backup
    return found


def unknown(context: Context, counted: Ledger | None) -> dict[str, str]:
    """Return the unknown parts of the loss that nobody has accepted: part -> reason. Pure."""
    if counted is None:
        return {"the loss": "not counted"}
    spec = restores(context)
    return {} if spec and context.state.choices.get("ON_UNCOUNTABLE", spec.on_uncountable) == "lose" else counted.unknown


def beyond(approved: Mapping[str, int], actual: Mapping[str, int], tolerance: float, *, less: bool = False) -> list[str]:
    """Return where the loss differs from the approved one by more than a share of `tolerance`, a line each. Pure.

    `less`: whether it may be smaller.
    """
    return [
        f"{name}: {actual.get(name, 0)}, approved {approved.get(name, 0)}"
        for name in {**approved, **actual}
        if abs(actual.get(name, 0) - approved.get(name, 0)) > tolerance * abs(approved.get(name, 0))
        and not (less and 0 <= actual.get(name, 0) < approved.get(name, 0))
    ]


def approved_checksum(context: Context, step: str) -> str:
    """Return the SHA-256 of the backup, which must be the one approved for a step. Read-only.

    Raises:
        PreconditionError: It differs.
    """
    path = context.dump.path
    found = checksum(context, path)
    if found != context.state.approved_facts(step)["sha256"]:
        raise PreconditionError(
            f"The backup {path.name} is not the file that was approved: its SHA-256 differs.",
            where=str(path),
            state="Nothing was restored from it.",
            safe_next="Find out who changed it; then preview again, and approve that.",
        )
    return found


def checksum(context: Context, path: Path) -> str:
    """Return the SHA-256 of a file, computed once per process while its size and time stay the same. Read-only."""
    stat = path.stat()
    key = f"sha256 {path} {stat.st_size} {stat.st_mtime_ns}"
    if key not in context.adapters.prepared:
        context.adapters.prepared[key] = sha256(path)
    return str(context.adapters.prepared[key])


FOLDER = "salvage"  # the export's folder in the run folder
FORETOLD = "evidence/loss-foretold.json"  # the last comparison, and the rows carried over


def salvage(context: Context, live: str, restored: str) -> Salvage:
    """Return the carrier of rows from one database of the run into another."""
    postgres = context.adapters.postgres
    plan = context.plan
    return Salvage(
        lambda: postgres.connect(live),
        lambda: postgres.connect(restored),
        plan.database,
        plan.history_tables,
        context.folder.short,
    )


def compared(context: Context, live: str, restored: str, watch: Watch, *, carry: bool) -> Ledger:
    """Compare behind the fence; to carry rows, copy each next to the restored tables.

    Rows that an earlier try copied are copied again, since more may have been written; carried rows no longer differ.
    Changes only the runbook's schema in the restored database.
    """
    salvaging = salvage(context, live, restored)
    salvaging.start_over()
    return salvaging.stage(watch) if carry else count(context, live, restored, watch)


def applied_before(context: Context, live: str, restored: str) -> bool:
    """Report whether an interrupted try carried rows over, which no longer differ. Read-only."""
    outcome = salvage(context, live, restored).outcome()
    return outcome is not None and bool(outcome.earlier)


def applied(context: Context, live: str, restored: str, between: Between, look: Callable[[], object]) -> Outcome:
    """Carry the staged rows; calls `between` with each part, and `look` within one.

    Changes the restored database.
    """
    return salvage(context, live, restored).carry(between=between, look=look)


def predict(context: Context, final: Ledger, over: Outcome | None) -> None:
    """Keep the expected result of the swap before it is made. Changes the run folder only."""
    (context.folder.path / FOLDER / MANIFEST).unlink(missing_ok=True)  # of a swap that was undone
    carried_over = over.as_json()["carried"] if over else {}
    context.folder.write_json(FORETOLD, {"ledger": final.as_json(), "carried": carried_over})


def predicted(context: Context) -> Ledger:
    """Return the expected differences after the swap. Read-only."""
    kept = context.folder.read_json(FORETOLD)
    over = {table: {Kind(kind): n for kind, n in each.items()} for table, each in kept["carried"].items()}
    return Ledger.from_json(kept["ledger"]).after(over)


def is_exported(context: Context) -> bool:
    """Report whether the rows that were not carried over are exported to the run folder. Read-only."""
    kept = context.folder.read_json(FORETOLD)
    lost = kept is None or numbers(Ledger.from_json(kept["ledger"]), (Kind.BACKFILLED, Kind.TOUCHED))
    return not lost or (context.folder.path / FOLDER / MANIFEST).exists()


def exported(context: Context, old: str, live: str, watch: Watch, *, carry: bool) -> dict[str, str]:
    """Export the rows that were not carried over to the run folder, with the command that restores them later.

    Reads the old database; changes only the runbook's schema in the live one.
    """
    salvaging = salvage(context, old, live)
    if not carry:
        salvaging.stage(watch)
    export = salvaging.export(context.folder.path / FOLDER, watch)
    if not carry:
        salvaging.forget()
    return {"exported": FOLDER, "put back by": export.command}
