"""Option B: take the columns that the feature added out of the table."""

from collections.abc import Mapping
from functools import cached_property

from runbook_lib.adapters.postgres.catalog import Catalog, catalog
from runbook_lib.adapters.postgres.clone import Clone
from runbook_lib.adapters.postgres.removal import HALF_BACK, Record, Removal, Stage, State, definitions, returning, taking
from runbook_lib.adapters.postgres.removal.snapshot import Snapshot
from runbook_lib.plan import RemoveColumnsStep
from runbook_lib.results import Result, Status
from runbook_lib.steps import removal_preview, trial
from runbook_lib.steps.base import Effect, Facts, Preview, Probe, Step
from runbook_lib.steps.interlock import no_feature_service
from runbook_lib.steps.removal_checks import RemovalChecks
from runbook_lib.steps.services import no_connections

SET_ASIDE, COPY, CONFLICTS = "columns-set-aside", "copy-of-dropped-columns", "values-not-put-back"
DEBTS = {"quarantine": SET_ASIDE, "drop": COPY}


class RemoveColumns(Step):
    """Set the plan's columns aside, or drop them and keep a copy, together with the migration's row in its history."""

    WORKS_IN_PARTS = True
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
        return self.chosen("REMOVAL")

    def default(self, choice: str) -> str:
        """The plan's mode. Read-only."""
        assert isinstance(self.spec, RemoveColumnsStep)
        return self.spec.mode

    def preview(self) -> Preview:
        """What would go, what of it is lost, what is in the way. Read-only.

        Raises:
            PreconditionError: The plan names something that is not there.
        """
        return removal_preview.of_removal(self.context, self.removal, self.name, self.mode)

    def tried(self, preview: Preview) -> Result | None:
        """Remove the columns of a schema-only clone, and give them back. Changes nothing in the target's database."""
        with self.removal.connect() as connection:
            if self.removal.state(connection).stage or self.removal.is_gone(connection):
                return None
            rows = self.removal.history.whole(connection)
        mode = preview.facts["mode"]

        def there_and_back(clone: Clone) -> None:
            removal = Removal(clone, self.context.plan.database, self.context.run)
            with clone.connect() as connection:
                removal.history.put_back(connection, rows)
            if mode == "drop":
                taking.copy(removal, {}, _silent, _silent)
                taking.drop(removal, _silent)
            else:
                taking.set_aside(removal, {}, _silent)
            returning.give_back(removal, _silent, _silent)

        return trial.tried(self.context, f"{mode} and undo", there_and_back)

    def probe(self) -> Probe:
        """Whether the columns are there, and what this run did about them. Read-only."""
        with self.removal.connect() as connection:
            return _probed(self.removal.state(connection), self.removal.is_gone(connection))

    def preconditions(self) -> list[Result]:
        """That nothing of the feature's version lives, and that nothing hangs on the columns. Read-only."""
        alive = [no_connections(self.context, self.name), no_feature_service(self.context, self.name)]
        with self.removal.connect() as connection:
            if self.removal.state(connection).stage in HALF_BACK:
                return alive
            found = definitions.read(connection, self.context.plan.database)
            lines = self.removal.missing(connection, found) + self.removal.in_the_way(connection, self.mode, found)
        status, summary = (Status.FAIL, "; ".join(lines)) if lines else (Status.PASS, "nothing does")
        return [
            *alive,
            self.result("dependents", "Nothing that the plan does not name hangs on the columns", status, summary),
        ]

    def apply(self) -> Facts:
        """Fingerprint the columns that stay, then set the others aside, or copy and drop them. Changes the target.

        Raises:
            PreconditionError: Something the plan names is missing, something hangs on it, or the locks were not to be had.
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
            self.owe(
                COPY, "the values of the dropped columns are kept in a copy in the database; purge it, or undo the step"
            )
            with self.in_parts():
                taking.copy(self.removal, shape, self.part, self.waiting)
            self._fingerprint()
            taking.drop(self.removal, self.waiting)
        else:
            self.owe(SET_ASIDE, "the feature's columns are set aside under other names; purge them, or undo the step")
            self._fingerprint()
            taking.set_aside(self.removal, shape, self.waiting)
            if record:  # begun as a drop, whose copy went with this
                self.paid(COPY)
        return self._left()

    def verify(self) -> list[Result]:
        """That columns and history row are gone, that nothing else changed, and what the migration tool says. Read-only."""
        return RemovalChecks(self.context, self.removal, self.name).all()

    def undo(self) -> Facts:
        """Give the columns back with all they held, and the history row with them. Changes the target."""
        with self.in_parts():
            left = returning.give_back(self.removal, self.part, self.waiting)
        if conflicts := left.get("conflicts"):
            self.owe(CONFLICTS, f"the former values of {conflicts} rows were not put back, and are kept apart")
        for debt in self.context.debts():
            if debt in DEBTS.values():
                self.paid(debt)
        return left

    def purge_preview(self, debt: str) -> Preview:
        """What purging would destroy for good, counted by column. Read-only."""
        if debt == CONFLICTS:
            return removal_preview.of_purge_of_conflicts(self.context, self.removal, self.name)
        return removal_preview.of_purge(self.context, self.removal, self.name, self._owed(debt))

    def purge(self, debt: str) -> Facts:
        """Drop what is kept of the columns. Changes the target, for good."""
        lost = self.purge_preview(debt).volumes
        if debt == CONFLICTS:
            returning.purge_conflicts(self.removal)
        elif self._owed(debt):
            returning.purge(self.removal, self.waiting)
        self.paid(debt)
        return {"destroyed": dict(lost)}

    def _owed(self, debt: str) -> Record | None:
        """The record of the removal that left a debt, if it is this run's present one. Read-only."""
        record = self._state().record
        return record if record and DEBTS[record.mode] == debt else None

    def _state(self) -> State:
        with self.removal.connect() as connection:
            return self.removal.state(connection)

    def _catalog(self) -> Catalog:
        with self.context.postgres.connect() as connection:
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
            snapshot = Snapshot(self.context.plan.database, self.context.run, record.definitions)
            return {"mode": record.mode, "copy": snapshot.copy.as_string(), "rows in it": snapshot.rows(connection)}


def _silent(*_: object) -> None:
    """Tell nobody."""


def _probed(state: State, gone: bool) -> Probe:
    match state.stage:
        case Stage.COPYING:
            return Probe(Effect.HALF_DONE, "the columns are there, and a copy of them was begun")
        case Stage.FILLING | Stage.RESTORING:
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
