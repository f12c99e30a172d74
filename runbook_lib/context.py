"""What steps and checks work with: the plan, the target, its adapters, and the run's own facts."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Collection, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from runbook_lib.adapters.browser import Browser, of_this_process
from runbook_lib.adapters.git import Checkout
from runbook_lib.adapters.http import DirectHttp, Http
from runbook_lib.adapters.ports import is_open
from runbook_lib.adapters.postgres.backfill import Backfill
from runbook_lib.adapters.postgres.census import Census
from runbook_lib.adapters.postgres.connection import Postgres
from runbook_lib.adapters.postgres.dump import DumpTools
from runbook_lib.adapters.postgres.lease import Lease
from runbook_lib.adapters.postgres.restore.look import Dump, look, newest
from runbook_lib.adapters.processes import LocalProcesses, Processes
from runbook_lib.adapters.services import Services, connect
from runbook_lib.errors import PreconditionError
from runbook_lib.folder import RunFolder
from runbook_lib.parameters import secret
from runbook_lib.plan import Plan, StepSpec
from runbook_lib.redaction import register
from runbook_lib.target import Target


@dataclass
class Context:
    """One run's plan, target and adapters; each adapter is made when it is first asked for."""

    plan: Plan
    target: Target
    folder: RunFolder
    type: str
    option: str
    operator: str
    opened_at: datetime
    opened_by: str = ""  # whose name the commits bear, whoever carries the run on: they are approved by their ids
    approved: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # step -> the facts that were approved
    approved_volumes: Mapping[str, Mapping[str, int]] = field(default_factory=dict)  # step -> its approved numbers
    approved_keys: Mapping[str, str] = field(default_factory=dict)  # step -> the hash of its approved list of rows
    outcomes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # step -> what it left, by the journal
    done: frozenset[str] = frozenset()  # the steps that the journal has finished
    choices: Mapping[str, str] = field(default_factory=dict)  # what the engineer chose besides type and option
    report: Callable[..., object] = lambda kind, **data: None  # journals what a step tells while it acts
    debts: Callable[[], Collection[str]] = lambda: ()  # the debts open now, by the journal
    prepared: dict[str, Any] = field(default_factory=dict)  # what was made in the scratch directory
    _closing: ExitStack = field(default_factory=ExitStack)

    @property
    def run(self) -> str:
        """A short name for this run that fits into an identifier."""
        return hashlib.sha256(self.folder.id.encode()).hexdigest()[:12]

    @property
    def specs(self) -> dict[str, StepSpec]:
        """The plan's steps for the run's type and option, in order; none before a type is chosen."""
        names = self.plan.steps_of(self.type, self.option) if self.type else []
        return {name: self.plan.steps[name] for name in names}

    @property
    def schema_stays(self) -> bool:
        """Whether this rollback leaves the feature's columns, and so the migration that made them."""
        return self.option == "A" or (self.option == "C" and bool(self.dump.columns_of_feature(self.plan.database)))

    @cached_property
    def processes(self) -> Processes:
        """What runs commands."""
        return LocalProcesses()

    @cached_property
    def services(self) -> Services:
        """What manages the target's services."""
        return connect(self.target.services, self.processes)

    @cached_property
    def listens(self) -> Callable[[str], bool]:
        """What tells whether anything listens at an address."""
        return is_open

    @cached_property
    def http(self) -> Http:
        """What makes requests."""
        http = DirectHttp()
        self._closing.callback(http.close)
        return http

    @cached_property
    def browser(self) -> Browser:
        """What opens pages."""
        browser = of_this_process()
        self._closing.callback(browser.close)
        return browser

    @cached_property
    def postgres(self) -> Postgres:
        """The target's database."""
        return Postgres(self.target.database.service, self.run, lambda connection: self.lease.check(connection))

    @cached_property
    def lease(self) -> Lease:
        """This run's hold on the target, which is checked in each transaction that writes to it."""
        return Lease(self.postgres, self.folder.id, self.operator)

    @cached_property
    def dump_tools(self) -> DumpTools:
        """The tools that back the database up."""
        return DumpTools(self.processes, self.target.database.tools, self.target.database.service)

    @cached_property
    def dump(self) -> Dump:
        """The backup that a restore takes: the one that was approved, else the newest.

        Raises:
            PreconditionError: There is none.
        """
        backups = self.target.backups
        approved = next((Path(facts["dump"]) for facts in self.approved.values() if "dump" in facts), None)
        path = approved or newest(Path(backups.directory), backups.pattern)
        if path is None:
            raise PreconditionError(
                f"There is no {backups.pattern} in {backups.directory}.",
                state="Nothing was touched.",
                safe_next="Put the backup there that was taken before the feature's data were written.",
            )
        return look(self.dump_tools, path)

    @property
    def backfill(self) -> Backfill:
        """The feature's backfill, as SQL; what becomes of edited entries is the engineer's choice, else the plan's."""
        spec = self.plan.database.backfill
        chosen = spec.model_copy(update={"edited": self.choices.get("EDITED", spec.edited)})
        return Backfill(self.plan.database.model_copy(update={"backfill": chosen}), self.run)

    @property
    def census(self) -> Census:
        """Counts of what the backfilled column holds."""
        return Census(self.backfill)

    @cached_property
    def token(self) -> str:
        """The API's bearer token."""
        return register(secret(self.target.api_token.env, f"target {self.target.name}, key api_token"))

    @cached_property
    def reference_token(self) -> str:
        """The bearer token of the API from before the feature: its own, else the API's."""
        reference = self.target.reference_api
        if reference is None or reference.token is None:
            return self.token
        return register(secret(reference.token.env, f"target {self.target.name}, key reference_api"))

    @cached_property
    def scratch(self) -> Path:
        """A temporary directory that goes with this context."""
        directory = tempfile.TemporaryDirectory(prefix="runbook-", ignore_cleanup_errors=True)
        return Path(self._closing.enter_context(directory))

    def checkout(self, repository: str) -> Checkout:
        """The checkout that a repository is deployed from."""
        return Checkout(Path(self.target.repositories[repository].path), self.processes)

    def close(self) -> None:
        """Let go of the browser, the connections and the scratch directory; each is made anew when asked for again."""
        self._closing.close()
        for name in ("http", "browser", "scratch"):
            self.__dict__.pop(name, None)
        self.prepared.clear()
