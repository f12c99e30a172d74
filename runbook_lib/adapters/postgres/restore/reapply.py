"""Puts rows that a salvage exported back into a database, later."""

from pathlib import Path

from runbook_lib.adapters.postgres.locks import Open
from runbook_lib.adapters.postgres.restore.salvage import Outcome


def reapply(database: Open, folder: Path) -> Outcome:
    """Carry the rows of an export into a database; what is in their way is listed, never overwritten. Changes the target."""
    raise NotImplementedError
