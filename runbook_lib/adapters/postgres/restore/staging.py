"""Lays the rows of the live database that differ beside the tables of the restored one, as they are found."""

from collections.abc import Collection
from dataclasses import dataclass, field

import numpy as np
from psycopg import sql

from runbook_lib.adapters.postgres.connection import Connection
from runbook_lib.adapters.postgres.restore.cargo import Cargo, staged_as
from runbook_lib.adapters.postgres.restore.classes import Hashes, Kind
from runbook_lib.adapters.postgres.restore.pair import Pair
from runbook_lib.errors import StepFailed

BY_KEY, BY_HASH = 10_000, 100_000  # rows fetched at once: each time by an index, or through the whole table

COMMA = sql.SQL(", ")


def cargo_of(pair: Pair, store: str) -> Cargo:
    """How the rows of a table that differ are staged: all that the live table holds, but for what is worked out anyway.

    A column that the backfill wrote to is left out where what it wrote cannot be told from the rest.
    """
    unclear = [pair.backfill.database.backfill.column] if pair.backfill and not pair.clearable else []
    withheld = tuple(name for name in pair.live.names if name in unclear)
    columns = {
        column.name: staged_as(column, pair.backup.column(column.name) if column.name in pair.backup.names else None)
        for column in pair.live.columns
        if not column.generated and column.name not in withheld
    }
    return Cargo(*pair.live.id, store, pair.key, columns, pair.user, pair.touch, pair.feature, withheld)


@dataclass
class Stager:
    """Fetches rows by their places and stages them, so many at a time; the writer's transaction is the caller's."""

    pair: Pair
    cargo: Cargo
    live: Connection
    writer: Connection
    kinds: Collection[Kind]  # that are staged
    made: bool = False
    waiting: dict[Kind, list[Hashes]] = field(default_factory=dict)

    def take(self, kind: Kind, places: Hashes) -> None:
        """Stage rows of a kind, now or with others that come. Changes the restored database."""
        if kind in self.kinds:
            self.waiting.setdefault(kind, []).append(places)
            if sum(map(len, self.waiting[kind])) >= (BY_KEY if self.pair.numbered else BY_HASH):
                self.flush(kind)

    def flush(self, *kinds: Kind) -> None:
        """Stage all rows that wait, or those of some kinds. Changes the restored database."""
        for kind in kinds or self.kinds:
            places = self.waiting.pop(kind, [])
            if not places:
                continue
            if not self.made:
                self.cargo.make(self.writer)
                self.made = True
            asked = np.concatenate(places).tolist()
            wanted = sql.SQL("{} = ANY ({})").format(self.pair.place, sql.Literal(asked))
            staged = (self._name if kind == Kind.DELETED else self._fetch)(kind, wanted)
            if staged != len(asked):
                raise StepFailed(
                    f"Of {len(asked)} rows that differ ({kind}) {staged} could be read again.",
                    where=f"table {self.pair.name}",
                    state="Nothing of this table is staged; no table of the restored database was changed.",
                    safe_next="See whether anybody writes to the restored database; then stage again.",
                )

    def _fetch(self, kind: Kind, wanted: sql.Composable) -> int:
        names = list(self.cargo.columns)
        rows = sql.SQL("COPY (SELECT {}, {} FROM {} t WHERE {}) TO STDOUT").format(
            sql.Literal(str(kind)), COMMA.join(map(self.pair.cleared, names)), self.pair.live.rows, wanted
        )
        into = sql.SQL("COPY {} (runbook_kind, {}) FROM STDIN").format(
            self.cargo.lies_in, COMMA.join(map(sql.Identifier, names))
        )
        return copy(self.live, rows, self.writer, into)

    def _name(self, kind: Kind, wanted: sql.Composable) -> int:
        return self.writer.execute(
            sql.SQL("INSERT INTO {} (runbook_kind, {}) SELECT {}, {} FROM {} t WHERE {}").format(
                self.cargo.lies_in,
                COMMA.join(map(sql.Identifier, self.cargo.key)),
                sql.Literal(str(kind)),
                COMMA.join(sql.Identifier("t", name) for name in self.cargo.key),
                self.pair.backup.rows,
                wanted,
            )
        ).rowcount


def copy(source: Connection, rows: sql.Composed, target: Connection, into: sql.Composed) -> int:
    """Copy rows from one connection to another as they come; how many there were. Changes the target."""
    cursor = target.cursor()
    with source.cursor().copy(rows) as reading, cursor.copy(into) as writing:
        for block in reading:
            writing.write(block)
    return cursor.rowcount
