"""Keeps in the run folder since when nobody has scanned the indexes on the cleared column, from the preview on."""

import json
import os
from dataclasses import asdict
from pathlib import Path

from runbook_lib.adapters.postgres.clearing.indexes import Indexes
from runbook_lib.adapters.postgres.clearing.unused import Reading, reading
from runbook_lib.adapters.postgres.connection import Connection
from runbook_lib.context import Context


def begin(context: Context, step: str, connection: Connection, indexes: Indexes) -> None:
    """Keep how often they have been scanned, and journal it; a reading that is as they still are stands. Read-only."""
    known, now = since(context, step), reading(connection, indexes)
    if known and known.scans == now.scans:
        return
    path = _file(context, step)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(json.dumps(asdict(now)))
    os.replace(temporary, path)
    context.report("index-scans", step=step, at=now.at, scans=now.scans)


def since(context: Context, step: str) -> Reading | None:
    """The reading that the preview left, if any. Read-only."""
    path = _file(context, step)
    return Reading(**json.loads(path.read_text())) if path.exists() else None


def _file(context: Context, step: str) -> Path:
    return context.folder.path / "evidence" / f"index-scans-{step}.json"
