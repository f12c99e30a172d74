"""What is known of a team's repository once all finders have looked: each thing by the finder that counts most."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runbook_lib.init.commented import Asked, Known
from runbook_lib.init.found import Found, Migrations, Service


@dataclass(frozen=True)
class Team:
    """A team's repository, by its name, and what was found there, what counts most first."""

    name: str
    found: Sequence[Found]

    def of(self, key: str) -> list[Found]:
        """Those that say something, of the finder that counts most. Pure."""
        saying = [each for each in self.found if getattr(each, key)]
        return [each for each in saying if Path(each.where).name == Path(saying[0].where).name]

    def value(self, key: str, question: str) -> Known | Asked:
        """Return the one value that is said of something; a question where none is, or several are. Pure."""
        saying = self.of(key)
        values = list(dict.fromkeys(map(_plain, (getattr(each, key) for each in saying))))
        if len(values) == 1:
            value = getattr(saying[0], key)
            return Known(value if isinstance(value, str | int) else [*value], saying[0].where)
        several = "; ".join(f"{each.where} says {_plain(getattr(each, key))}" for each in saying)
        return Asked(f"{question} ({several})" if several else question)

    @property
    def services(self) -> list[Service]:
        """The team's services. Pure."""
        return [service for each in self.of("services") for service in each.services]

    @property
    def manager(self) -> str:
        """What manages them, "" where that is not found. Pure."""
        return next((each.manager for each in self.of("services")), "")

    @property
    def services_from(self) -> str:
        """The file that names the services. Pure."""
        return next((each.where for each in self.of("services")), "")

    @property
    def migrations(self) -> Migrations | None:
        """How it migrates, where one tool was found. Pure."""
        found = self.of("migrations")
        return found[0].migrations if len(found) == 1 else None

    def said(self, key: str) -> str:
        """Return what the finder that counts most says, "" where none does. Pure."""
        return next((str(getattr(each, key)) for each in self.of(key)), "")

    @property
    def serving(self) -> list[Service]:
        """The services that answer HTTP, as far as a port or its name shows it. Pure."""
        return [each for each in self.services if self.port(each) or "PORT" in each.command]

    def port(self, service: Service) -> int | None:
        """Where a service listens: as itself says, else as is said of the only one, or of the one for the web. Pure."""
        if service.port:
            return service.port
        ports = {each.port for each in self.found if each.port}
        serving = [each for each in self.services if each.name in ("web", "api", "app", "backend", "server")]
        is_it = len(self.services) == 1 or serving[:1] == [service]
        return next(iter(ports)) if is_it and len(ports) == 1 else None


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else str(value) if isinstance(value, int) else " ".join(value)
