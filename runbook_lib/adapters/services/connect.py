"""From a target's description to its services."""

from pathlib import Path

from runbook_lib import target
from runbook_lib.adapters.processes import Processes
from runbook_lib.adapters.services.protocol import Services


def connect(services: target.ServicesTarget, processes: Processes) -> Services:
    """The services that the target describes; nothing is asked of their manager yet. Read-only."""
    match services:
        case target.SupervisorServices():
            from runbook_lib.adapters.services.supervisor import SupervisorServices

            return SupervisorServices(Path(services.socket), services.timeout)
        case target.DockerServices():
            from runbook_lib.adapters.services.docker import DockerServices

            return DockerServices(services, processes)
        case target.Pm2Services():
            from runbook_lib.adapters.services.pm2 import Pm2Services

            return Pm2Services(services, processes)
        case target.CommandServices():
            from runbook_lib.adapters.services.commands import CommandServices

            return CommandServices(services.commands, Path(services.directory), services.timeout, processes)
