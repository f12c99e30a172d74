"""From a target's description to its services."""

from pathlib import Path

from runbook_lib import target
from runbook_lib.adapters.processes import Processes
from runbook_lib.adapters.services.protocol import Services


def connect(services: target.SupervisorServices | target.CommandServices, processes: Processes) -> Services:
    """The services that the target describes; nothing is asked of their manager yet. Read-only."""
    if isinstance(services, target.SupervisorServices):
        from runbook_lib.adapters.services.supervisor import SupervisorServices

        return SupervisorServices(Path(services.socket), services.timeout)
    from runbook_lib.adapters.services.commands import CommandServices

    return CommandServices(services.commands, Path(services.directory), services.timeout, processes)
