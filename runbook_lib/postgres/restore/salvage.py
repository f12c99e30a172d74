"""Apply the rows written since a backup from the live database to a database restored from it."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from psycopg import sql

from runbook_lib.config.plan import Database
from runbook_lib.errors import PreconditionError, StepFailed
from runbook_lib.postgres import Connection, Open
from runbook_lib.postgres.catalog import issued, raise_sequences
from runbook_lib.postgres.connection import copied, one
from runbook_lib.postgres.restore.applier import Applier, Between
from runbook_lib.postgres.restore.diff import UNWATCHED, Ledger, TableDiff, Watch, compared, ledger, opened, summarized
from runbook_lib.postgres.restore.difference_kinds import CARRIED, EXPORTED, Hashes, Kind
from runbook_lib.postgres.restore.export import EARLIER, SEQUENCES, Export, Outcome, added, export, outcome
from runbook_lib.postgres.restore.migrated import bring, kept, seen
from runbook_lib.postgres.restore.pair import Pair, matched
from runbook_lib.postgres.restore.shape import Name, tables, written
from runbook_lib.postgres.restore.staged_rows import Progress, StagedRows, staged_as
from runbook_lib.postgres.restore.stream import pin, pinned
from runbook_lib.postgres.sessions import cancelled_by

BY_KEY, BY_HASH = 10_000, 100_000  # rows per fetch: each fetch uses an index, or scans the whole table

COMMA = sql.SQL(", ")


def staged_rows_of(pair: Pair, store: str) -> StagedRows:
    """Describe how differing rows of a table are staged: every column of the live table except computed ones.

    A backfilled column is left out if the values that the backfill wrote cannot be distinguished from the rest.
    """
    unclear = [pair.backfill.database.backfill.name] if pair.backfill and not pair.clearable else []
    withheld = tuple(name for name in pair.live.names if name in unclear)
    columns = {
        column.name: staged_as(column, pair.backup.column(column.name) if column.name in pair.backup.names else None)
        for column in pair.live.columns
        if not column.generated and column.name not in withheld
    }
    return StagedRows(*pair.live.id, store, pair.key, columns, pair.user, pair.touch, pair.feature, withheld)


@dataclass
class Stager:
    """Fetches rows by their places and stages them in batches; the writer's transaction is the caller's."""

    pair: Pair
    staged: StagedRows
    live: Connection
    writer: Connection
    kinds: Collection[Kind]  # the kinds to stage
    made: bool = False
    waiting: dict[Kind, list[Hashes]] = field(default_factory=dict)

    def take(self, kind: Kind, places: Hashes) -> None:
        """Stage rows of a kind, now or together with later ones. Changes the restored database."""
        if kind in self.kinds:
            self.waiting.setdefault(kind, []).append(places)
            if sum(map(len, self.waiting[kind])) >= (BY_KEY if self.pair.numbered else BY_HASH):
                self.flush(kind)

    def flush(self, *kinds: Kind) -> None:
        """Stage all waiting rows, or those of some kinds. Changes the restored database."""
        for kind in kinds or self.kinds:
            places = self.waiting.pop(kind, [])
            if not places:
                continue
            if not self.made:
                self.staged.make(self.writer)
                self.made = True
            import numpy as np  # here, since few runs salvage, and it is slow to load

            asked = np.concatenate(places).tolist()
            which = sql.SQL("{} = ANY ({})").format(self.pair.place, sql.Literal(asked))
            staged = (self._name if kind == Kind.DELETED else self._fetch)(kind, which)
            if staged != len(asked):
                raise StepFailed(
                    f"Of {len(asked)} rows that differ ({kind}), {staged} could be read again.",
                    where=f"table {self.pair.name}",
                    state="No row of this table is staged; no table of the restored database was changed.",
                    safe_next="Check whether anybody writes to the restored database; then stage again.",
                )

    def _fetch(self, kind: Kind, which: sql.Composable) -> int:
        names = list(self.staged.columns)
        rows = sql.SQL("COPY (SELECT {}, {} FROM {} t WHERE {}) TO STDOUT").format(
            sql.Literal(str(kind)), COMMA.join(map(self.pair.cleared, names)), self.pair.live.rows, which
        )
        into = sql.SQL("COPY {} (runbook_kind, {}) FROM STDIN").format(
            self.staged.store_id, COMMA.join(map(sql.Identifier, names))
        )
        return copied(self.live, rows, self.writer, into)

    def _name(self, kind: Kind, which: sql.Composable) -> int:
        return self.writer.execute(
            sql.SQL("INSERT INTO {} (runbook_kind, {}) SELECT {}, {} FROM {} t WHERE {}").format(
                self.staged.store_id,
                COMMA.join(map(sql.Identifier, self.staged.key)),
                sql.Literal(str(kind)),
                COMMA.join(sql.Identifier("t", name) for name in self.staged.key),
                self.pair.backup.rows,
                which,
            )
        ).rowcount


STAGED, COMPARED = "staged", "compared"


class Salvage:
    """One run's salvage from the live database into the restored one, which also holds the run's own tables."""

    def __init__(self, live: Open, staging: Open, database: Database, history: Collection[Name], run: str) -> None:
        self.live, self.staging, self.database = live, staging, database
        self.history = history  # the migration tool's tables, whose rows are never copied
        self.progress = Progress(run)

    def stage(self, watch: Watch = UNWATCHED, kinds: Collection[Kind] = EXPORTED) -> Ledger:
        """Compare the databases and stage each row of some kinds next to the restored tables; resumes where it stopped.

        Rows written to the live database after this are in neither, so writes must be fenced until the swap.
        Reads the live database; changes the restored one, only in the runbook's schema.
        """
        with self.staging() as writer:
            self.progress.begin(writer)
            if found := self._ledger(writer):
                return found
            with self.live() as reader:
                bring(writer, reader, self.progress.run)  # before it exports its snapshot
                return self._stage_all(writer, reader, watch, kinds)

    def _stage_all(self, writer: Connection, reader: Connection, watch: Watch, kinds: Collection[Kind]) -> Ledger:
        with (
            opened(self.live, self.staging, watch.look, self.progress.run) as (here, there),
            pinned(reader, one(here, "SELECT pg_export_snapshot() AS it")["it"]),
        ):
            migrated = kept(there, self.progress.run) or []
            matches = matched(seen(migrated, tables(here)), tables(there), self.database, self.history)
            done = self.progress.done(writer, STAGED)
            for number, pair in enumerate(matches.pairs):
                if pair.name not in done:
                    store = f"cargo_{self.progress.run}_{number}"
                    self._stage(here, there, reader, writer, pair, store, kinds, watch.heed)
                    watch.between(pair.name)
            diffs = [content["diff"] for content in self.progress.done(writer, STAGED).values()]
            found = ledger(here, there, matches, tuple(map(TableDiff.from_json, diffs)), migrated)
        with writer.transaction():
            self.progress.note(writer, COMPARED, "", found.as_json())
        return found

    def carry(
        self,
        *,
        deletes: bool = True,
        between: Between = lambda part: None,
        look: Callable[[], object] = lambda: None,
    ) -> Outcome:
        """Apply the staged rows to the restored tables and raise the sequences; resumes where it stopped.

        `deletes` says whether to delete rows that were deleted from the live database since the backup. Once `look` raises,
        the current part is rolled back. Changes the restored database.

        Raises:
            PreconditionError: The rows are not staged.
        """
        with self.staging() as connection, cancelled_by(connection, look):
            applier = self._applier(connection)
            applier.apply([kind for kind in CARRIED if deletes or kind != Kind.DELETED], between)
        self.raise_sequences()
        return self._outcome()

    def raise_sequences(self) -> Mapping[str, int]:
        """Raise each restored sequence that is behind the live one; needed whether or not rows are applied.

        Changes the restored database.
        """
        with self.live() as here, self.staging() as there:
            values = issued(here)
            self.progress.begin(there)
            with there.transaction():
                moved = raise_sequences(values, there)
                for name, value in moved.items():
                    self.progress.note(there, SEQUENCES, written(name), value, again=True)
        return {written(name): value for name, value in moved.items()}

    def export(self, folder: Path, watch: Watch = UNWATCHED) -> Export:
        """Write the staged rows that were not applied into a folder, for `reapply`; each file is complete or absent.

        Reads both databases.

        Raises:
            PreconditionError: The rows are not staged, or only some of them were applied yet.
        """
        with self.staging() as connection:
            applier = self._applier(connection)
            found = self._ledger(connection) or Ledger()
            return export(self.live, applier, found, folder, watch)

    def outcome(self) -> Outcome | None:
        """Return what was applied so far; None if nothing was staged. Read-only."""
        with self.staging() as connection:
            if not self.progress.begun(connection) or not self._ledger(connection):
                return None
        return self._outcome()

    def start_over(self) -> None:
        """Drop what was staged, so that everything is compared again: rows applied since are no difference any more.

        The counts of those are kept. Changes the restored database, only in the runbook's schema.
        """
        with self.staging() as connection:
            if not self.progress.begun(connection):
                return
            staged_tables = self._staged_tables(connection)
            applier = Applier(connection, staged_tables, self.progress)
            carried = added(self.progress.done(connection, EARLIER).get("", {}), applier.applied())
            with connection.transaction():
                self.progress.drop(connection, [staged.store_id for staged in staged_tables], everything=True)
                self.progress.begin(connection)
                self.progress.note(connection, EARLIER, "", carried)

    def forget(self) -> None:
        """Drop this run's own tables, including the list of conflicts. Changes the restored database."""
        with self.staging() as connection:
            if self.progress.begun(connection):
                stores = [staged.store_id for staged in self._staged_tables(connection)]
                self.progress.drop(connection, stores, everything=True)

    def _stage(
        self,
        here: Connection,
        there: Connection,
        reader: Connection,
        writer: Connection,
        pair: Pair,
        store: str,
        kinds: Collection[Kind],
        heed: Callable[[], object],
    ) -> None:
        def work(seeded: Pair) -> TableDiff:
            with writer.transaction():
                pin(writer)
                stager = Stager(seeded, staged_rows_of(seeded, store), reader, writer, kinds)
                found = compared(here, there, seeded, stager.take, heed)
                stager.flush()
                if stager.made:
                    writer.execute(sql.SQL("ANALYZE {}").format(stager.staged.store_id))
                staged = stager.staged.as_json() if stager.made else None
                self.progress.note(writer, STAGED, pair.name, {"diff": found.as_json(), "cargo": staged})
            return found

        found = summarized(here, there, pair, work)
        if found.unknown:
            with writer.transaction():
                self.progress.note(writer, STAGED, pair.name, {"diff": found.as_json(), "cargo": None})

    def _applier(self, connection: Connection) -> Applier:
        if not self.progress.begun(connection) or not self._ledger(connection):
            raise PreconditionError(
                "The rows that differ are not staged, or not all of them.",
                state="No table of the restored database was changed.",
                safe_next="Stage them first; that resumes where it stopped.",
            )
        return Applier(connection, self._staged_tables(connection), self.progress)

    def _staged_tables(self, connection: Connection) -> list[StagedRows]:
        contents = self.progress.done(connection, STAGED).values()
        return [StagedRows.from_json(content["cargo"]) for content in contents if content["cargo"]]

    def _ledger(self, connection: Connection) -> Ledger | None:
        content = self.progress.done(connection, COMPARED).get("")
        return Ledger.from_json(content) if content else None

    def _outcome(self) -> Outcome:
        with self.staging() as connection:
            return outcome(connection, self.progress, self._applier(connection))
