"""The context of steps and checks: plan, target, adapters, and the journaled state."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from runbook_lib.config.compatibility import BEFORE, BOTH, FEATURE, Rules, Sides, StepEffect
from runbook_lib.config.plan import Backfill as ListSpec
from runbook_lib.config.plan import BackfillOfColumn, DatabaseStep, Plan, RepositoryStep, RestoringStep, StepSpec
from runbook_lib.config.target import Target
from runbook_lib.context.adapters import Adapters
from runbook_lib.context.before import newest_before
from runbook_lib.context.host_lease import HostLease
from runbook_lib.git import Checkout
from runbook_lib.journal.control import Reporter
from runbook_lib.journal.folder import RunFolder
from runbook_lib.journal.state import RunState
from runbook_lib.postgres import Connection
from runbook_lib.postgres.backfill import Backfill, list_terms
from runbook_lib.postgres.backfill_statistics import BackfillStatistics
from runbook_lib.postgres.restore.dump_inspector import Dump

AnySpec = TypeVar("AnySpec", bound=BackfillOfColumn)


@dataclass
class Context:
    """One run: its plan, its target, and its state at the last read of the journal."""

    plan: Plan
    target: Target
    folder: RunFolder
    adapters: Adapters
    state: RunState
    operator: str
    reporter: Reporter = field(default_factory=Reporter)
    now: Callable[[], datetime] = lambda: datetime.now(UTC)  # on the clock that the run began with
    after_undo: bool = False  # whether what a fleet's other runs did counts as undone

    @property
    def type(self) -> str:
        """The rollback type, "" before one is chosen."""
        return self.state.type

    @property
    def option(self) -> str:
        """The run's option for the data."""
        return self.state.option

    @property
    def specs(self) -> dict[str, StepSpec]:
        """The plan's steps for the run's type and option, in order; none before a type is chosen."""
        names = self.plan.steps_of(self.type, self.option) if self.type else []
        return {name: self.plan.steps[name] for name in names}

    @property
    def touches_database(self) -> bool:
        """Whether any step of the type changes or reads the database."""
        return any(isinstance(spec, DatabaseStep) for spec in self.specs.values())

    @property
    def schema_stays(self) -> bool:
        """Whether this rollback keeps the feature's columns, and so its migration, but restores the previous data."""
        rules = Rules(self.plan, self.target.services.built_from, self.restored)
        return rules.state(StepEffect(name) for name in self.specs).database == {(FEATURE, BEFORE)}

    @property
    def restored(self) -> Sides:
        """The schema in the backup that a step of this rollback restores; both if no step does. Read-only.

        Raises:
            PreconditionError: There is no backup.
        """
        if not any(isinstance(spec, RestoringStep) for spec in self.specs.values()):
            return BOTH
        return frozenset({FEATURE if self.dump.columns_of_feature(self.plan.database) else BEFORE})

    @property
    def begun(self) -> Mapping[str, tuple[datetime, datetime]]:
        """Each step that was begun and did not succeed: the start of its last try, and the time of the next event."""
        tries = self.state.tries.items()
        return {
            name: (began, after or self.now())
            for name, (began, after) in tries
            if self.state.step(name).status in ("started", "failed")
        }

    @property
    def host_lease(self) -> HostLease:
        """This run's lock on the target's checkouts that it may write to; it needs no database.

        A checkout that other targets share is locked only where a step changes it.
        """
        named = {spec.repository for spec in self.specs.values() if isinstance(spec, RepositoryStep)}
        own = [name for name, about in self.target.repositories.items() if name in named or not about.shared]
        found = {name: self.checkout(name).own_directory() for name in own}
        kept = [path for name, path in found.items() if path and (name in named or os.access(path.parent, os.W_OK))]
        return HostLease(kept, self.folder.path, self.operator)

    @property
    def dump(self) -> Dump:
        """The backup to restore: the approved one, else the newest.

        Raises:
            PreconditionError: There is none.
        """
        approved = [step["facts"]["dump"] for step in self.state.agreed.values() if "dump" in step["facts"]]
        return self.adapters.dump(lambda: Path(approved[0]) if approved else newest_before(self).path)

    def backfill(self, connection: Connection) -> Backfill:
        """Return the feature's backfill as SQL, with the engineer's choice on edited entries, else the plan's. Read-only."""
        database = self.plan.database
        number = next(n for n, each in enumerate(self.plan.backfills) if each.is_on(database) and isinstance(each, ListSpec))
        chosen = self.as_chosen(database.backfill)
        return list_terms(connection, database.model_copy(update={"backfill": chosen}), self.run_of(number))

    def as_chosen(self, spec: AnySpec) -> AnySpec:
        """Return a backfill of the plan with the engineer's choice on edited values."""
        return spec.model_copy(update={"edited": self.state.choices.get("EDITED", spec.edited)})

    def run_of(self, backfill: int) -> str:
        """Return the name suffix of the run's tables for the plan's backfill of this number."""
        return f"{self.folder.short}_{backfill}" if backfill else self.folder.short

    def statistics(self, connection: Connection) -> BackfillStatistics:
        """Count the values in the backfilled column. Read-only."""
        return BackfillStatistics(self.backfill(connection))

    def checkout(self, repository: str) -> Checkout:
        """Return the checkout from which a repository is deployed."""
        target = self.target.repositories[repository]
        return Checkout(Path(target.path), self.adapters.processes, target.hook_timeout)
