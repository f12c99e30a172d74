"""Option A: clear what the backfill wrote, and nothing else."""

import threading
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Literal

from runbook_lib.checks.prerequisites import prerequisite
from runbook_lib.checks.restorable import SAME
from runbook_lib.config.compatibility import BEFORE, Rules, State
from runbook_lib.config.plan.steps import DATABASE, About, ClearingStep, Touches
from runbook_lib.errors import PreconditionError, RunbookError
from runbook_lib.postgres import Connection
from runbook_lib.postgres.approved_rows import KeySet, load_approved
from runbook_lib.postgres.backfill_removal.guard import Records
from runbook_lib.postgres.backfill_removal.removal import BackfillRemoval, Progress
from runbook_lib.postgres.backfill_terms import BackfillTerms
from runbook_lib.postgres.catalog import has_column
from runbook_lib.postgres.clone import Clone
from runbook_lib.postgres.connection import limit_statements
from runbook_lib.postgres.dependents import hides_rows
from runbook_lib.postgres.exercise.one_row import changed_by_one_row, to_try
from runbook_lib.postgres.indexes import Indexes, unused
from runbook_lib.postgres.lock_budget import EXCHANGING, await_readable, milliseconds_paused
from runbook_lib.postgres.proof import Proof
from runbook_lib.postgres.restore.dump_inspector import look
from runbook_lib.postgres.restore.fetch import fetched, gone_since
from runbook_lib.results import Found, Precondition, Result, Status, When
from runbook_lib.steps import PATIENCE, Effect, Facts, Preview, Probe, backfill_step, clear_preview
from runbook_lib.steps.backfill_step import BackfillStep, none_lasting
from runbook_lib.steps.backup import path_of_backup
from runbook_lib.steps.by_hand import Instruction, in_psql, in_words
from runbook_lib.steps.ddl_dry_run import Look, dry_run_of_ddl
from runbook_lib.steps.services import disconnected


def gone(step: BackfillStep) -> str:
    """Name the first rows that are in the backup and not in the table; "" without a backup or such a row.

    Reads the table's keys from the backup, which takes as long as unpacking it. Changes nothing that outlasts its session.
    """
    path, database = path_of_backup(step.context), step.backfill.database
    if not path.exists():
        return ""
    try:
        dump, tools = look(step.context.adapters.dump_tools, path), step.context.adapters.dump_tools
        with step.context.adapters.postgres.connect() as live:
            fetched(live, tools, dump, (database.schema_, database.table), [database.key], {}, lambda: None)
            rows = gone_since(live, step.backfill)
    except RunbookError as error:
        return f"the missing rows could not be read from {path.name}: {error.what}"
    return f"in this run's backup and not in the table: {rows}" if rows else ""


def cleared_as_approved(step: BackfillStep, removal: BackfillRemoval, connection: Connection) -> Result:
    """Check that no approved entry is left. Read-only."""
    left = step.backfill.count(connection)
    spared = step.left.get("not approved, so left alone", 0)
    return step.result(
        "cleared",
        "No backfilled entry that was approved is left",
        Status.PASS if left <= spared else Status.FAIL,
        f"{left} rows with backfilled entries ({spared} came after the approval)",
    )


def nothing_else(step: BackfillStep, removal: BackfillRemoval, connection: Connection) -> Result:
    """Prove that the approved rows hold the computed values and nothing else changed. Read-only."""
    title = "Each cleared row holds its computed value; no other row and no other column of the table changed"
    if not removal.begun(connection):
        return step.result("proof", title, Status.PASS, "this run wrote nothing to the table")
    proof = removal.proof
    if step.stopped:
        found = proof.differences(connection)
        if found is None:
            text = "this run kept no fingerprints before the change, or the decision on what to clear changed since"
            return step.result("proof", title, Status.UNKNOWN, f"{text}; undo the step and run it again for a proof")
        if found and proof.fewer(connection):
            found += filter(None, [gone(step)])
        text = f"stopped: the fingerprints of {proof.rows(connection)} rows, made while nothing else wrote, are equal"
    else:
        found = proof.strays(connection)
        text = "live: no other row has a transaction of this run, and the row count of each transaction matched"
        if not proof.in_place:
            text = "live: each transaction of this run wrote exactly the counted rows, only in the shadow column"
    if (found or not step.stopped) and (wrong := removal.unexpected(connection)):
        found.append(f"{wrong.count} rows do not hold their computed value: {wrong}")
    return step.result("proof", title, Status.FAIL if found else Status.PASS, "; ".join(found) or text, differences=found)


def unused_indexes(step: BackfillStep, connection: Connection, removal: BackfillRemoval) -> list[str]:
    """Return the indexes that batches may drop until they finish: all if nobody else uses the table. Read-only."""
    indexes = Indexes(removal.backfill)
    if step.stopped:
        return [index.name for index in indexes.present(connection)]
    if removal.strategy != "batched":
        return []
    return unused(connection, indexes, removal.progress.cleared, backfill_step.since(step.context, step.name))


def bounded(step: BackfillStep, connection: Connection, previewed: KeySet | None) -> tuple[BackfillTerms, int]:
    """Return what may be cleared: all affected rows if they are exactly the approved ones, else only the approved rows.

    Changes the runbook's own tables.

    Raises:
        PreconditionError: The list of approved rows is gone.
    """
    agreed: str = step.context.state.agreed.get(step.name, {}).get("keys", "")
    if step.stopped and previewed and previewed.sha256 == agreed:
        return step.backfill, 0
    file = clear_preview.keys_file(step, agreed)
    if not file.exists():
        raise PreconditionError(
            "The list of approved rows is missing from the run folder.",
            where=str(file),
            state="Nothing was changed by this attempt.",
            safe_next="Preview again and approve that.",
        )
    left_out = load_approved(connection, step.backfill, file)
    return step.backfill.among_approved(), left_out


UNDO_ROWS, OLD_COLUMN = "undo-rows", "old-column"  # items of cleanup
MOST_CONFLICTS = 100  # keys that are listed one by one


class ClearBackfillKeys(ClearingStep):
    """Remove what a backfill wrote from the data."""

    kind: Literal["clear_backfill"]
    strategy: Literal["auto", "swap", "batched", "keyed"] = "auto"
    """How the step removes the entries; with auto, the preview chooses (STRATEGY)."""
    triggers: Literal["fire", "keep_out"] = "fire"
    """Whether triggers fire for written rows, or are kept from firing (TRIGGERS)."""
    live: bool = False
    """Whether the application may use the table during the step."""

    requires = ("backfills",)
    about = About(
        title="Clear the backfilled entries",
        estimate=120,
        does="Removes the entries that the backfill wrote, in the approved rows.",
        expect="No backfilled entry is left. The proof shows that nothing else changed.",
        if_not="Read which rows the proof names. Apply the step again to resume, or undo it.",
        preserves="Every row's previous value is kept until you purge it.",
        reversible=True,
        log_line="Database rolled back",
        starts=False,
        starts_on_undo=False,
        in_the_way=True,
        on_table="data",
    )

    def touches(self) -> Touches:
        """It changes the data."""
        return Touches(changes=frozenset({DATABASE}))

    def after(self, state: State, rules: Rules) -> State:
        """Return the state with the previous data."""
        return replace(state, database=frozenset((schema, BEFORE) for schema, _ in state.database))


class ClearBackfill(BackfillStep):
    """Remove the backfill's own elements from each row that holds some, keeping all others in order."""

    Keys = ClearBackfillKeys

    @property
    def stopped(self) -> bool:
        """Whether nobody else may use the table during the step."""
        assert isinstance(self.spec, ClearBackfillKeys)
        return not self.spec.live

    WORKS_IN_PARTS = True

    def sessions(self) -> AbstractContextManager[None]:
        """Reuse sessions until the step ends if users wait for it, because it opens thirty connections."""
        return self.context.adapters.postgres.sessions.kept() if self.stopped else super().sessions()

    def in_brief(self) -> tuple[str, str]:
        """Report how many rows change, and what is lost. Read-only."""
        place, name = self.entry.place, self.entry.name
        with self.context.adapters.postgres.connect() as connection:
            limit_statements(connection, PATIENCE)
            if not has_column(connection, place, name):
                return f"nothing: {name} does not exist", "nothing"
            return self.backfill.in_brief(connection)

    def preview(self) -> Preview:
        """Report how many rows would change and how, and what older code will not show. Read-only."""
        found, self._previewed, self._choice = clear_preview.preview(self)
        return found

    def by_hand(self, preview: Preview) -> list[Instruction]:
        """Return a script that clears all affected rows in one transaction and keeps the records for an undo. Read-only."""
        if self.entry.cleared == "from_backup":
            return [
                in_words(
                    "The step reads each row's previous value from the backup, row by row, which no script can do. "
                    "Restore the backup to another database (pg_restore), and copy the column from there by the key."
                )
            ]
        kept_out = preview.facts.get("triggers") == "keep_out"
        with replace(self.context.adapters.postgres, keeps_triggers_out=kept_out).connect() as connection:
            text = self._removal(self.backfill).by_hand(connection, kept_out=kept_out)
        rows = preview.volumes.get("rows", 0)
        said = "COMMIT twice, then 0: no row holds such an entry any more"
        swapped = "; the step would exchange the column, and this gives the same values in place"
        more = swapped if preview.facts.get("strategy") == "swap" else ""
        return [
            in_psql(text, f"{said}. The preview counted {rows} rows; the script clears all that match when it runs{more}")
        ]

    def milliseconds_paused(self, preview: Preview) -> int:
        """Return how long a swap holds a short lock; the other strategies take none. Pure."""
        return milliseconds_paused(EXCHANGING) if preview.facts["strategy"] == "swap" else 0

    def dry_run_of_ddl(self, preview: Preview) -> list[Result]:
        """Clear a schema-only clone with the strategy, and undo that. Changes nothing in the target's database.

        If triggers fire, it tries one row alone first.
        """
        strategy, backfill = str(preview.facts["strategy"]), self.backfill
        kept_out = preview.facts.get("triggers") == "keep_out"
        with self.context.adapters.postgres.connect() as connection:
            begun = Records(backfill).exist(connection)
            fires = strategy != "swap" and not kept_out and bool(clear_preview.firing(connection, backfill))
        if begun or (strategy == "keyed" and not fires):  # keys are cleared without any DDL on the table
            return []

        def round_trip(clone: Clone, changed: Look) -> str:
            with clone.connect() as connection:
                Records(backfill).prepare(connection)
                backfill.prepare_prior(connection)
                indexes = [index.name for index in Indexes(backfill).present(connection)]
                note = changed_by_one_row(connection, backfill) if fires else ""
            connect = replace(clone, keeps_triggers_out=kept_out).connect
            removal = BackfillRemoval(connect, backfill.with_prior(backfill.prior), strategy, self.stopped)
            removal.apply(indexes)
            changed(strategy)
            removal.undo()
            changed("its undo")
            return note

        rows = to_try(backfill) if fires else None
        return dry_run_of_ddl(self.context, backfill.database, f"{strategy} and undo", round_trip, rows)

    def await_target(self) -> None:
        """Wait while a session blocks reads of the table. Read-only."""
        with self.control.listening(before=True):
            await_readable(self.context.adapters.postgres.connect, self.table, self.control.waiting)

    def probe(self) -> Probe:
        """Report whether anything is left to clear, and whether this run began. Read-only."""
        self._choice = None  # an earlier preview's choice is out of date
        removal = self._removal(self.backfill)
        with self.looking() as connection:
            if hides_rows(connection, self.backfill.database):
                return Probe(Effect.UNKNOWN, "row security hides rows of the table from our role")
            left, begun = self.backfill.count(connection), removal.begun(connection)
            unfinished = Indexes(self.backfill).missing(connection)
            saved = removal.rows(connection) if begun else 0
            undo_begun = removal.undo_begun(connection)
        if undo_begun:
            return Probe(Effect.HALF_DONE, f"{saved} rows are cleared, and an undo was begun")
        if unfinished:
            return Probe(
                Effect.HALF_DONE, f"{saved} rows are cleared, {left} are left; still to rebuild: {', '.join(unfinished)}"
            )
        if left and begun:
            return Probe(Effect.HALF_DONE, f"{saved} rows are cleared, {left} are left")
        if left:
            return Probe(Effect.NOT_DONE, f"{left} rows hold backfilled entries")
        return Probe(Effect.DONE, f"{saved} rows are cleared, none is left" if begun else "no backfilled entry is left")

    def needs(self) -> list[Precondition]:
        """The strategy is possible, entries are decided, nobody is connected, and a backup is of this database. Pure."""
        return [
            *([disconnected(self)] if self.stopped else []),
            self.need("table", "Every row can be found and written", When.BEFOREHAND, lambda: clear_preview.fit_table(self)),
            self.need("strategy", "The strategy is possible here", When.BEFOREHAND, self._possible),
            none_lasting(self, self.table, without_application=self.stopped),
            self.need("decided", "Edited entries are decided", When.BEFOREHAND, self._decided),
            *([prerequisite(self.context, SAME)] if self.entry.cleared == "from_backup" else []),
        ]

    def apply(self) -> Facts:
        """Fingerprint the table, then clear it with the chosen strategy. Changes the target."""
        with self.control.listening():
            with self.looking() as connection:
                Records(self.backfill).prepare(connection)
                self.backfill.keep_earlier(connection, self.backup)
                bound, left_out = bounded(self, connection, self._previewed)
                removal = self._removal(bound)
                if self.stopped:
                    removal.proof.record(connection)
                unused = unused_indexes(self, connection, removal)
            removal.apply(unused)
        with self.context.adapters.postgres.connect() as connection:
            return {
                "rows": removal.rows(connection),
                "strategy": removal.strategy,
                "proof": "stopped" if self.stopped else "live",
                "not approved, so left alone": left_out,
            }

    def verify(self) -> list[Result]:
        """Check that no approved entry is left, and that only computed changes were made. Read-only."""
        with self.context.adapters.postgres.connect() as connection:
            removal = self._removal(self.backfill)
            return [
                cleared_as_approved(self, removal, connection),
                nothing_else(self, removal, connection),
            ]

    def undo(self) -> Facts:
        """Restore the old values, except where somebody changed them since. Changes the target.

        Raises:
            PreconditionError: The old values were purged.
        """
        if why := self.cannot_undo():
            raise PreconditionError(
                f"The old values cannot be restored: {why}.",
                where=f"table {self.entry.place.schema_}.{self.entry.place.table}",
                state="Nothing was changed.",
                safe_next="Only the backup that this run made still has the old values: restore them from it.",
            )
        with self.control.listening():
            restored, conflicts = self._removal(self.backfill).undo()
        with self.context.adapters.postgres.connect() as connection:
            if not conflicts:
                self._proof.forget(connection)
        if conflicts:
            self.reporter.open_cleanup(
                self._kept(UNDO_ROWS),
                f"the old values of {len(conflicts)} rows that someone changed since are kept until you purge them",
            )
        for item in (OLD_COLUMN, *([] if conflicts else [UNDO_ROWS])):
            self.reporter.close_cleanup(self._kept(item))
        return {"restored": restored, "conflicts": len(conflicts), "keys of conflicts": conflicts[:MOST_CONFLICTS]}

    def undo_leaves(self) -> str:
        """Report how many cleared rows hold another value now. Read-only."""
        with self.looking() as connection:
            later = self._removal(self.backfill).unexpected(connection)
        return f"{later.count} rows that someone changed since keep their values: {later}" if later else ""

    def cannot_undo(self) -> str:
        """Report that the old values were purged, "" if they are kept. Read-only."""
        with self.context.adapters.postgres.connect() as connection:
            purged = Records(self.backfill).purged(connection)
        return "the old values were purged" if purged else ""

    def purge_preview(self, item: str) -> Preview:
        """Show what is lost when the undo data is purged. Read-only."""
        with self.context.adapters.postgres.connect() as connection:
            rows = self._removal(self.backfill).rows(connection)
        return Preview(
            self.name,
            f"Purge the undo data of “{self.title}”",
            would=[f"drop the kept old values of {rows} rows ({item})"],
            loses=[f"the old values of {rows} rows: afterwards the database itself cannot restore them"],
            locks="ACCESS EXCLUSIVE for a moment" if item == self._kept(OLD_COLUMN) else "none on the table",
            undone_by="nothing",
            irreversible=True,
            facts={"debt": item},
            volumes={"rows": rows},
        )

    def purge(self, item: str) -> Facts:
        """Drop the old column or the undo rows permanently. Changes the target."""
        self._removal(self.backfill).purge()
        with self.context.adapters.postgres.connect() as connection:
            self._proof.forget(connection)
        self.reporter.close_cleanup(item)
        return {"purged": item}

    def _decided(self) -> Found:
        if self.entry.edited != "list":
            return Status.PASS, f"for all of them: {self.entry.edited}"
        undecided = backfill_step.read(self.context.folder, self.decisions_file).undecided
        return Status.FAIL if undecided else Status.PASS, f"{undecided} rows of {self.decisions_file} have no decision"

    _previewed: KeySet | None = None
    _choice: backfill_step.Choice | None = None

    def _possible(self) -> Found:
        return clear_preview.possible(self, self._choice)

    @property
    def _proof(self) -> Proof:
        return self._removal(self.backfill).proof

    def _removal(self, backfill: BackfillTerms) -> BackfillRemoval:
        agreed = self.approved.get("strategy")
        kept_out, progress = self.approved.get("triggers") == "keep_out", self._progress()
        postgres = replace(self.context.adapters.postgres, keeps_triggers_out=kept_out)
        return BackfillRemoval(postgres.connect, backfill, agreed or "keyed", self.stopped, progress, self.control.requested)

    def _progress(self) -> Progress:
        total = self.approved_rows
        done, lock = 0, threading.Lock()

        def cleared(rows: int, why: str) -> None:
            nonlocal done
            with lock:
                done += rows
                if rows or why:
                    self.reporter.progress(done, total, why)

        return Progress(
            cleared,
            self.control.waiting,
            lambda item, text: self.reporter.open_cleanup(self._kept(item), text),
            lambda item: self.reporter.close_cleanup(self._kept(item)),
        )

    def _kept(self, item: str) -> str:
        """Return the name of a cleanup item; if a plan has several backfills, each step has its own."""
        assert isinstance(self.spec, ClearBackfillKeys)
        return f"{item}-{self.name}" if self.spec.backfill else item
