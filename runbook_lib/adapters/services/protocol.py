"""What every service manager can do."""

from datetime import datetime
from typing import Protocol


class Services(Protocol):
    """Services by name, under one manager."""

    def is_running(self, name: str) -> bool:
        """Whether the manager says that the service runs. Read-only.

        Raises:
            AdapterError: It cannot be told: the manager does not answer, knows no such service, or it is in between.
        """

    def stop(self, name: str) -> None:
        """Stop the service, and return once the manager says so; one that is stopped is left alone. Changes the target.

        Raises:
            AdapterError: The service is unknown, or the manager did not say within the timeout that it is stopped.
        """

    def start(self, name: str) -> None:
        """Start the service, and return once the manager says so; one that runs is left alone. Changes the target.

        A service that ends right after it was started may pass: probe its health.

        Raises:
            AdapterError: The service is unknown, or the manager did not say within the timeout that it runs.
        """

    def logs(self, name: str, since: datetime | None) -> list[str]:
        """The lines that the service logged, oldest first; with `since`, those from then on. Read-only.

        Raises:
            AdapterError: The log cannot be read.
        """
