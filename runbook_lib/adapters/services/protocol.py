"""What every service manager can do."""

from collections.abc import Collection
from datetime import datetime
from typing import Protocol


class Services(Protocol):
    """Services by name, under one manager."""

    def all_running(self) -> set[str]:
        """The names of all services that the manager runs, whoever started them. Read-only.

        Raises:
            AdapterError: The manager does not answer.
        """

    def is_running(self, name: str) -> bool:
        """Whether anything of the service runs, or will be run again by the manager unasked. Read-only.

        Raises:
            AdapterError: It cannot be told: the manager does not answer, or knows no such service.
        """

    def up(self, names: Collection[str]) -> set[str]:
        """Those services of which all runs and goes on running: one that ends and is restarted is not up. Read-only.

        All are watched at once, so that many take no longer than one.

        Raises:
            AdapterError: It cannot be told: the manager does not answer, or knows no such service.
        """

    def version(self, name: str) -> str:
        """What the manager says that the service runs: an image, a commit, or the label of a release. Read-only.

        Raises:
            AdapterError: It does not run, or in several versions at once, or the manager does not tell.
        """

    def stop(self, name: str) -> None:
        """Stop the service, and return once the manager says so; one that is stopped is left alone. Changes the target.

        Raises:
            AdapterError: The service is unknown, or the manager did not say within the timeout that it is stopped.
        """

    def start(self, *names: str) -> None:
        """Start services in this order, and return once the manager says so of all; one that runs is left alone.

        None is waited for before the next is started; then all are watched at once. Where one ran before, what runs
        afterwards is what is there to be run now, not what ran then. A service that ends later than the manager or the
        target counts it as started may pass: probe its health. Changes the target.

        Raises:
            AdapterError: A service is unknown, ended right after it was started, or the manager did not say within the
                timeout that it runs; those after it may have been started.
        """

    def logs(self, name: str, since: datetime | None) -> list[str]:
        """The lines that the service logged, oldest first; with `since`, those from then on. Read-only.

        Raises:
            AdapterError: The log cannot be read.
        """
