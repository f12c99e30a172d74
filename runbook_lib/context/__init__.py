"""What steps and checks work with: the plan, the target, the adapters that reach it, and what the journal says."""

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
    """One run: its plan, its target, and its state when the journal was read last."""

    plan: Plan
    target: Target
    folder: RunFolder
    adapters: Adapters
    state: RunState
    operator: str
    reporter: Reporter = field(default_factory=Reporter)
    now: Callable[[], datetime] = lambda: datetime.now(UTC)  # by the clock that the run began with

    @property
    def type(self) -> str:
        """The rollback type, "" before one is chosen."""
        return self.state.type

    @property
    def option(self) -> str:
        """What happens to the data."""
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
        """Whether this rollback leaves the feature's columns under data from before, and so the migration that made them."""
        rules = Rules(self.plan, self.target.services.built_from, self.restored)
        return rules.state(StepEffect(name) for name in self.specs).database == {(FEATURE, BEFORE)}

    @property
    def restored(self) -> Sides:
        """Which schema the backup brings that a step of this rollback restores; both where none does. Read-only.

        Raises:
            PreconditionError: There is no backup.
        """
        if not any(isinstance(spec, RestoringStep) for spec in self.specs.values()):
            return BOTH
        return frozenset({FEATURE if self.dump.columns_of_feature(self.plan.database) else BEFORE})

    @property
    def begun(self) -> Mapping[str, tuple[datetime, datetime]]:
        """Each step that was begun and did not end well: when its last try began, and when something came after it."""
        tries = self.state.tries.items()
        return {
            name: (began, after or self.now())
            for name, (began, after) in tries
            if self.state.step(name).status in ("started", "failed")
        }

    @property
    def host_lease(self) -> HostLease:
        """This run's hold on the target's checkouts, where it may write to them; it needs no database."""
        named = {spec.repository for spec in self.specs.values() if isinstance(spec, RepositoryStep)}
        found = {name: self.checkout(name).own_directory() for name in self.target.repositories}
        kept = [path for name, path in found.items() if path and (name in named or os.access(path.parent, os.W_OK))]
        return HostLease(kept, self.folder.path, self.operator)

    @property
    def dump(self) -> Dump:
        """The backup that a restore takes: the one that was approved, else the newest.

        Raises:
            PreconditionError: There is none.
        """
        approved = [step["facts"]["dump"] for step in self.state.agreed.values() if "dump" in step["facts"]]
        return self.adapters.dump(lambda: Path(approved[0]) if approved else newest_before(self).path)

    def backfill(self, connection: Connection) -> Backfill:
        """The feature's backfill, as SQL, with the engineer's choice about edited entries, else the plan's. Read-only."""
        database = self.plan.database
        number = next(n for n, each in enumerate(self.plan.backfills) if each.is_on(database) and isinstance(each, ListSpec))
        chosen = self.as_chosen(database.backfill)
        return list_terms(connection, database.model_copy(update={"backfill": chosen}), self.run_of(number))

    def as_chosen(self, spec: AnySpec) -> AnySpec:
        """A backfill as the plan has it, with the engineer's choice about edited values."""
        return spec.model_copy(update={"edited": self.state.choices.get("EDITED", spec.edited)})

    def run_of(self, backfill: int) -> str:
        """What the tables are named after that the run keeps of the plan's backfill of this number."""
        return f"{self.folder.short}_{backfill}" if backfill else self.folder.short

    def statistics(self, connection: Connection) -> BackfillStatistics:
        """Counts of what the backfilled column holds. Read-only."""
        return BackfillStatistics(self.backfill(connection))

    def checkout(self, repository: str) -> Checkout:
        """The checkout that a repository is deployed from."""
        target = self.target.repositories[repository]
        return Checkout(Path(target.path), self.adapters.processes, target.hook_timeout)
