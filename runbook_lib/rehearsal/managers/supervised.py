"""Services of a stack that supervisord runs itself, each as a command."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal, Self

from runbook_lib.config.loading import Model
from runbook_lib.config.plan.steps import Name
from runbook_lib.config.target import Command
from runbook_lib.rehearsal.managers import ManagerKeys, filled
from runbook_lib.rehearsal.supervisor import Program, Supervisor


class Run(Model):
    """A service as a command."""

    command: Command
    """The command."""
    directory: str
    """The folder that it runs in."""
    environment: dict[str, str] = {}
    """What it has in its environment."""


class Supervised(ManagerKeys):
    """Services under supervisord."""

    manager: Literal["supervisor"]
    run: dict[Name, Run]
    """The services."""

    def require(self) -> None:
        """See `ManagerKeys.require`: supervisord is a Python package."""

    def with_environment(self, more: Mapping[str, Mapping[str, str]]) -> Self:
        """See `ManagerKeys.with_environment`."""
        of = {name: {"environment": {**one.environment, **more.get(name, {})}} for name, one in self.run.items()}
        return self.model_copy(update={"run": {name: one.model_copy(update=of[name]) for name, one in self.run.items()}})

    def variables(self, root: Path) -> dict[str, str]:
        """See `ManagerKeys.variables`."""
        return {}

    def programs(self, environment: Mapping[str, str]) -> list[Program]:
        """See `ManagerKeys.programs`."""
        run = filled({name: one.model_dump() for name, one in self.run.items()}, environment, "supervisor")
        return [Program(name, one["command"], Path(one["directory"]), one["environment"]) for name, one in run.items()]

    def start(self, supervised: Supervisor, environment: Mapping[str, str], login: Mapping[str, str]) -> None:
        """See `ManagerKeys.start`; they find the database by the service file."""
        for name in self.run:
            supervised.start(name)

    def lives(self, supervised: Supervisor, name: str) -> bool:
        """See `ManagerKeys.lives`."""
        return supervised.running(name)

    def log(self, supervised: Supervisor, environment: Mapping[str, str], name: str) -> Path:
        """See `ManagerKeys.log`."""
        return supervised.log(name)
