"""Keeps in the run folder since when nobody has scanned the indexes on the cleared column, from the preview on."""

from dataclasses import asdict

from runbook_lib.adapters.postgres.clearing.indexes import Indexes
from runbook_lib.adapters.postgres.clearing.unused import Reading, reading
from runbook_lib.adapters.postgres.connection import Connection
from runbook_lib.context import Context


def begin(context: Context, step: str, connection: Connection, indexes: Indexes) -> None:
    """Keep how often they have been scanned, and journal it; a reading that is as they still are stands. Read-only."""
    known, now = since(context, step), reading(connection, indexes)
    if known and known.scans == now.scans:
        return
    context.folder.write_json(_file(step), asdict(now))
    context.report("index-scans", step=step, at=now.at, scans=now.scans)


def since(context: Context, step: str) -> Reading | None:
    """The reading that the preview left, if any. Read-only."""
    kept = context.folder.read_json(_file(step))
    return Reading(**kept) if kept else None


def _file(step: str) -> str:
    return f"evidence/index-scans-{step}.json"
