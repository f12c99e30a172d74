"""Remove a feature's columns from a table, by quarantine (renaming) or by dropping; both can be undone."""

from runbook_lib.postgres.column_removal.records import HALF_BACK, Record, Stage
from runbook_lib.postgres.column_removal.removal import Removal, State

__all__ = ["HALF_BACK", "Record", "Removal", "Stage", "State"]
