"""Stopping, starting and watching services, whatever manages them; each kind of manager is one module of this room."""

from functools import cache
from typing import Any

from runbook_lib.config.kinds import classes_of, collected
from runbook_lib.config.target import ServicesTarget
from runbook_lib.services.protocol import MemoryServices, Services
from runbook_lib.system.processes import Processes

__all__ = ["MemoryServices", "Services", "connect", "kinds"]


@cache
def kinds() -> dict[str, Any]:
    """The kinds of manager that are installed, by the name that targets give them. Read-only.

    Raises:
        TypeError: Two have one name.
    """
    return collected(
        __name__,
        "runbook_lib.managers",
        lambda module: [(manager.Keys, manager) for manager in classes_of(module) if "Keys" in vars(manager)],
        by="manager",
    )


def connect(target: ServicesTarget, processes: Processes) -> Services:
    """The services that a target describes; nothing is asked of their manager yet. Read-only."""
    services: Services = kinds()[target.manager](target, processes)
    return services
