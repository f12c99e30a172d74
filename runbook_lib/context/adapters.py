"""The adapters of steps and checks to the outside world; each is created on first use, or passed in."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, closing, nullcontext
from pathlib import Path
from typing import Any, TypedDict, TypeVar, Unpack

from psycopg.conninfo import make_conninfo

from runbook_lib.browser import Browser
from runbook_lib.browser.chromium import ChromiumBrowser, of_this_process
from runbook_lib.config.loading import secret
from runbook_lib.config.target import PoolerTarget, Target
from runbook_lib.errors import PreconditionError
from runbook_lib.journal.folder import RunFolder
from runbook_lib.postgres.connection import Postgres
from runbook_lib.postgres.dump import DumpTools
from runbook_lib.postgres.lease import Lease, guard
from runbook_lib.postgres.pooler import Pooler
from runbook_lib.postgres.restore.dump_inspector import Dump, look
from runbook_lib.redaction import register
from runbook_lib.services import Services, connect
from runbook_lib.system import temporary
from runbook_lib.system.http import DirectHttp, Http, is_open
from runbook_lib.system.processes import LocalProcesses, Processes

T = TypeVar("T")


class Twins(TypedDict, total=False):
    """Adapters that can be passed in, in place of those that would be created."""

    processes: Processes
    services: Services
    listens: Callable[[str], bool]
    http: Http
    browser: Browser
    postgres: Postgres
    lease: Lease
    dump_tools: DumpTools
    dump: Dump
    token: str


class Adapters:
    """The adapters of one run to its target; thread-safe."""

    def __init__(self, target: Target, folder: RunFolder, operator: str = "", **twins: Unpack[Twins]) -> None:
        self.target, self.folder, self.operator = target, folder, operator
        self.prepared: dict[str, Any] = {}  # results in the scratch directory
        self.pausing: Callable[..., AbstractContextManager[None]] = (
            nullcontext  # pauses the poolers' clients while a step acts
        )
        self._twins = twins
        self._made: dict[str, Any] = dict(twins)
        self._closing = ExitStack()
        self._lock = threading.RLock()

    def but(self, **twins: Unpack[Twins]) -> Adapters:
        """Return the same adapters with some replaced."""
        return Adapters(self.target, self.folder, self.operator, **{**self._made, **twins})

    @property
    def processes(self) -> Processes:
        """The runner of commands."""
        return self._once("processes", LocalProcesses)

    @property
    def services(self) -> Services:
        """The manager of the target's services."""
        return self._once("services", lambda: connect(self.target.services, self.processes))

    @property
    def listens(self) -> Callable[[str], bool]:
        """The test whether anything listens at an address."""
        return self._once("listens", lambda: is_open)

    @property
    def http(self) -> Http:
        """The HTTP client."""
        return self._once("http", lambda: self._closing.enter_context(closing(DirectHttp())))

    @property
    def browser(self) -> Browser:
        """The browser."""
        return self._once("browser", lambda: self._closing.enter_context(closing(of_this_process())))

    def close_browser(self) -> None:
        """End the browser, if any, so that it no longer writes to a profile."""
        if isinstance(browser := self._made.get("browser"), ChromiumBrowser):
            browser.close()

    @property
    def postgres(self) -> Postgres:
        """The target's database."""

        def made() -> Postgres:
            database = self.target.database
            asked, paused = guard(lambda: self.lease), lambda: self.pausing()
            return Postgres(database.service, self.folder.short, asked, paused, dbname=database.dbname)

        return self._once("postgres", made)

    @property
    def poolers(self) -> list[Pooler]:
        """The poolers of the services' connections to the database."""
        return [self._pooler(each) for each in self.target.pooler]

    def _pooler(self, described: PoolerTarget) -> Pooler:
        databases, limit = tuple(described.databases), described.limit_ms / 1000
        if described.service:
            return Pooler(make_conninfo(service=described.service), databases, limit)
        where = make_conninfo(host=described.host, port=described.port, user=described.user, dbname="pgbouncer")
        password = described.password
        return Pooler(where, databases, limit, self.secret(password.env, "target, key pooler") if password else None)

    @property
    def lease(self) -> Lease:
        """This run's lease on the target, which each writing transaction checks."""
        schema = self.target.database.schema_
        return self._once("lease", lambda: Lease(self.postgres, self.folder.id, self.operator, schema))

    @property
    def dump_tools(self) -> DumpTools:
        """The tools that dump and restore the database."""

        def made() -> DumpTools:
            database = self.target.database
            return DumpTools(self.processes, database.tools, database.service, dbname=database.dbname)

        return self._once("dump_tools", made)

    def dump(self, find: Callable[[], Path | None]) -> Dump:
        """Return the backup to restore; calls `find` once.

        Raises:
            PreconditionError: There is none.
        """

        def made() -> Dump:
            if path := find():
                return look(self.dump_tools, path)
            backups = self.target.backups
            raise PreconditionError(
                f"There is no {backups.pattern} in {backups.directory}.",
                state="Nothing was touched.",
                safe_next="Copy the backup from before the feature's data were written there.",
            )

        return self._once("dump", made)

    @property
    def token(self) -> str:
        """The API's bearer token."""
        where = f"target {self.target.name}, key api_token"
        name = self.target.api_token.env if self.target.api_token else ""
        return self._once("token", lambda: register(secret(name, where)))

    @property
    def reference_token(self) -> str:
        """The bearer token of the API from before the feature: its own, else the API's."""
        reference = self.target.reference_api
        if reference is None or reference.token is None:
            return self.token
        name, where = reference.token.env, f"target {self.target.name}, key reference_api"
        return self._once("reference_token", lambda: register(secret(name, where)))

    def secret(self, name: str, where: str) -> str:
        """Return a secret from an environment variable; from now on, it is redacted wherever it is written. Read-only.

        Raises:
            ParametersError: The variable is not set, or empty.
        """
        return register(secret(name, where))

    @property
    def scratch(self) -> Path:
        """A temporary directory that is removed with these adapters."""
        return self._once("scratch", lambda: self._closing.enter_context(temporary.directory()))

    def at_close(self, act: Callable[[], object]) -> None:
        """Register an action for when these adapters are closed."""
        self._closing.callback(act)

    def close(self) -> None:
        """Close the browser, the connections and the scratch directory; each is created again on its next use."""
        self._closing.close()
        for name in {"http", "browser", "scratch"} - self._twins.keys():
            self._made.pop(name, None)
        self.prepared.clear()

    def _once(self, name: str, make: Callable[[], T]) -> T:
        with self._lock:
            if name not in self._made:
                self._made[name] = make()
            made: T = self._made[name]
            return made
