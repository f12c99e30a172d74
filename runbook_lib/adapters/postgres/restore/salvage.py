"""Carries what was written since a backup from the live database into one restored from it."""

from collections.abc import Callable, Collection, Mapping
from pathlib import Path

from psycopg import sql

from runbook_lib.adapters.postgres.cancelling import cancelled_by
from runbook_lib.adapters.postgres.connection import Connection, one
from runbook_lib.adapters.postgres.locks import Open
from runbook_lib.adapters.postgres.restore.cargo import Cargo, Progress
from runbook_lib.adapters.postgres.restore.carry import Between, Carriage
from runbook_lib.adapters.postgres.restore.classes import CARRIED, EXPORTED, Kind
from runbook_lib.adapters.postgres.restore.diff import UNWATCHED, Watch, compared, ledger, opened, told
from runbook_lib.adapters.postgres.restore.export import Export, export
from runbook_lib.adapters.postgres.restore.ledger import Ledger, TableDiff
from runbook_lib.adapters.postgres.restore.outcome import EARLIER, SEQUENCES, Outcome, added, outcome
from runbook_lib.adapters.postgres.restore.pair import Pair, matched
from runbook_lib.adapters.postgres.restore.sequences import raise_to, raised, sequences
from runbook_lib.adapters.postgres.restore.shape import tables, written
from runbook_lib.adapters.postgres.restore.staging import Stager, cargo_of
from runbook_lib.adapters.postgres.restore.stream import pin, pinned
from runbook_lib.errors import PreconditionError
from runbook_lib.plan import Database

STAGED, COMPARED = "staged", "compared"


class Salvage:
    """What one run brings over from the live database into the restored one, where it keeps its own tables."""

    def __init__(self, live: Open, side: Open, database: Database, run: str) -> None:
        self.live, self.side, self.database = live, side, database
        self.progress = Progress(run)

    def stage(self, watch: Watch = UNWATCHED, kinds: Collection[Kind] = EXPORTED) -> Ledger:
        """Compare the databases and lay each row of some kinds beside the restored tables; goes on where it stopped.

        What is written to the live database from here on is in neither, so writes must be kept out until the swap.
        Reads the live database; changes the restored one, in the runbook's schema alone.
        """
        with self.side() as writer:
            self.progress.begin(writer)
            if found := self._ledger(writer):
                return found
            with (
                opened(self.live, self.side, watch.look) as (here, there),
                self.live() as reader,
                pinned(reader, one(here, "SELECT pg_export_snapshot() AS it")["it"]),
            ):
                matches = matched(tables(here), tables(there), self.database)
                done = self.progress.done(writer, STAGED)
                for number, pair in enumerate(matches.pairs):
                    if pair.name not in done:
                        store = f"cargo_{self.progress.run}_{number}"
                        self._stage(here, there, reader, writer, pair, store, kinds, watch.heed)
                        watch.between(pair.name)
                diffs = [content["diff"] for content in self.progress.done(writer, STAGED).values()]
                found = ledger(here, there, matches, tuple(map(TableDiff.from_json, diffs)))
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
        """Put the staged rows into the restored tables and raise the sequences; goes on where it stopped.

        `deletes` says whether rows are deleted that were deleted from the live database since the backup; the part under way
        is rolled back once `look` raises. Changes the restored database.

        Raises:
            PreconditionError: The rows are not staged.
        """
        with self.side() as connection, cancelled_by(connection, look):
            carriage = self._carriage(connection)
            carriage.carry([kind for kind in CARRIED if deletes or kind != Kind.DELETED], between)
        self.raise_sequences()
        return self._outcome()

    def raise_sequences(self) -> Mapping[str, int]:
        """Raise each restored sequence that the live one is ahead of; needed whether rows are carried or not.

        Changes the restored database.
        """
        with self.live() as here, self.side() as there:
            values = raised(sequences(here), sequences(there))
            self.progress.begin(there)
            with there.transaction():
                raise_to(there, values)
                for name, value in values.items():
                    self.progress.note(there, SEQUENCES, written(name), value, again=True)
        return {written(name): value for name, value in values.items()}

    def export(self, folder: Path, watch: Watch = UNWATCHED) -> Export:
        """Write what is staged and was not carried into a folder, for `reapply`; a file is there whole or not at all.

        Reads both databases.

        Raises:
            PreconditionError: The rows are not staged, or only some of them were carried yet.
        """
        with self.side() as connection:
            carriage = self._carriage(connection)
            found = self._ledger(connection) or Ledger()
            return export(self.live, carriage, found, folder, watch)

    def outcome(self) -> Outcome | None:
        """What was carried so far; None where nothing was staged. Read-only."""
        with self.side() as connection:
            if not self.progress.begun(connection) or not self._ledger(connection):
                return None
        return self._outcome()

    def anew(self) -> None:
        """Drop what was staged, so that all is compared again: what was carried since is no difference any more.

        How much that was is kept. Changes the restored database, in the runbook's schema alone.
        """
        with self.side() as connection:
            if not self.progress.begun(connection):
                return
            cargoes = self._cargoes(connection)
            carriage = Carriage(connection, cargoes, self.progress)
            carried = added(self.progress.done(connection, EARLIER).get("", {}), carriage.carried())
            with connection.transaction():
                self.progress.drop(connection, [cargo.lies_in for cargo in cargoes], everything=True)
                self.progress.begin(connection)
                self.progress.note(connection, EARLIER, "", carried)

    def forget(self) -> None:
        """Drop this run's own tables, the list of conflicts among them. Changes the restored database."""
        with self.side() as connection:
            if self.progress.begun(connection):
                self.progress.drop(connection, [cargo.lies_in for cargo in self._cargoes(connection)], everything=True)

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
                stager = Stager(seeded, cargo_of(seeded, store), reader, writer, kinds)
                found = compared(here, there, seeded, stager.take, heed)
                stager.flush()
                if stager.made:
                    writer.execute(sql.SQL("ANALYZE {}").format(stager.cargo.lies_in))
                cargo = stager.cargo.as_json() if stager.made else None
                self.progress.note(writer, STAGED, pair.name, {"diff": found.as_json(), "cargo": cargo})
            return found

        found = told(here, there, pair, work)
        if found.unknown:
            with writer.transaction():
                self.progress.note(writer, STAGED, pair.name, {"diff": found.as_json(), "cargo": None})

    def _carriage(self, connection: Connection) -> Carriage:
        if not self.progress.begun(connection) or not self._ledger(connection):
            raise PreconditionError(
                "The rows that differ are not staged, or not all of them.",
                state="No table of the restored database was changed.",
                safe_next="Stage them first; that goes on where it stopped.",
            )
        return Carriage(connection, self._cargoes(connection), self.progress)

    def _cargoes(self, connection: Connection) -> list[Cargo]:
        contents = self.progress.done(connection, STAGED).values()
        return [Cargo.from_json(content["cargo"]) for content in contents if content["cargo"]]

    def _ledger(self, connection: Connection) -> Ledger | None:
        content = self.progress.done(connection, COMPARED).get("")
        return Ledger.from_json(content) if content else None

    def _outcome(self) -> Outcome:
        with self.side() as connection:
            return outcome(connection, self.progress, self._carriage(connection))
