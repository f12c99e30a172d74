"""What became of staged rows: how many were carried, and which were not, with the reason of each."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from psycopg import sql

from runbook_lib.adapters.postgres.connection import Connection
from runbook_lib.adapters.postgres.restore.cargo import Progress
from runbook_lib.adapters.postgres.restore.carry import LISTED, Carriage
from runbook_lib.adapters.postgres.restore.classes import Kind

SEQUENCES = "sequences"  # the phase in which they are raised
EARLIER = "carried by earlier tries"  # the phase in which that is noted
SAMPLES = 5  # conflicts shown of each table


@dataclass(frozen=True)
class Conflict:
    """A row that could not be carried, or not in full, and why."""

    table: str
    kind: str
    key: str
    reason: str

    def __str__(self) -> str:
        return f"{self.table} {self.key} ({self.kind}): {self.reason}"


@dataclass(frozen=True)
class Outcome:
    """What was carried, and what was not."""

    carried: Mapping[str, Mapping[Kind, int]] = field(default_factory=dict)  # table -> rows of each kind
    earlier: Mapping[str, Mapping[str, int]] = field(default_factory=dict)  # the same of tries that were cut short
    conflicts: Mapping[str, int] = field(default_factory=dict)  # table -> rows that could not be carried
    samples: tuple[Conflict, ...] = ()  # a few of each table; all of them are in the table `conflicts_table`
    conflicts_table: str = ""
    columns_left_out: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # table -> what it has no place for
    sequences: Mapping[str, int] = field(default_factory=dict)  # sequence -> raised to
    finished: bool = False

    def as_json(self) -> dict[str, Any]:
        """Everything, as what JSON knows."""
        return {
            "carried": {table: {str(kind): n for kind, n in counts.items()} for table, counts in self.carried.items()},
            **({EARLIER: {table: dict(counts) for table, counts in self.earlier.items()}} if self.earlier else {}),
            "conflicts": dict(self.conflicts),
            "samples": [str(conflict) for conflict in self.samples],
            "conflicts table": self.conflicts_table,
            "columns left out": {table: list(names) for table, names in self.columns_left_out.items()},
            "sequences": dict(self.sequences),
            "finished": self.finished,
        }


def added(one: Mapping[str, Mapping[str, int]], other: Mapping[str, Mapping[Kind, int]]) -> dict[str, dict[str, int]]:
    """Rows of each table and kind of two tries together. Pure."""
    found = {table: dict(counts) for table, counts in one.items()}
    for table, counts in other.items():
        kinds = found.setdefault(table, {})
        for kind, rows in counts.items():
            kinds[str(kind)] = kinds.get(str(kind), 0) + rows
    return found


def outcome(connection: Connection, progress: Progress, carriage: Carriage) -> Outcome:
    """What was carried so far, and what was not. Read-only."""
    counts = connection.execute(
        sql.SQL('SELECT "table", count(*) AS n FROM {} GROUP BY 1 ORDER BY 1').format(progress.conflicts)
    ).fetchall()
    samples = connection.execute(
        sql.SQL("""SELECT "table", kind, key, reason FROM (
            SELECT *, row_number() OVER (PARTITION BY "table" ORDER BY kind, key, reason) AS place FROM {}) c
        WHERE place <= {} ORDER BY "table", place""").format(progress.conflicts, sql.Literal(SAMPLES))
    ).fetchall()
    return Outcome(
        carriage.carried(),
        progress.done(connection, EARLIER).get("", {}),
        {row["table"]: row["n"] for row in counts},
        tuple(Conflict(**row) for row in samples),
        progress.conflicts.as_string(connection),
        carriage.left_out(),
        progress.done(connection, SEQUENCES),
        bool(progress.done(connection, LISTED)),
    )
