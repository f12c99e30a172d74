"""Option B: take the columns that the feature added out of the table."""

from collections.abc import Mapping
from functools import cached_property

from runbook_lib.adapters.postgres.catalog import catalog
from runbook_lib.adapters.postgres.removal import Record, Removal, Stage, State, outcome, returning, taking
from runbook_lib.adapters.postgres.removal.snapshot import Snapshot
from runbook_lib.adapters.processes import shown
from runbook_lib.errors import ParametersError
from runbook_lib.plan import RemoveColumnsStep
from runbook_lib.redaction import redact
from runbook_lib.results import Result, Status
from runbook_lib.steps import removal_preview
from runbook_lib.steps.base import Effect, Facts, Preview, Probe, Step
from runbook_lib.steps.interlock import no_feature_service
from runbook_lib.steps.services import no_connections

SET_ASIDE, COPY, CONFLICTS = "columns-set-aside", "copy-of-dropped-columns", "values-not-put-back"
VALIDATION_TIMEOUT = 120.0


class RemoveColumns(Step):
    """Set the plan's columns aside, or drop them and keep a copy, together with the migration's row in its history."""

    CHOICES: Mapping[str, Mapping[str, str]] = {
        "REMOVAL": {
            "quarantine": "rename the columns aside: nothing is lost until they are purged, undone by renaming back",
            "drop": "drop the columns, as the plan was written: their values are kept in a copy until it is purged",
        }
    }

    @cached_property
    def removal(self) -> Removal:
        """This run's removal, on the target's database."""
        return Removal(self.context.postgres, self.context.plan.database, self.context.run)

    @property
    def mode(self) -> str:
        """What the engineer chose, else the plan.

        Raises:
            ParametersError: It is neither.
        """
        assert isinstance(self.spec, RemoveColumnsStep)
        mode = self.context.choices.get("REMOVAL", self.spec.mode)
        if mode not in self.CHOICES["REMOVAL"]:
            raise ParametersError(
                f"REMOVAL is {mode!r}, which cannot be chosen.",
                state="Nothing was touched.",
                safe_next=f"Choose one of: {', '.join(self.CHOICES['REMOVAL'])}.",
            )
        return mode

    def preview(self) -> Preview:
        """What would go, what of it is lost, what is in the way. Read-only.

        Raises:
            PreconditionError: The plan names something that is not there.
        """
        return removal_preview.of_removal(self.context, self.removal, self.name, self.mode)

    def probe(self) -> Probe:
        """Whether the columns are there, and what this run did about them. Read-only."""
        with self.removal.connect() as connection:
            return _probed(self.removal.state(connection), self.removal.is_gone(connection))

    def preconditions(self) -> list[Result]:
        """That nothing of the feature's version lives, and that nothing hangs on the columns. Read-only."""
        alive = [no_connections(self.context, self.name), no_feature_service(self.context, self.name)]
        with self.removal.connect() as connection:
            if self.removal.state(connection).stage is Stage.RESTORING:
                return alive
            lines = self.removal.missing(connection) + self.removal.in_the_way(connection, self.mode)
        status, summary = (Status.FAIL, "; ".join(lines)) if lines else (Status.PASS, "nothing does")
        return [
            *alive,
            self.result("dependents", "Nothing that the plan does not name hangs on the columns", status, summary),
        ]

    def apply(self) -> Facts:
        """Fingerprint the columns that stay, then set the others aside, or copy and drop them. Changes the target."""
        if self._state().stage is Stage.RESTORING:
            self.undo()
        stage = self._state().stage
        if stage in (Stage.REMOVED, Stage.PURGED):
            return self._left()
        with self.context.postgres.connect() as connection:
            shape = catalog(connection)
        if self.mode == "drop":
            self.owe(
                COPY, "the values of the dropped columns are kept in a copy in the database; purge it, or undo the step"
            )
            taking.copy(self.removal, shape, self.progress, self.waiting)
            self._fingerprint()
            taking.drop(self.removal, self.waiting)
        else:
            self.owe(SET_ASIDE, "the feature's columns are set aside under other names; purge them, or undo the step")
            self._fingerprint()
            taking.set_aside(self.removal, shape, self.waiting)
            if stage is Stage.COPYING:  # begun as a drop: the copy went with this
                self.paid(COPY)
        return self._left()

    def verify(self) -> list[Result]:
        """That columns and history row are gone, and that nothing else changed. Read-only."""
        state = self._state()
        with self.context.postgres.connect() as connection:
            now = catalog(connection)
        database, record = self.context.plan.database, state.record
        left = outcome.left_over(now, database, record)
        results = [
            self.result("gone", "The feature's columns, indexes and constraints are gone", *_none(left, "they are")),
            self.result(
                "history",
                "The migration is out of the history",
                *_none(
                    [f"{state.history} rows of migration {database.migration.version}"] if state.history else [], "it is"
                ),
            ),
        ]
        if record:
            others = outcome.changed(record.catalog, now, database, record)
            results.append(
                self.result("catalog", "Nothing else of the schema changed", *_none(others, "all else is as before"))
            )
            if record.stage is not Stage.PURGED:
                results.append(self._nothing_else(record))
        return results + self._validated()

    def undo(self) -> Facts:
        """Give the columns back with all they held, and the history row with them. Changes the target."""
        record = self._state().record
        left = returning.give_back(self.removal, self.progress, self.waiting)
        if conflicts := left.get("conflicts"):
            self.owe(CONFLICTS, f"the former values of {len(conflicts)} rows were not put back, and are kept apart")
        if record:
            self.paid(_debt(record))
        return left

    def purge_preview(self, debt: str) -> Preview:
        """What purging would destroy for good, counted by column. Read-only."""
        return removal_preview.of_purge(self.context, self.removal, self.name)

    def purge(self, debt: str) -> Facts:
        """Drop what is kept of the columns. Changes the target, for good."""
        lost = self.purge_preview(debt).volumes
        if debt == CONFLICTS:
            returning.purge_conflicts(self.removal)
        else:
            returning.purge(self.removal, self.waiting)
        self.paid(debt)
        return {"destroyed": dict(lost)}

    def _state(self) -> State:
        with self.removal.connect() as connection:
            return self.removal.state(connection)

    def _fingerprint(self) -> None:
        with self.removal.connect() as connection:
            self.removal.fingerprint.record(connection, without=self.context.plan.database.columns)

    def _left(self) -> Facts:
        record = self._state().record
        assert record
        if record.asides:
            return {"mode": record.mode, "set aside": record.asides}
        with self.removal.connect() as connection:
            snapshot = Snapshot(self.context.plan.database, self.context.run, record.definitions)
            return {"mode": record.mode, "copy": snapshot.copy.as_string(), "rows in it": snapshot.rows(connection)}

    def _nothing_else(self, record: Record) -> Result:
        title = "No other column of any row changed"
        fingerprint = self.removal.fingerprint
        with self.removal.connect() as connection:
            found = fingerprint.differences(
                connection, without=[*self.context.plan.database.columns, *record.asides.values()]
            )
            if found is None:
                return self.result("proof", title, Status.UNKNOWN, "this run kept no fingerprints before the change")
            rows = fingerprint.rows(connection)
        equal = f"the fingerprints of {rows} rows, made while nothing else wrote, are equal"
        return self.result("proof", title, *_none(found, equal), differences=found)

    def _validated(self) -> list[Result]:
        """What the migration tool itself says of history and files, where the plan names its validator. Read-only."""
        migration = self.context.plan.database.migration
        if migration.validate_ is None:
            return []
        done = self.context.processes.run(
            migration.validate_,
            cwd=self.context.checkout(migration.repository).path,
            timeout=VALIDATION_TIMEOUT,
            env={"PGSERVICE": self.context.target.database.service},
        )
        said = (done.errors or done.output).strip().splitlines()[-1:] or ["nothing"]
        return [
            self.result(
                "validator",
                "The migration tool finds history and files in agreement",
                Status.FAIL if done.exit_code else Status.PASS,
                f"{shown(done.command)} ended with {done.exit_code} and said: {redact(said[0])}",
            )
        ]


def _probed(state: State, gone: bool) -> Probe:
    match state.stage:
        case Stage.COPYING:
            return Probe(Effect.HALF_DONE, "the columns are there, and a copy of them was begun")
        case Stage.RESTORING:
            return Probe(Effect.HALF_DONE, "the columns are there again, and were not wholly put back")
        case Stage.REMOVED | Stage.PURGED if state.there:
            return Probe(
                Effect.UNKNOWN,
                f"this run removed {', '.join(state.there)}, yet there are such columns again: a migration on boot?",
            )
        case Stage.PURGED:
            return Probe(Effect.DONE, "the columns are purged")
        case Stage.REMOVED:
            assert state.record
            asides = ", ".join(f"{name} as {other}" for name, other in state.record.asides.items())
            return Probe(Effect.DONE, f"the columns are set aside, {asides}" if asides else "the columns are dropped")
    if gone:
        return Probe(Effect.DONE, "the columns are not there any more")
    return Probe(Effect.NOT_DONE, f"there are still: {', '.join(state.there) or 'indexes, constraints or the history row'}")


def _debt(record: Record) -> str:
    return SET_ASIDE if record.mode == "quarantine" else COPY


def _none(found: list[str], good: str) -> tuple[Status, str]:
    return (Status.FAIL, "; ".join(found)) if found else (Status.PASS, good)
