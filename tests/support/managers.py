"""Service managers as a target describes them."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from runbook_lib.services import Services, connect
from runbook_lib.services.docker import DockerTarget
from runbook_lib.services.pm2 import Pm2Target
from runbook_lib.services.supervisor import SupervisorTarget
from runbook_lib.system.processes import LocalProcesses, Processes

from .docker import Docker
from .pm2 import Pm2
from .supervisor import Supervisord
from .waiting import until

TIMEOUT = 60  # seconds; a slow machine takes most of them
COMMON: dict[str, Any] = {"versions": {}, "built_from": {}}


def by_socket(made: Supervisord, timeout: int = TIMEOUT) -> SupervisorTarget:
    return SupervisorTarget(manager="supervisor", socket=str(made.socket), timeout=timeout, **COMMON)


def by_pm2(made: Pm2, processes: Processes | None = None, home: Path | None = None, **patience: Any) -> Services:
    settings = {"timeout": TIMEOUT, "steady": 0, **COMMON, **patience}
    described = Pm2Target(manager="pm2", home=str(home or made.home), command=[made.command], **settings)
    return connect(described, processes or LocalProcesses())


def by_docker(made: Docker, timeout: int = TIMEOUT, steady: float = 0, **more: Any) -> Services:
    where = {"directory": str(made.project), "project": "contract", "host": made.host}
    described = DockerTarget(manager="docker-compose", timeout=timeout, steady=steady, **{**where, **COMMON, **more})
    return connect(described, LocalProcesses())


def start_and_hear(services: Services, name: str) -> None:
    moment = datetime.now(UTC)
    services.start(name)
    until(lambda: any("second line" in line for line in services.logs(name, moment)), f"{name} says that it started")
