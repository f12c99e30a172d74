"""The adapters through which steps and checks reach the world: each is made when it is first asked for, or handed in."""

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
    """What can be handed in, in place of what would be made."""

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
    """What one run reaches its target with; several threads may ask."""

    def __init__(self, target: Target, folder: RunFolder, operator: str = "", **twins: Unpack[Twins]) -> None:
        self.target, self.folder, self.operator = target, folder, operator
        self.prepared: dict[str, Any] = {}  # what was made in the scratch directory
        self.pausing: Callable[..., AbstractContextManager[None]] = (
            nullcontext  # has poolers' clients wait, while a step acts
        )
        self._twins = twins
        self._made: dict[str, Any] = dict(twins)
        self._closing = ExitStack()
        self._lock = threading.RLock()

    def but(self, **twins: Unpack[Twins]) -> Adapters:
        """The same adapters, some of them replaced."""
        return Adapters(self.target, self.folder, self.operator, **{**self._made, **twins})

    @property
    def processes(self) -> Processes:
        """What runs commands."""
        return self._once("processes", LocalProcesses)

    @property
    def services(self) -> Services:
        """What manages the target's services."""
        return self._once("services", lambda: connect(self.target.services, self.processes))

    @property
    def listens(self) -> Callable[[str], bool]:
        """What tells whether anything listens at an address."""
        return self._once("listens", lambda: is_open)

    @property
    def http(self) -> Http:
        """What makes requests."""
        return self._once("http", lambda: self._closing.enter_context(closing(DirectHttp())))

    @property
    def browser(self) -> Browser:
        """What opens pages."""
        return self._once("browser", lambda: self._closing.enter_context(closing(of_this_process())))

    def close_browser(self) -> None:
        """End the browser where there is one, so that it writes to no profile any more."""
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
        """What pools the services' connections to it."""
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
        """This run's hold on the target, which is checked in each transaction that writes to it."""
        return self._once("lease", lambda: Lease(self.postgres, self.folder.id, self.operator))

    @property
    def dump_tools(self) -> DumpTools:
        """The tools that back the database up."""

        def made() -> DumpTools:
            database = self.target.database
            return DumpTools(self.processes, database.tools, database.service, dbname=database.dbname)

        return self._once("dump_tools", made)

    def dump(self, find: Callable[[], Path | None]) -> Dump:
        """The backup that a restore takes; `find` is asked for it once.

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
                safe_next="Put the backup there that was taken before the feature's data were written.",
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
        """The secret that the environment holds under a name; it is hidden wherever it is written from now on. Read-only.

        Raises:
            ParametersError: It is not there, or empty.
        """
        return register(secret(name, where))

    @property
    def scratch(self) -> Path:
        """A temporary directory that goes with these adapters."""
        return self._once("scratch", lambda: self._closing.enter_context(temporary.directory()))

    def at_close(self, act: Callable[[], object]) -> None:
        """Have something done when these adapters are closed."""
        self._closing.callback(act)

    def close(self) -> None:
        """Let go of the browser, the connections and the scratch directory; each is made again when asked for again."""
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
