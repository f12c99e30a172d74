"""Option B: remove the columns that the feature added."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Literal

from runbook_lib.checks.schema import AS_IN_BACKUP, left_over
from runbook_lib.config import compatibility
from runbook_lib.config.plan.steps import DATABASE, About, DatabaseStep, Touches
from runbook_lib.config.target import DatabaseTarget
from runbook_lib.context import Context
from runbook_lib.context.migration_files import history
from runbook_lib.postgres.catalog import Catalog, catalog, filled, has_column
from runbook_lib.postgres.clone import Clone
from runbook_lib.postgres.column_removal import (
    HALF_BACK,
    Record,
    Removal,
    Stage,
    State,
    definitions,
    drop_columns,
    records,
    restore_columns,
)
from runbook_lib.postgres.column_removal.previous_values import Snapshot
from runbook_lib.postgres.connection import limit_statements
from runbook_lib.postgres.lock_budget import DROPPING, RENAMING, await_readable, milliseconds_paused
from runbook_lib.postgres.round_trip import Statements
from runbook_lib.postgres.text_settings import identifier
from runbook_lib.redaction import redact
from runbook_lib.results import Found, Precondition, Result, Status, When
from runbook_lib.steps import PATIENCE, Effect, Facts, Preview, Probe, Step, removal_preview
from runbook_lib.steps.backfill_step import no_feature_service, none_lasting
from runbook_lib.steps.by_hand import Instruction, in_psql
from runbook_lib.steps.ddl_dry_run import Look, dry_run_of_ddl
from runbook_lib.steps.services import disconnected
from runbook_lib.system.processes import shown

VALIDATION_TIMEOUT = 120.0


class RemovalChecks:
    """The checks after the step of that name; each gives a result."""

    def __init__(self, context: Context, removal: Removal, step: str) -> None:
        self.context = context
        self.database = context.plan.database
        self.removal = removal
        self.step = step

    def all(self) -> list[Result]:
        """Check that columns and history row are gone, all else is as before, and removed values are kept. Read-only."""
        with self.removal.connect() as connection:
            state, history = self.removal.state(connection), self.removal.history
            taken = history is None or history.is_taken(connection)
        with self.context.adapters.postgres.connect() as connection:
            now = catalog(connection)
        record = state.record
        left = records.left_over(now, self.database, record)
        found = [self._result("gone", "The feature's columns, indexes and constraints are gone", left, "they are")]
        if history:
            rows = [f"{state.history} rows of {history.migration.named}"] if state.history else []
            if not taken and not rows:
                rows = [f"{history.migration.table} is not at {history.applied.previous}"]
            found.append(self._result("history", "The migration is out of the history", rows, "it is"))
        if record:
            others = records.changed(record.catalog, now, self.database, record)
            found.append(self._result("catalog", "Nothing else of the schema changed", others, "all else is as before"))
        if record and record.stage is Stage.REMOVED:
            found.append(self._nothing_else(record))
            if not record.asides:
                found.append(self._kept(record))
        return found + self._validated()

    def _nothing_else(self, record: Record) -> Result:
        title, fingerprint = "No other column of any row changed", self.removal.fingerprint
        with self.removal.unhurried() as connection:
            found = fingerprint.differences(connection, without=[*self.database.columns, *record.asides.values()])
            if found is None:
                return Result(
                    f"{self.step}: proof", title, Status.UNKNOWN, "this run kept no fingerprints before the change"
                )
            rows = fingerprint.rows(connection)
        return self._result(
            "proof", title, found, f"the fingerprints of {rows} rows, made while nothing else wrote, are equal"
        )

    def _kept(self, record: Record) -> Result:
        with self.removal.connect() as connection:
            rows = Snapshot(self.database, self.removal.run, record.definitions).rows(connection)
        gone = ["the copy is gone"] if rows is None else []
        return self._result("kept", "The values of the dropped columns can be restored", gone, f"a copy holds {rows} rows")

    def _validated(self) -> list[Result]:
        """Run the migration tool's validator on history and files, if the plan names it. Read-only."""
        migration = self.context.plan.migration
        if migration is None or not migration.validation:
            return []
        done = self.context.adapters.processes.run(
            migration.validation,
            cwd=self.context.checkout(migration.repository).path,
            timeout=VALIDATION_TIMEOUT,
            env=_of_libpq(self.context.target.database),
        )
        last = ((done.errors or done.output).strip().splitlines() or ["nothing"])[-1]
        said = f"{shown(done.command)} ended with {done.exit_code}: {redact(last)}"
        title = "The migration tool finds that history and files agree"
        return [self._result("validator", title, [said] if done.exit_code else [], said)]

    def _result(self, suffix: str, title: str, bad: Sequence[str], good: str) -> Result:
        status, summary = (Status.FAIL, "; ".join(bad)) if bad else (Status.PASS, good)
        return Result(f"{self.step}: {suffix}", title, status, summary, {"found": list(bad)})


SET_ASIDE, COPY, CONFLICTS = "columns-set-aside", "copy-of-dropped-columns", "values-not-put-back"
CLEANUPS = {"quarantine": SET_ASIDE, "drop": COPY}


class RemoveColumnsKeys(DatabaseStep):
    """Remove the feature's columns, with their indexes and constraints, from the table."""

    kind: Literal["remove_columns"]
    mode: Literal["drop", "quarantine"] = "quarantine"
    """Whether the columns are renamed (quarantine), or copied and dropped (REMOVAL)."""

    requires = ("database",)
    about = About(
        title="Remove the feature's columns",
        estimate=60,
        does="Renames the feature's columns out of the way, or copies and drops them.",
        expect="The catalog is the same as before the migration.",
        if_not="Read what blocks the lock, or what depends on the columns. Apply the step again, or undo it.",
        preserves="The columns' values are kept until you purge them.",
        reversible=True,
        log_line="Database rolled back",
        starts=False,
        starts_on_undo=False,
        in_the_way=True,
        on_table="schema",
    )

    def touches(self) -> Touches:
        """It changes the schema."""
        return Touches(changes=frozenset({DATABASE}))

    def after(self, state: compatibility.State, rules: compatibility.Rules) -> compatibility.State:
        """Return the state with the previous schema and data."""
        return replace(state, database=frozenset({(compatibility.BEFORE, compatibility.BEFORE)}))


class RemoveColumns(Step):
    """Rename the plan's columns, or drop them and keep a copy; remove the migration's row from its history."""

    Keys = RemoveColumnsKeys

    WORKS_IN_PARTS = True
    CHOICES: Mapping[str, Mapping[str, str]] = {
        "REMOVAL": {
            "quarantine": "rename the columns: nothing is lost until you purge them; an undo renames them back",
            "drop": "drop the columns: their values are kept in a copy until you purge it",
        }
    }

    @cached_property
    def removal(self) -> Removal:
        """This run's removal, on the target's database."""
        return Removal(
            self.context.adapters.postgres, self.context.plan.database, self.context.folder.short, history(self.context)
        )

    @property
    def mode(self) -> str:
        """The engineer's choice, else the plan's.

        Raises:
            ParametersError: It is neither.
        """
        return self.chosen("REMOVAL")

    def default(self, choice: str) -> str:
        """Return the plan's mode. Read-only."""
        assert isinstance(self.spec, RemoveColumnsKeys)
        return self.spec.mode

    def in_brief(self) -> tuple[str, str]:
        """Report which columns are removed, and how many rows have values in them. Read-only."""
        database = self.context.plan.database
        with self.context.adapters.postgres.connect() as connection:
            limit_statements(connection, PATIENCE)
            there = [name for name in database.columns if has_column(connection, database, name)]
            if not there:
                return "nothing: the columns do not exist", "nothing"
            found = filled(connection, database, there)
        held = ", ".join(f"{name} of {found[name]} rows" for name in there)
        return f"{len(there)} columns of {database.table} are removed: {', '.join(there)}", f"their values: {held}"

    def preview(self) -> Preview:
        """Show what would be removed, what is lost, and what blocks it. Read-only.

        Raises:
            PreconditionError: The plan names something that does not exist.
        """
        return removal_preview.of_removal(self.context, self.removal, self.name, self.mode)

    def by_hand(self, preview: Preview) -> list[Instruction]:
        """Return a script that renames, or copies and drops, the columns, and keeps the record for an undo. Read-only."""
        with self.removal.connect() as connection:
            text = drop_columns.by_hand(self.removal, connection, catalog(connection), self.mode)
        return [in_psql(text, "COMMIT twice, and no error; the table no longer has the plan's columns")]

    def milliseconds_paused(self, preview: Preview) -> int:
        """Return how long the locks are held. Pure."""
        return milliseconds_paused(RENAMING if preview.facts["mode"] == "quarantine" else DROPPING)

    def dry_run_of_ddl(self, preview: Preview) -> list[Result]:
        """Remove the columns of a schema-only clone, and restore them. Changes nothing in the target's database."""
        with self.removal.connect() as connection:
            if self.removal.state(connection).stage or self.removal.is_gone(connection):
                return []
            rows = self.removal.history.everything(connection) if self.removal.history else []
        mode = preview.facts["mode"]

        def round_trip(clone: Clone, changed: Look) -> str:
            removal = Removal(clone, self.context.plan.database, self.context.folder.short, self.removal.history)
            if removal.history:
                with clone.connect() as connection:
                    removal.history.insert(Statements(connection), rows)
            if mode == "drop":
                drop_columns.copy(removal, {}, _silent, _silent)
                drop_columns.drop(removal, _silent)
            else:
                drop_columns.set_aside(removal, {}, _silent)
            changed(mode)
            restore_columns.restore(removal, _silent, _silent)
            changed("its undo")
            return ""

        return dry_run_of_ddl(self.context, self.context.plan.database, f"{mode} and undo", round_trip)

    def await_target(self) -> None:
        """Wait while a session blocks reads of the table. Read-only."""
        with self.control.listening(before=True):
            await_readable(
                self.context.adapters.postgres.connect, identifier(self.context.plan.database), self.control.waiting
            )

    def probe(self) -> Probe:
        """Report whether the columns exist, and what this run did to them. Read-only."""
        with self.removal.connect() as connection:
            return _probed(self.removal.state(connection), self.removal.is_gone(connection))

    def needs(self) -> list[Precondition]:
        """No service runs the feature's version, and nothing depends on the columns. Pure."""
        return [
            disconnected(self),
            self.need(
                "services",
                "No service runs the feature's version",
                When.AT_THE_STEP,
                lambda: no_feature_service(self.context),
            ),
            self.need(
                "dependents",
                "No object outside the plan depends on the columns",
                When.BEFOREHAND,
                self._nothing_hangs,
            ),
            none_lasting(self, identifier(self.context.plan.database), without_application=True),
            Precondition(
                AS_IN_BACKUP,
                "The plan names every object that came since the backup from before the feature",
                When.BEFOREHAND,
                lambda: left_over(self.context, self._taken()),
                waivable=True,
            ),
        ]

    def apply(self) -> Facts:
        """Fingerprint the remaining columns, then rename, or copy and drop, the others. Changes the target.

        Raises:
            PreconditionError: An object of the plan is missing, another depends on it, or the locks were not acquired.
        """
        if self._state().stage in HALF_BACK:
            self.undo()
        record = self._state().record
        if record and record.stage is not Stage.COPYING:
            return self._left()
        with self.removal.connect() as connection:
            self.removal.removable(connection, self.mode)
        shape = record.catalog if record else self._catalog()
        if self.mode == "drop":
            self.reporter.open_cleanup(
                COPY, "the values of the dropped columns are kept in a copy in the database; purge it, or undo the step"
            )
            with self.control.listening():
                drop_columns.copy(self.removal, shape, self.control.part, self.reporter.waiting)
            self._fingerprint()
            drop_columns.drop(self.removal, self.reporter.waiting)
        else:
            self.reporter.open_cleanup(
                SET_ASIDE, "the feature's columns are kept under other names; purge them, or undo the step"
            )
            self._fingerprint()
            drop_columns.set_aside(self.removal, shape, self.reporter.waiting)
            if record:  # begun as a drop, whose copy is gone now
                self.reporter.close_cleanup(COPY)
        return self._left()

    def verify(self) -> list[Result]:
        """Check that columns and history row are gone, nothing else changed, and the migration tool agrees. Read-only."""
        return RemovalChecks(self.context, self.removal, self.name).all()

    def undo(self) -> Facts:
        """Restore the columns with their values, and the history row. Changes the target."""
        with self.control.listening():
            left = restore_columns.restore(self.removal, self.control.part, self.reporter.waiting)
        if conflicts := left.get("conflicts"):
            self.reporter.open_cleanup(
                CONFLICTS, f"the previous values of {conflicts} rows were not restored, and are kept separately"
            )
        for item in self.reporter.pending():
            if item in CLEANUPS.values():
                self.reporter.close_cleanup(item)
        return left

    def cannot_undo(self) -> str:
        """Report that the removed values were purged, "" if they are kept. Read-only."""
        with self.context.adapters.postgres.connect() as connection:
            record = records.find(connection, self.removal.run)
        return "the removed values were purged" if record and record.stage is Stage.PURGED else ""

    def purge_preview(self, item: str) -> Preview:
        """Show what a purge would destroy, counted by column. Read-only."""
        if item == CONFLICTS:
            return removal_preview.of_purge_of_conflicts(self.context, self.removal, self.name)
        return removal_preview.of_purge(self.context, self.removal, self.name, self._pending(item))

    def purge(self, item: str) -> Facts:
        """Drop the kept columns or their copy permanently. Changes the target."""
        lost = self.purge_preview(item).volumes
        if item == CONFLICTS:
            restore_columns.purge_conflicts(self.removal)
        elif self._pending(item):
            restore_columns.purge(self.removal, self.reporter.waiting)
        self.reporter.close_cleanup(item)
        return {"destroyed": dict(lost)}

    def _nothing_hangs(self) -> Found:
        with self.removal.connect() as connection:
            if self.removal.state(connection).stage in HALF_BACK:
                return Status.PASS, "the columns are being restored"
            if self.removal.is_gone(connection):
                return Status.PASS, "the columns are gone"
            found = definitions.read(connection, self.context.plan.database)
            lines = self.removal.missing(connection, found) + self.removal.in_the_way(connection, self.mode, found)
        return (Status.FAIL, "; ".join(lines)) if lines else (Status.PASS, "nothing does")

    def _pending(self, item: str) -> Record | None:
        """Return the record of the removal that left this cleanup item, if it is this run's current one. Read-only."""
        record = self._state().record
        return record if record and CLEANUPS[record.mode] == item else None

    def _state(self) -> State:
        with self.removal.connect() as connection:
            return self.removal.state(connection)

    def _taken(self) -> set[str]:
        database = self.context.plan.database
        with self.removal.connect() as connection:
            record = self.removal.state(connection).record
            found = definitions.read(connection, database)
        own = {f"constraint {database.schema_}.{database.table} {constraint.name}" for constraint in found.constraints}
        return records.removed_by(database, record) | own

    def _catalog(self) -> Catalog:
        with self.context.adapters.postgres.connect() as connection:
            return catalog(connection)

    def _fingerprint(self) -> None:
        with self.removal.unhurried() as connection:
            self.removal.fingerprint.record(connection, without=self.context.plan.database.columns)

    def _left(self) -> Facts:
        record = self._state().record
        assert record
        if record.asides:
            return {"mode": record.mode, "set aside": record.asides}
        with self.removal.connect() as connection:
            snapshot = Snapshot(self.context.plan.database, self.context.folder.short, record.definitions)
            return {"mode": record.mode, "copy": snapshot.copy.as_string(), "rows in it": snapshot.rows(connection)}


def _silent(*_: object) -> None:
    """Report nothing."""


def _probed(state: State, gone: bool) -> Probe:
    match state.stage:
        case Stage.COPYING:
            return Probe(Effect.HALF_DONE, "the columns exist, and a copy of them was begun")
        case Stage.FILLING | Stage.RESTORING:
            return Probe(Effect.HALF_DONE, "the columns exist again, and are not completely restored")
        case Stage.REMOVED | Stage.PURGED if state.there:
            return Probe(
                Effect.UNKNOWN,
                f"this run removed {', '.join(state.there)}, but they exist again: a migration on boot?",
            )
        case Stage.PURGED:
            return Probe(Effect.DONE, "the columns are purged")
        case Stage.REMOVED:
            assert state.record
            asides = ", ".join(f"{name} as {other}" for name, other in state.record.asides.items())
            return Probe(Effect.DONE, f"the columns are renamed, {asides}" if asides else "the columns are dropped")
    if gone:
        return Probe(Effect.DONE, "the columns no longer exist")
    return Probe(Effect.NOT_DONE, f"still present: {', '.join(state.there) or 'indexes, constraints or the history row'}")


def _of_libpq(database: DatabaseTarget) -> dict[str, str]:
    """The variables by which libpq finds the target's database. Pure."""
    return {"PGSERVICE": database.service} | ({"PGDATABASE": database.dbname} if database.dbname else {})
