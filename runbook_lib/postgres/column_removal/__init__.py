"""Takes a feature's columns out of a table, by setting them aside or by dropping them, in a way that can be put back."""

from runbook_lib.postgres.column_removal.records import HALF_BACK, Record, Stage
from runbook_lib.postgres.column_removal.removal import Removal, State

__all__ = ["HALF_BACK", "Record", "Removal", "Stage", "State"]
