"""Reverts any change by a feature's migrations, from a comparison of three states of the database."""

import hashlib
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from runbook_lib.checks.restorable import room_for
from runbook_lib.config.compatibility import BEFORE, Rules, State
from runbook_lib.config.plan.steps import DATABASE, About, DatabaseStep, Touches
from runbook_lib.context.migration_files import history
from runbook_lib.errors import PreconditionError, RunbookError
from runbook_lib.postgres import Connection
from runbook_lib.postgres.catalog import catalog
from runbook_lib.postgres.changes import draft, live, untouched
from runbook_lib.postgres.changes.copies import Copies
from runbook_lib.postgres.changes.draft import Draft
from runbook_lib.postgres.changes.live import Record
from runbook_lib.postgres.changes.net_change import Refusal
from runbook_lib.postgres.changes.objects import short
from runbook_lib.postgres.changes.trial import Trial, tried, undone_at_once
from runbook_lib.postgres.connection import identity, unreadable
from runbook_lib.postgres.dependents import replicated, without_identity
from runbook_lib.postgres.lock_budget import milliseconds_paused
from runbook_lib.postgres.restore.dump_inspector import owners_kept_out, rights
from runbook_lib.postgres.round_trip import Statements
from runbook_lib.results import Found, Precondition, Result, Status, When
from runbook_lib.steps import Effect, Facts, Preview, Probe, Step
from runbook_lib.steps.backfill_step import no_feature_service
from runbook_lib.steps.by_hand import Instruction, in_psql, in_shell_at, in_words
from runbook_lib.steps.ddl_dry_run import Exercised
from runbook_lib.steps.services import disconnected

LARGEST = 2_000_000_000  # bytes of the tables in which every row is compared
COPIES = 6  # most databases with these tables
EMPTY = 10_000_000  # bytes of a database without rows
NAMED = 5  # tables named if they are too large
CLEANUP = "copies-for-undo"


class TakeBackKeys(DatabaseStep):
    """Revert the changes of the feature's migrations, as drafted by `runbook draft`."""

    kind: Literal["take_back"]
    requires = ("draft",)
    about = About(
        title="Take back what the feature's migrations changed",
        estimate=60,
        does="Compares the database before and after the migrations with the live one, and reverses the difference.",
        expect="The catalog is the same as before the migrations. Values that users have not changed go back.",
        if_not="Read what is refused, and because of which rows. Correct it or decide it, then apply the step again.",
        preserves="What users wrote since stays. Two copies of the database are kept for the undo until you purge them.",
        reversible=True,
        log_line="Database rolled back",
        starts=False,
        starts_on_undo=False,
        in_the_way=True,
        on_table="",
    )

    def touches(self) -> Touches:
        """It changes the schema."""
        return Touches(changes=frozenset({DATABASE}))

    def after(self, state: State, rules: Rules) -> State:
        """Return the state with the previous schema and data."""
        return replace(state, database=frozenset({(BEFORE, BEFORE)}))


REHEARSED = "RISK: the draft was made from rows of a rehearsal: which values the migrations wrote into rows here is unknown"


@dataclass(frozen=True)
class _Tried:
    draft: Draft
    trial: Trial


class TakeBack(Step):
    """Try the rollback on copies of the live database, then apply what worked; the copies are kept for the undo."""

    Keys = TakeBackKeys

    _last: _Tried | None = None
    _exercised: Exercised | None = None

    @property
    def file(self) -> Path:
        """The path of the draft."""
        return Path(self.context.target.backups.directory) / self.context.plan.draft.changes

    def in_brief(self) -> tuple[str, str]:
        """Report the draft's changes. Read-only."""
        try:
            found = self._draft()
        except RunbookError as error:
            return f"unknown: {error.what}", "unknown"
        changed = ", ".join(f"{each.what} {each.kind} {each.object}" for each in found.changes)
        loses = [f"{each.loss} ({each.object})" for each in found.changes if each.loss]
        return f"reverted: {changed}", "; ".join(loses) or "nothing"

    def preview(self) -> Preview:
        """Show what would be reverted, tried on a copy of the live database, and what users lose. Read-only.

        Raises:
            PreconditionError: The draft does not fit, or copies cannot be made; no copy was made.
        """
        with self.context.adapters.postgres.connect() as connection:
            here, shape = identity(connection), catalog(connection)
            recorded = rows.would(connection) if (rows := history(self.context)) and rows.exists(connection) else []
            done = live.find(connection, self._copies.target.run)
            others = replicated(connection, self._draft().tables or [])
        if done:
            return Preview(self.name, self.title, would=["nothing: it is reverted already"], estimate=0)
        self._require_copies()
        self._exercised = Exercised(self.context)
        undone: list[Refusal] = []
        with self._copies.alone() as copies:
            self._last = self._try(copies)
            if not self._last.trial.reversal.refusals:
                self._exercised.begin(lambda: copies.connected("first"), with_owners=True)
                self._exercised.again(lambda: copies.connected("copy"), "the revert")
                copies.make("undone", "copy")
                undone = undone_at_once(copies, self._last.trial.reversal).refusals
                self._exercised.again(lambda: copies.connected("undone"), "its undo")
        found, trial = self._last.draft, self._last.trial
        reversal = trial.reversal
        counts = {
            "lost": trial.lost,
            "kept, as users changed it since": reversal.edited,
            "without a value": reversal.unfilled,
        }
        volumes = {f"{what}: {short(thing)}": rows for what, of in counts.items() for thing, rows in of.items()}
        return Preview(
            self.name,
            self.title,
            would=[
                *(f"{each.kind} {each.object}, which was {each.what}: {each.way_back}" for each in found.changes),
                *(f"STOPPED by: {each.object}: {each.why}" for each in reversal.refusals),
                *(f"KEPT: {each}" for each in reversal.kept),
                *(f"note: {each}" for each in [*reversal.notes, *others, *filter(None, [self._exercised.note])]),
                *(f"RISK: even an immediate undo would be refused: {each.object}: {each.why}" for each in undone),
                *([f"RISK: the draft's migrations stopped where one failed: {found.stopped}"] if found.stopped else []),
                *([REHEARSED] if found.rehearsed and self.context.target.is_production else []),
                *recorded,
                f"by {len(reversal.statements)} statements in one transaction, tried on a copy just now",
            ],
            loses=[
                *(
                    f"{rows} of {short(thing)} that users wrote; kept in a copy until you purge it"
                    for thing, rows in trial.lost.items()
                ),
                *(
                    f"nothing of {rows} values of {short(thing)}: users changed them since, they stay"
                    for thing, rows in reversal.edited.items()
                ),
                *(
                    f"{rows} of {short(thing)} have no earlier value, because they are newer"
                    for thing, rows in reversal.unfilled.items()
                ),
            ],
            locks="ACCESS EXCLUSIVE on each table whose definition changes, in one transaction with short waits",
            undone_by="the same comparison in reverse, from the copies; what users write in between stays",
            estimate=self.spec.estimate,
            facts={
                "server": here.system,
                "database": here.database,
                "draft": self._sha256,
                "catalog": hashlib.sha256(json.dumps(shape, sort_keys=True).encode()).hexdigest(),
                **({"kept": reversal.kept} if reversal.kept else {}),
            },
            volumes=volumes,
        )

    def dry_run_of_ddl(self, preview: Preview) -> list[Result]:
        """Return the results of the application's statements on the preview's copies. Read-only."""
        return self._exercised.results() if self._exercised else []

    def by_hand(self, preview: Preview) -> list[Instruction]:
        """Return the statements tried on a copy, or why they are not sufficient. Read-only."""
        if self._last is None:
            return [in_words("Nothing to do: it is reverted already.")]
        reversal, tools = self._last.trial.reversal, self.context.adapters.dump_tools
        if reversal.refusals:
            return [in_words("It cannot be reverted: the preview names the blockers.")]
        with self.context.adapters.postgres.connect() as connection:
            text = live.by_hand(connection, reversal, history(self.context))
        if not text:
            return [
                in_words(
                    "The step computes the values of rows on copies of the database from before and after the migrations, "
                    "and carries them over, which no script can do. Leave the schema as it is until the runbook runs again."
                )
            ]
        kept = Path(self.context.target.backups.directory) / f"before_{self.name}_{self.context.folder.id}.dump"
        return [
            in_shell_at(
                None,
                tools.command_to_dump(kept),
                expect=f"exit code 0, and {kept} exists: the only undo of the next script",
            ),
            in_psql(text, "COMMIT, and no error"),
        ]

    def milliseconds_paused(self, preview: Preview) -> int:
        """Return how long the transaction may take, from the preview's try. Pure."""
        return milliseconds_paused(live.budget_of(self._last.trial.reversal)) if self._last else 0

    def probe(self) -> Probe:
        """Report whether this run reverted the change, from the record that commits with it. Read-only."""
        with self.context.adapters.postgres.connect() as connection:
            done = live.find(connection, self._copies.target.run)
        if done:
            return Probe(Effect.DONE, "this run has reverted it")
        if self._copies.kept():
            return Probe(Effect.HALF_DONE, "it was tried on copies, but not applied yet")
        return Probe(Effect.NOT_DONE, "this run has not reverted it")

    def needs(self) -> list[Precondition]:
        """The draft is the plan's, copies can be made, and the rollback works on them. Pure."""
        return [
            self.need("draft", "The draft is the one in the plan", When.BEFOREHAND, self._fits),
            self.need("copies", "Our role can read everything, and make copies of the database", When.BEFOREHAND, self._may),
            self.need("disk", "The server has room for the copies", When.BEFOREHAND, self._room, waivable=True),
            self.need("history", "The migration's rows can be removed from the history", When.BEFOREHAND, self._recorded),
            self.need("tried", "The rollback works on a copy", When.ONLY_BEFOREHAND, self._works),
            self.need(
                "redeploys", "The migrations run again on the result", When.ONLY_BEFOREHAND, self._redeploys, waivable=True
            ),
            disconnected(self),
            self.need(
                "services",
                "No service runs the feature's version",
                When.AT_THE_STEP,
                lambda: no_feature_service(self.context),
            ),
        ]

    def apply(self) -> Facts:
        """Try it on a copy of the database as it is now, keep the copies, and apply what worked. Changes the target.

        Raises:
            PreconditionError: It is refused on the copy, or the locks were not acquired; nothing was changed.
        """
        postgres = self.context.adapters.postgres
        with self._copies.alone() as copies:
            with postgres.connect() as connection:
                others = untouched.fingerprints(connection, [each.id for each in self._chosen(connection).left_out])
            reversal = self._try(copies).trial.reversal
            live.require(reversal, "It cannot be reverted")
            self.reporter.open_cleanup(
                CLEANUP, "two copies of the database are kept for the undo; purge them, or undo the step"
            )
            copies.keep()
            record = Record(self._sha256, None, others)
            live.take_back(postgres.connect, copies, reversal, history(self.context), record, self.reporter.waiting)
        differences = live.compare(postgres.connect, self._copies)
        return {"statements": len(reversal.statements), "differences": differences, "kept": reversal.kept}

    def verify(self) -> list[Result]:
        """Check that the database equals the tried copy, by object and by row, and that the step can be undone.

        Changes only its record, if the two were not compared yet.
        """
        with self.context.adapters.postgres.connect() as connection:
            record = live.find(connection, self._copies.target.run)
        if record is None:
            return [self.result("taken back", "The change is reverted", Status.FAIL, "there is no record of it")]
        found = record.differences
        if found is None:
            found = live.compare(self.context.adapters.postgres.connect, self._copies)
        kept = self._copies.kept()
        compared = "; ".join(["every object and every row was compared right afterwards", *self._not_as_before()])
        return [
            self.result(
                "taken back",
                "The database equals the tried copy, object by object and row by row",
                Status.FAIL if found else Status.PASS,
                "; ".join(found) or compared,
            ),
            self.result(
                "kept",
                "The step can be undone",
                Status.PASS if kept else Status.FAIL,
                "the copies exist" if kept else "the copies are gone",
            ),
        ]

    def undo(self) -> Facts:
        """Restore the previous state, except for what users wrote since, and drop the copies. Changes the target."""
        left: list[str] = []
        with self.context.adapters.postgres.connect() as connection:
            done = live.find(connection, self._copies.target.run)
        if done:
            with self._copies.alone() as copies:
                left = live.undo(
                    self.context.adapters.postgres.connect, copies, history(self.context), self.reporter.waiting
                )
        if not left:
            self.purge(CLEANUP)
        return {"differences": left}

    def cannot_undo(self) -> str:
        """Report that the copies were purged, "" if they are kept. Read-only."""
        return "" if self._copies.kept() else "the copies that an undo needs were purged"

    def purge_preview(self, item: str) -> Preview:
        """Show which databases would be dropped. Read-only."""
        would = ["drop both copies of the database"] if self._copies.kept() else ["nothing: no copy exists"]
        return Preview(
            self.name,
            f"{self.title}: purge the copies",
            would=would,
            undone_by="nothing; afterwards only backups have what users wrote into the feature",
            irreversible=True,
        )

    def purge(self, item: str) -> Facts:
        """Drop the copies permanently. Changes the target."""
        dropped = self._copies.drop_kept()
        self.reporter.close_cleanup(CLEANUP)
        return {"dropped": dropped}

    def _not_as_before(self) -> list[str]:
        """Return what differs from the state before the migrations, as approved. Pure."""
        kept = self.left.get("kept", self.approved.get("kept", []))
        return [f"as decided: {', '.join(kept)}"] if kept else []

    @property
    def _sha256(self) -> str:
        return self.context.plan.draft.sha256

    @property
    def _copies(self) -> Copies:
        adapters = self.context.adapters
        return Copies(adapters.postgres, adapters.dump_tools, adapters.scratch)

    def _draft(self) -> Draft:
        found = draft.read(self.file, self._sha256)
        if found.rehearsed and self.context.target.is_production and found.from_rows:
            listed = ", ".join(f"{each.what} {each.kind} {each.object}" for each in found.from_rows)
            raise PreconditionError(
                f"The draft was made from rows of a rehearsal, and this step would restore rows from them: {listed}.",
                where=str(self.file),
                state="Nothing was changed.",
                safe_next="Draft it from a backup of this database made before the migrations: `runbook draft --before`.",
            )
        return found

    def _try(self, copies: Copies) -> _Tried:
        found = self._draft()
        unpacked = draft.unpack(self.file, self.context.adapters.scratch / f"states-{self.name}")
        copies.restore("before", unpacked.before)
        copies.restore("after", unpacked.after)
        with self.context.adapters.postgres.connect() as connection:
            chosen = self._chosen(connection)
        copies.copy_live("first", chosen.left_out)
        copies.make("copy", "first")
        trial = tried(copies, unpacked.scripts, found.changing, found.renames, self.context.plan.decide)
        if (rows := history(self.context)) and not trial.reversal.refusals:
            with copies.connected("copy") as copy, copy.transaction():
                if rows.exists(copy):
                    rows.take(Statements(copy))
        return _Tried(found, trial)

    def _chosen(self, connection: Connection) -> untouched.Chosen:
        return untouched.choose(connection, self._draft(), self.context.plan.decide, self.context.plan.history_tables)

    def _require_copies(self) -> None:
        for look in (self._fits, self._may, self._room):
            status, why = look()
            if status is Status.FAIL:
                raise PreconditionError(
                    f"It cannot be tried on a copy: {why}.",
                    where=self.context.target.name,
                    state="No copy was made.",
                    safe_next="Correct that; then preview again.",
                )

    def _room(self) -> Found:
        with self.context.adapters.postgres.connect() as connection:
            size = self._chosen(connection).bytes
        return room_for(self.context, COPIES, size + EMPTY)

    def _fits(self) -> Found:
        found = self._draft()
        with self.context.adapters.postgres.connect() as connection:
            major = identity(connection).server_version // 10000
        if found.server != major:
            why = f"it was made with PostgreSQL {found.server}, and the target runs {major}: make it again, with --server"
            return Status.FAIL, why
        return Status.PASS, f"{self.file.name}, made {found.made}, with {len(found.changes)} changes"

    def _may(self) -> Found:
        with self.context.adapters.postgres.connect() as connection:
            chosen, hidden = self._chosen(connection), unreadable(connection)
            lacking = [right for right, held in rights(connection).items() if not held]
            published = without_identity(connection, self._draft().tables or [])
            kept_out = owners_kept_out(connection)
        problems = [f"our role cannot read all rows of: {', '.join(hidden)}"] if hidden else []
        problems += [f"our role may not {right}" for right in lacking]
        problems += published
        problems += [f"{owner} may not create, so a copy cannot give it its objects" for owner in kept_out]
        if chosen.bytes > LARGEST:
            largest = ", ".join(f"{name} {size / 1e9:.1f} GB" for name, size in list(chosen.copied.items())[:NAMED])
            problems.append(
                f"the step compares every row of the changed tables, and of those that they refer to: "
                f"{chosen.bytes / 1e9:.1f} GB ({largest}), and {LARGEST / 1e9:.0f} GB is the limit; roll back with other "
                "kinds of step, or from a backup"
            )
        if problems:
            return Status.FAIL, "; ".join(problems)
        return Status.PASS, f"it may; {chosen.said}"

    def _recorded(self) -> Found:
        rows = history(self.context)
        if rows is None:
            return Status.PASS, "the plan names no migration"
        with self.context.adapters.postgres.connect() as connection:
            if live.find(connection, self._copies.target.run):
                return Status.PASS, "they are removed already"
            if not rows.exists(connection):
                return Status.FAIL, f"the table {'.'.join(self.context.plan.history_tables[0])} does not exist"
            problems = rows.missing(connection) + rows.in_the_way(connection)
        return (Status.FAIL, "; ".join(problems)) if problems else (Status.PASS, "they can")

    def _works(self) -> Found:
        refused = self._last.trial.reversal.refusals if self._last else []
        if refused:
            return Status.FAIL, "; ".join(f"{each.object}: {each.why}" for each in refused)
        return Status.PASS, "it does" if self._last else "it is reverted already"

    def _redeploys(self) -> Found:
        if self._last and self._last.trial.redeploys is None:
            return Status.UNKNOWN, "not tried, because the rollback is refused"
        if self._last is None or self._last.trial.redeploys:
            return Status.PASS, "they do" if self._last else "it is reverted already"
        return Status.FAIL, "they fail, or give another result: the fixed release could not be deployed"
