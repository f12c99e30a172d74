"""Which rows of the cleared table are gone: those that this run's own backup holds and the table does not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from psycopg import sql

from runbook_lib.adapters.postgres.named import named
from runbook_lib.adapters.postgres.restore.fetch import FETCHED, fetched
from runbook_lib.adapters.postgres.restore.look import look
from runbook_lib.errors import RunbookError
from runbook_lib.steps.backup import path_of_backup

if TYPE_CHECKING:
    from runbook_lib.steps.clear_backfill import ClearBackfill


def gone(step: ClearBackfill) -> str:
    """A line that names the first of them; empty where there is no such backup or no such row.

    Reads the table's keys out of the backup, which takes as long as to unpack it. Changes nothing that outlasts its session.
    """
    path, database = path_of_backup(step.context), step.context.plan.database
    if not path.exists():
        return ""
    try:
        dump, tools = look(step.context.dump_tools, path), step.context.dump_tools
        with step.context.postgres.connect() as live:
            fetched(live, tools, dump, (database.schema_, database.table), [database.key], {}, lambda: None)
            rows = named(live, step.backfill.filled(sql.SQL(_GONE), fetched=FETCHED))
    except RunbookError as error:
        return f"which rows are gone could not be read out of {path.name}: {error.what}"
    return f"in this run's backup and not in the table: {rows}" if rows else ""


_GONE = "SELECT f.{key} AS key FROM {fetched} f WHERE NOT EXISTS (SELECT FROM {table} t WHERE t.{key} = f.{key})"
