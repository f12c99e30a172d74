"""Takes a feature's columns out of a table, by setting them aside or by dropping them, in a way that can be put back."""

from runbook_lib.adapters.postgres.removal.records import Record, Stage
from runbook_lib.adapters.postgres.removal.removal import Removal, State

__all__ = ["Record", "Removal", "Stage", "State"]
