"""What was written since the backup: compared behind the fence, carried over by choice, and exported where it was not."""

from collections.abc import Callable

from runbook_lib.adapters.postgres.restore.carry import Between
from runbook_lib.adapters.postgres.restore.classes import Kind
from runbook_lib.adapters.postgres.restore.diff import Watch
from runbook_lib.adapters.postgres.restore.export import MANIFEST
from runbook_lib.adapters.postgres.restore.ledger import Ledger
from runbook_lib.adapters.postgres.restore.outcome import Outcome
from runbook_lib.adapters.postgres.restore.salvage import Salvage
from runbook_lib.context import Context
from runbook_lib.steps.loss import count, numbers

FOLDER = "salvage"  # of the run's folder: the export
FORETOLD = "evidence/loss-foretold.json"  # the last comparison, and what was carried over


def salvage(context: Context, live: str, restored: str) -> Salvage:
    """What carries rows from one database of the run into another."""
    postgres = context.postgres
    return Salvage(lambda: postgres.connect(live), lambda: postgres.connect(restored), context.plan.database, context.run)


def compared(context: Context, live: str, restored: str, watch: Watch, *, carry: bool) -> Ledger:
    """The differences behind the fence; where rows are to be carried, each is laid beside the restored tables.

    What an earlier try laid there is laid anew, since more may have been written; what it carried is no difference any more.
    Changes the restored database, in the runbook's schema alone.
    """
    salvaging = salvage(context, live, restored)
    salvaging.anew()
    return salvaging.stage(watch) if carry else count(context, live, restored, watch)


def carried_before(context: Context, live: str, restored: str) -> bool:
    """Whether a try that was cut short carried rows over, which are no difference any more. Read-only."""
    outcome = salvage(context, live, restored).outcome()
    return outcome is not None and bool(outcome.earlier)


def carried(context: Context, live: str, restored: str, between: Between, look: Callable[[], object]) -> Outcome:
    """Carry the rows that were laid aside; `between` is told each part, and `look` asked within one.

    Changes the restored database.
    """
    return salvage(context, live, restored).carry(between=between, look=look)


def foretell(context: Context, final: Ledger, over: Outcome | None) -> None:
    """Keep what the swap should come to, before it is made. Changes the run folder only."""
    (context.folder.path / FOLDER / MANIFEST).unlink(missing_ok=True)  # of a swap that was undone
    carried_over = over.as_json()["carried"] if over else {}
    context.folder.write_json(FORETOLD, {"ledger": final.as_json(), "carried": carried_over})


def foretold(context: Context) -> Ledger:
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
