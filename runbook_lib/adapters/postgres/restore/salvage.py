"""Carries what was written since a backup into a database restored from it, and exports what is not carried."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from runbook_lib.adapters.postgres.backfill import Backfill
from runbook_lib.adapters.postgres.locks import Open
from runbook_lib.adapters.postgres.restore.classes import Kind
from runbook_lib.adapters.postgres.restore.ledger import Ledger


@dataclass(frozen=True)
class Conflict:
    """A row that could not be carried, and why."""

    table: str
    kind: Kind
    key: str
    reason: str


@dataclass(frozen=True)
class Outcome:
    """What was carried, and what was not."""

    carried: Mapping[str, Mapping[Kind, int]] = field(default_factory=dict)  # table -> rows of each kind
    conflicts: Mapping[str, int] = field(default_factory=dict)  # table -> rows that could not be carried
    samples: tuple[Conflict, ...] = ()  # a few of each table; all of them are in the table `conflicts_table`
    conflicts_table: str = ""
    columns_left_out: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # table -> not in the restored schema
    sequences: Mapping[str, tuple[int | None, int]] = field(default_factory=dict)  # sequence -> before, raised to

    def as_json(self) -> dict[str, Any]:
        """Everything, as what JSON knows."""
        raise NotImplementedError


class Salvage:
    """What one run brings over from the live database into the restored one; it keeps its own tables in the latter."""

    def __init__(self, live: Open, side: Open, backfill: Backfill, run: str) -> None:
        raise NotImplementedError

    def stage(self, between: Callable[[str], None] = lambda table: None) -> Ledger:
        """Compare the databases and lay every row to be carried beside the restored tables; goes on where it stopped.

        The live database must not be written from here to the swap: what is written later is lost. Reads the live database;
        changes the restored one, in the runbook's schema only. `between` is told each table that is done.
        """
        raise NotImplementedError

    def carry(self, *, deletes: bool = True, between: Callable[[str], None] = lambda table: None) -> Outcome:
        """Put the staged rows into the restored tables, and raise its sequences; goes on where it stopped.

        Changes the restored database.
        """
        raise NotImplementedError

    def raise_sequences(self) -> Mapping[str, tuple[int | None, int]]:
        """Raise each sequence of the restored database to the live one's value where that is larger.

        Changes the restored database.
        """
        raise NotImplementedError

    def export(self, folder: Path) -> list[Path]:
        """Write what is staged and was not carried, a file a table, for `reapply`; each is there whole or not at all."""
        raise NotImplementedError

    def outcome(self) -> Outcome | None:
        """What was carried so far; None where nothing was staged. Read-only."""
        raise NotImplementedError

    def forget(self) -> None:
        """Drop this run's own tables from the restored database. Changes the restored database."""
        raise NotImplementedError
