"""What a clearing goes by: the rows that were approved, what stood there before, and the indexes that nobody uses."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runbook_lib.adapters.postgres.backfill import Backfill, Bounds
from runbook_lib.adapters.postgres.clearing import approved, former
from runbook_lib.adapters.postgres.clearing.clearing import Clearing
from runbook_lib.adapters.postgres.clearing.indexes import Indexes
from runbook_lib.adapters.postgres.clearing.unused import unused
from runbook_lib.adapters.postgres.connection import Connection
from runbook_lib.errors import PreconditionError
from runbook_lib.steps import clear_preview, index_watch

if TYPE_CHECKING:
    from runbook_lib.steps.clear_backfill import ClearBackfill

TIMEOUT = 3600.0  # seconds for reading the backup


def unused_indexes(step: ClearBackfill, connection: Connection, clearing: Clearing) -> list[str]:
    """The indexes that batches may take away meanwhile: all where nobody else uses the table. Read-only."""
    indexes = Indexes(clearing.backfill)
    if step.stopped:
        return [index.name for index in indexes.present(connection)]
    if clearing.strategy != "batched":
        return []
    return unused(connection, indexes, clearing.told.cleared, index_watch.since(step.context, step.name))


def load_former(step: ClearBackfill, connection: Connection) -> None:
    """Note which rows held NULL before the backfill, where the plan has them hold it again. Changes the runbook's tables."""
    if step.backfill.database.backfill.cleared != "dump":
        return
    rows = step.context.scratch / "table-before"
    database = step.backfill.database
    step.context.dump_tools.rows_of(step.context.dump.path, database.schema_, database.table, rows, TIMEOUT)
    former.load(connection, step.backfill, rows)


def bounded(step: ClearBackfill, connection: Connection, previewed: approved.Keys | None) -> tuple[Backfill, int]:
    """What may be cleared: everything affected where that is just what was approved, else the approved rows alone.

    Changes the runbook's own tables.

    Raises:
        PreconditionError: The list of approved rows is gone.
    """
    agreed: str = step.context.approved_keys.get(step.name, "")
    if step.stopped and previewed and previewed.sha256 == agreed:
        return step.backfill, 0
    file = clear_preview.keys_file(step, agreed)
    if not file.exists():
        raise PreconditionError(
            "The list of approved rows is not in the run folder.",
            where=str(file),
            state="Nothing was changed by this attempt.",
            safe_next="Take a new preview and approve it.",
        )
    left_out = approved.load(connection, step.backfill, file)
    return step.backfill.bound(Bounds(step.backfill.bounds.decided, approved_only=True)), left_out
