"""What going back to a backup would lose, in numbers: approved before, and held afterwards against what came about."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Self

from runbook_lib.adapters.postgres.restore.classes import Kind

SAMPLES = 5  # keys shown of each kind


@dataclass(frozen=True)
class TableDiff:
    """How a table of the live database differs from its copy in the backup; `unknown` says why that could not be seen."""

    table: str  # schema.name
    key: tuple[str, ...] = ()  # none: rows cannot be told apart one by one
    live: int = 0  # rows
    backup: int = 0
    counts: Mapping[Kind, int] = field(default_factory=dict)  # rows of each kind that there is
    samples: Mapping[Kind, tuple[str, ...]] = field(default_factory=dict)  # keys as text
    differs: bool = False
    columns_only_in_live: Mapping[str, int] = field(default_factory=dict)  # name -> rows that hold a value there
    columns_only_in_backup: Mapping[str, int] = field(default_factory=dict)
    unknown: str = ""

    def as_json(self) -> dict[str, Any]:
        """Everything, as what JSON knows."""
        content: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return content

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """The differences that `as_json` was made of."""
        return cls(
            **{
                **content,
                "key": tuple(content["key"]),
                "counts": {Kind(kind): number for kind, number in content["counts"].items()},
                "samples": {Kind(kind): tuple(keys) for kind, keys in content["samples"].items()},
            }
        )

    def __str__(self) -> str:
        if self.unknown:
            return f"{self.table}: could not be compared: {self.unknown}"
        if not self.differs:
            return f"{self.table}: {self.live} rows, equal"
        if not self.key:
            return (
                f"{self.table}: {self.live} rows, {self.backup} in the backup, which cannot be told apart row by row: no key"
            )
        return f"{self.table}: " + ", ".join(f"{number} {kind}" for kind, number in self.counts.items())


@dataclass(frozen=True)
class Ledger:
    """The differences of two databases, the live one and one restored from a backup."""

    tables: tuple[TableDiff, ...] = ()
    tables_only_in_live: Mapping[str, int | None] = field(default_factory=dict)  # name -> rows; None: could not be read
    tables_only_in_backup: Mapping[str, int | None] = field(default_factory=dict)
    not_compared: Mapping[str, str] = field(default_factory=dict)  # name -> why its rows are nobody's to lose here
    large_objects: TableDiff = TableDiff("large objects")
    only_in_live: tuple[str, ...] = ()  # publications, subscriptions, extensions
    only_in_backup: tuple[str, ...] = ()
    defined_otherwise: tuple[str, ...] = ()  # functions, procedures, views and triggers

    @property
    def totals(self) -> dict[Kind, int]:
        """Rows of each kind in all tables."""
        return {kind: sum(table.counts.get(kind, 0) for table in self.tables) for kind in Kind}

    @property
    def unknown(self) -> dict[str, str]:
        """What could not be compared, and why; while anything stands here the loss is not known."""
        unread = {**self.tables_only_in_live, **self.tables_only_in_backup}
        return {
            **{each.table: each.unknown for each in (*self.tables, self.large_objects) if each.unknown},
            **{name: "its rows could not be read" for name, rows in unread.items() if rows is None},
        }

    @property
    def untold(self) -> tuple[TableDiff, ...]:
        """Tables that differ and have no key, so that nobody can say which rows."""
        return tuple(table for table in self.tables if table.differs and not table.key)

    @property
    def digest(self) -> str:
        """A short name for exactly these numbers and keys."""
        return hashlib.sha256(json.dumps(self.as_json(), sort_keys=True).encode()).hexdigest()

    def table(self, name: str) -> TableDiff:
        """The differences of a table by its schema.name; of one that is not there, none."""
        return next((table for table in self.tables if table.table == name), TableDiff(name))

    def as_json(self) -> dict[str, Any]:
        """Everything, as what JSON knows."""
        content: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return content

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """The ledger that `as_json` was made of."""
        return cls(
            **{
                **content,
                "tables": tuple(TableDiff.from_json(table) for table in content["tables"]),
                "large_objects": TableDiff.from_json(content["large_objects"]),
                "only_in_live": tuple(content["only_in_live"]),
                "only_in_backup": tuple(content["only_in_backup"]),
                "defined_otherwise": tuple(content.get("defined_otherwise", ())),
            }
        )

    def after(self, carried: Mapping[str, Mapping[Kind, int]]) -> "Ledger":
        """What should be left of the differences once so many rows of each table and kind were carried over."""
        return replace(self, tables=tuple(_less(table, carried.get(table.table, {})) for table in self.tables))


def compare(predicted: Ledger, actual: Ledger, kinds: Iterable[Kind] = tuple(Kind)) -> list[str]:
    """Where two ledgers differ in their numbers, a line each; none where what came about is what was foretold."""
    lines = []
    for name in sorted({table.table for ledger in (predicted, actual) for table in ledger.tables}):
        foretold, found = predicted.table(name), actual.table(name)
        if found.unknown != foretold.unknown:
            lines.append(
                f"{name}: could not be compared: {found.unknown}" if found.unknown else f"{name}: could be compared"
            )
        lines += [
            f"{name}: {found.counts.get(kind, 0)} {kind}, foretold {foretold.counts.get(kind, 0)}"
            for kind in kinds
            if found.counts.get(kind, 0) != foretold.counts.get(kind, 0)
        ]
        if not found.key and (found.differs, found.live, found.backup) != (foretold.differs, foretold.live, foretold.backup):
            lines.append(f"{found}; foretold {foretold}")
    for title, before, now in (
        ("tables only in the live database", predicted.tables_only_in_live, actual.tables_only_in_live),
        ("tables only in the backup", predicted.tables_only_in_backup, actual.tables_only_in_backup),
        ("large objects", predicted.large_objects, actual.large_objects),
    ):
        if before != now:
            lines.append(f"{title}: {now}, foretold {before}")
    return lines


def _less(table: TableDiff, carried: Mapping[Kind, int]) -> TableDiff:
    counts = {kind: number - carried.get(kind, 0) for kind, number in table.counts.items()}
    return replace(table, counts={kind: number for kind, number in counts.items() if number})
