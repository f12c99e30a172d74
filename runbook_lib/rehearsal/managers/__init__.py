"""What manages the services of a stack; each kind of manager is a module here."""

import os
from abc import ABC, abstractmethod
from collections.abc import Mapping
from functools import cache
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Self, TypeVar

from runbook_lib.config.kinds import classes_of
from runbook_lib.config.loading import Model, filled_in
from runbook_lib.rehearsal.supervisor import Program, Supervisor

T = TypeVar("T")


class ManagerKeys(Model, ABC):
    """The services of a stack under one kind of manager."""

    manager: str
    """The kind of manager."""

    @abstractmethod
    def require(self) -> None:
        """Make sure that the manager's own programs are here. Read-only.

        Raises:
            PreconditionError: One is missing, or may not be used.
        """

    @abstractmethod
    def with_environment(self, more: Mapping[str, Mapping[str, str]]) -> Self:
        """Return the same with more in the environment of some services. Pure."""

    @abstractmethod
    def variables(self, root: Path) -> dict[str, str]:
        """Return what the target's file takes from the environment about the manager. Read-only."""

    @abstractmethod
    def programs(self, environment: Mapping[str, str]) -> list[Program]:
        """Return what supervisord runs: the services, or the manager's daemon. Read-only."""

    @abstractmethod
    def start(self, supervised: Supervisor, environment: Mapping[str, str], login: Mapping[str, str]) -> None:
        """Start all services, without waiting for their health; `login` has libpq's variables for them. Changes the stack.

        Raises:
            StackError: The manager refuses.
        """

    @abstractmethod
    def lives(self, supervised: Supervisor, name: str) -> bool:
        """Check whether a service may still get healthy: one that ended and stays so does not. Read-only."""

    @abstractmethod
    def log(self, supervised: Supervisor, environment: Mapping[str, str], name: str) -> Path:
        """Return the log that says why a service does not get healthy. Writes nothing but that log."""


@cache
def kinds() -> list[type[ManagerKeys]]:
    """Return the models of the kinds of manager. Read-only."""
    modules = [import_module(f"{__name__}.{found.name}") for found in iter_modules(__path__)]
    return [each for module in modules for each in classes_of(module) if issubclass(each, ManagerKeys)]


def filled(value: T, environment: Mapping[str, str], where: str) -> T:
    """Put the stack's variables into a value of its file. Read-only."""
    result: T = filled_in(value, {**os.environ, **environment}, Path(where), "services")
    return result


def merged(environment: Mapping[str, Mapping[str, str]], more: Mapping[str, Mapping[str, str]]) -> dict[str, dict[str, str]]:
    """Put more variables of services into those that they have. Pure."""
    return {name: {**environment.get(name, {}), **more.get(name, {})} for name in {**environment, **more}}
