"""The plan of this project, and a target with nothing behind it but memory."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from runbook_lib.config.plan import Draft, Plan
from runbook_lib.config.target import Target
from runbook_lib.context import Context
from runbook_lib.context.adapters import Adapters
from runbook_lib.documents import load_plan, load_target
from runbook_lib.journal import Journal
from runbook_lib.journal.folder import RunFolder
from runbook_lib.journal.state import RunState
from runbook_lib.run import Run
from runbook_lib.services import MemoryServices
from runbook_lib.steps.take_back import TakeBackKeys
from runbook_lib.system.http import Answer, MemoryHttp
from runbook_lib.system.processes import ScriptedProcesses

from ..support.free_lease import FreeLease
from ..support.places import PLAN, TARGET

OPENED = datetime(2025, 11, 3, 12, 0, tzinfo=UTC)


@pytest.fixture(scope="session")
def plan() -> Plan:
    """The first plan, and a step of the one kind that it has no use for."""
    first = load_plan(PLAN)
    take_back = TakeBackKeys.model_validate({"kind": "take_back"})
    draft = Draft(changes="SHOP-1.changes.yaml", sha256="0" * 64)
    return first.model_copy(update={"steps": {**first.steps, "take-back": take_back}, "draft_": draft})


@pytest.fixture(scope="session")
def target() -> Target:
    names = ("ROOT", "BACKEND_URL", "FRONTEND_URL", "API_TOKEN", "PG_BIN", "PYTHON")
    environment = {f"REHEARSAL_{name}": f"http://{name.lower()}.test" for name in names}
    environment["REHEARSAL_APPLICATION_ROLE"] = "application"
    return load_target(TARGET, environment)


@dataclass
class World:
    """What stands behind the target: what each service runs once started, and who is connected to the database."""

    head: str = "5eed" * 10  # what every checkout holds
    versions: dict[str, str] = field(default_factory=dict)  # service -> what it says it runs, "" for nothing; else head
    connections: list[dict[str, Any]] = field(default_factory=list)
    open_ports: list[str] = field(default_factory=list)  # held by something else than the services

    def __post_init__(self) -> None:
        self.services = MemoryServices(["frontend", "backend", "worker"], self._launched)
        self.http = MemoryHttp(self._answered)
        self.processes = ScriptedProcesses(self._commanded)

    def start_all(self) -> None:
        for name in self.services.lines:
            self.services.start(name)

    @contextmanager
    def connect(self) -> Iterator["World"]:
        yield self

    def execute(self, *_: object) -> "World":
        return self

    def fetchall(self) -> list[dict[str, Any]]:
        return self.connections

    def listens(self, address: str) -> bool:
        return address in self.open_ports or any(name in address for name in self.services.running)

    def _version(self, name: str) -> str:
        return self.versions.get(name, self.head)

    def _launched(self, name: str) -> list[str]:
        said = self._version(name)
        return [f"{datetime.now(UTC).isoformat()} {name} version {said} started"] if said else []

    def _answered(self, url: str, token: str | None) -> Answer:
        name = "backend" if "backend" in url else "frontend"
        if name not in self.services.running:
            raise ConnectionRefusedError("refused")
        said = self._version(name)
        return Answer.of(200, f'{{"version": "{said}"}}' if said else "{}")

    def _commanded(self, command: tuple[str, ...]) -> tuple[int, str, str]:
        return (0, f"{self.head}\n", "") if command == ("git", "rev-parse", "HEAD") else (1, "", "not scripted")


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def context(plan: Plan, target: Target, world: World, tmp_path: Path) -> Context:
    """A full rollback whose adapters are all in memory; a test replaces some of them."""
    impatient = target.model_copy(update={"services": target.services.model_copy(update={"timeout": 0})})
    folder = RunFolder.create(tmp_path, "INC-1", "full")
    adapters = Adapters(
        impatient,
        folder,
        services=world.services,
        listens=world.listens,
        http=world.http,
        processes=world.processes,
        postgres=world,
        token="unit-bearer",
        lease=FreeLease(),
    )
    return Context(plan, impatient, folder, adapters, RunState({"option": "A"}, OPENED.isoformat(), "full"), "Dana")


@pytest.fixture
def run(context: Context) -> Run:
    """The run of that context, just opened."""
    Journal(context.folder.journal_path).append(
        "opened",
        plan=context.plan.feature,
        target=context.target.name,
        environment=context.target.environment,
        type="full",
        option="A",
        operator="Dana",
        reason="no pictures",
        incident="INC-1",
    )
    return Run(context.folder, context)


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder.create(tmp_path, "INC-1", "full")
