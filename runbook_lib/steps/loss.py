"""What going back to a backup would lose: counted, kept in the run folder, and shown."""

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
    Kind.FEATURE: "rows that differ in the feature's own columns alone, by what users put there",
    Kind.BACKFILLED: "rows that differ in the feature's own columns alone, by what the backfill wrote",
    Kind.TOUCHED: "rows that differ in the time of their last change alone",
}


def staging_state_of(context: Context) -> staging_database.StagingState:
    """Which databases of the run there are. Read-only."""
    with context.adapters.postgres.connect(MAINTENANCE) as maintenance:
        return staging_database.staging_state(maintenance, context.adapters.postgres.database, context.adapters.postgres.run)


def count(context: Context, live: str, backup: str, watch: Watch = UNWATCHED) -> Ledger:
    """Compare two databases, each by its name. Read-only."""
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
    """What tells of each table that a step is done with, and has it heed what is wanted within one too."""
    done = itertools.count(1)
    return Watch(lambda table: control.part(next(done), 0, f"{doing}: {table}", "tables"), control.heed, control.must_pause)


def keep(context: Context, counted: Ledger, seconds: float) -> None:
    """Keep a ledger as the one that the next preview shows, and how long it took. Changes the run folder only."""
    checked, at = checksum(context, context.dump.path), datetime.now(UTC).isoformat()
    context.folder.write_json(LEDGER, {"sha256": checked, "at": at, "seconds": seconds, "ledger": counted.as_json()})
    rows = [[t.table, t.live, t.backup, *(t.counts.get(kind, 0) for kind in Kind), t.unknown] for t in counted.tables]
    columns = ["table", "live", "backup", *(str(kind) for kind in Kind), "not known"]
    context.folder.write_json(TABLE, {"columns": columns, "index": list(range(len(rows))), "data": rows})
    context.reporter.append(
        "evidence", title="Rows in which the live database and the backup differ", file=TABLE, kind="table"
    )


def ledger(context: Context) -> Ledger | None:
    """The loss as kept last, from the backup that the run goes by; None where there is none. Read-only."""
    kept = context.folder.read_json(LEDGER)
    if kept is None or kept["sha256"] != checksum(context, context.dump.path):
        return None
    return Ledger.from_json(kept["ledger"])


def seconds_compared(context: Context) -> float:
    """How long the ledger took that is kept, infinity where that is not known. Read-only."""
    return float((context.folder.read_json(LEDGER) or {}).get("seconds", inf))


def numbers(counted: Ledger, without: Collection[Kind] = ()) -> dict[str, int]:
    """The differences in numbers, each with what it counts, but for some kinds of row: what an approval binds. Pure."""
    found = {
        f"{table.table}: {MEANS[kind]}": rows
        for table in counted.tables
        for kind, rows in table.counts.items()
        if rows and kind not in without
    }
    for table in counted.untold:
        found[f"{table.table}: rows more or fewer (it has no key to tell which)"] = table.live - table.backup
    for name, lost in counted.tables_only_in_live.items():
        found[f"{name}: rows of a table that the backup lacks"] = lost or 0
    if counted.large_objects.differs:
        found["large objects more or fewer"] = counted.large_objects.live - counted.large_objects.backup
    return found


def unknown(context: Context, counted: Ledger | None) -> dict[str, str]:
    """What of the loss is not known and may not be left so: what, and why. Pure."""
    if counted is None:
        return {"the loss": "not counted"}
    spec = restores(context)
    return {} if spec and context.state.choices.get("ON_UNCOUNTABLE", spec.on_uncountable) == "lose" else counted.unknown


def beyond(approved: Mapping[str, int], actual: Mapping[str, int], tolerance: float, *, less: bool = False) -> list[str]:
    """Where the loss is another than was approved, by more than a share of `tolerance`, a line each. Pure.

    `less` says whether it may be smaller.
    """
    return [
        f"{name}: {actual.get(name, 0)}, approved {approved.get(name, 0)}"
        for name in {**approved, **actual}
        if abs(actual.get(name, 0) - approved.get(name, 0)) > tolerance * abs(approved.get(name, 0))
        and not (less and 0 <= actual.get(name, 0) < approved.get(name, 0))
    ]


def approved_checksum(context: Context, step: str) -> str:
    """The SHA-256 of the backup, which must be the one that was approved for a step. Read-only.

    Raises:
        PreconditionError: It is another.
    """
    path = context.dump.path
    found = checksum(context, path)
    if found != context.state.approved_facts(step)["sha256"]:
        raise PreconditionError(
            f"The backup {path.name} is not the file that was approved: its SHA-256 is another.",
            where=str(path),
            state="Nothing was restored from it.",
            safe_next="Find out who changed it; then preview again, and approve that.",
        )
    return found


def checksum(context: Context, path: Path) -> str:
    """The SHA-256 of a file, computed once a process as long as the file stays what it is. Read-only."""
    stat = path.stat()
    key = f"sha256 {path} {stat.st_size} {stat.st_mtime_ns}"
    if key not in context.adapters.prepared:
        context.adapters.prepared[key] = sha256(path)
    return str(context.adapters.prepared[key])


FOLDER = "salvage"  # of the run's folder: the export
FORETOLD = "evidence/loss-foretold.json"  # the last comparison, and what was carried over


def salvage(context: Context, live: str, restored: str) -> Salvage:
    """What carries rows from one database of the run into another."""
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
    """The differences behind the fence; where rows are to be carried, each is laid next to the restored tables.

    What an earlier try laid there is laid again, since more may have been written; what it carried no longer differs.
    Changes the restored database, in the runbook's schema alone.
    """
    salvaging = salvage(context, live, restored)
    salvaging.start_over()
    return salvaging.stage(watch) if carry else count(context, live, restored, watch)


def applied_before(context: Context, live: str, restored: str) -> bool:
    """Whether a try that was cut short carried rows over, which are no difference any more. Read-only."""
    outcome = salvage(context, live, restored).outcome()
    return outcome is not None and bool(outcome.earlier)


def applied(context: Context, live: str, restored: str, between: Between, look: Callable[[], object]) -> Outcome:
    """Carry the rows that were laid aside; `between` gets each part, and `look` asked within one.

    Changes the restored database.
    """
    return salvage(context, live, restored).carry(between=between, look=look)


def predict(context: Context, final: Ledger, over: Outcome | None) -> None:
    """Keep what the swap should come to, before it is made. Changes the run folder only."""
    (context.folder.path / FOLDER / MANIFEST).unlink(missing_ok=True)  # of a swap that was undone
    carried_over = over.as_json()["carried"] if over else {}
    context.folder.write_json(FORETOLD, {"ledger": final.as_json(), "carried": carried_over})


def predicted(context: Context) -> Ledger:
    """What should be left of the differences after the swap. Read-only."""
    kept = context.folder.read_json(FORETOLD)
    over = {table: {Kind(kind): n for kind, n in each.items()} for table, each in kept["carried"].items()}
    return Ledger.from_json(kept["ledger"]).after(over)


def is_exported(context: Context) -> bool:
    """Whether what may not have been carried over lies in the run folder. Read-only."""
    kept = context.folder.read_json(FORETOLD)
    lost = kept is None or numbers(Ledger.from_json(kept["ledger"]), (Kind.BACKFILLED, Kind.TOUCHED))
    return not lost or (context.folder.path / FOLDER / MANIFEST).exists()


def exported(context: Context, old: str, live: str, watch: Watch, *, carry: bool) -> dict[str, str]:
    """Write what was not carried from the old database into the run folder, with the command that puts it back later.

    Reads the old database; changes the live one in the runbook's schema alone.
    """
    salvaging = salvage(context, old, live)
    if not carry:
        salvaging.stage(watch)
    export = salvaging.export(context.folder.path / FOLDER, watch)
    if not carry:
        salvaging.forget()
    return {"exported": FOLDER, "put back by": export.command}
