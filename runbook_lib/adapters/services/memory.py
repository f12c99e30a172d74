"""Services that exist only in memory."""

from collections.abc import Callable, Collection, Iterable
from datetime import datetime

from runbook_lib.adapters.services import log_lines
from runbook_lib.adapters.services.errors import no_list, no_version, not_started, not_stopped, unknown_service, unreachable

WHERE = "memory"


class MemoryServices:
    """Services whose start is a function from the name to the lines logged; it raises OSError when one does not start.

    `running`, `lines` and `releases` (what each would run if it were started) may be looked at and changed; with `reachable`
    off, the manager does not answer; what is `immortal` does not stop.
    """

    def __init__(self, names: Iterable[str], launch: Callable[[str], Iterable[str]] = lambda name: ()) -> None:
        self.lines: dict[str, list[str]] = {name: [] for name in names}
        self.running: set[str] = set()
        self.releases: dict[str, str] = {}
        self.immortal: set[str] = set()
        self.reachable = True
        self._started_from: dict[str, str] = {}
        self._launch = launch

    def all_running(self) -> set[str]:
        """See `Services.all_running`."""
        if not self.reachable:
            raise no_list(WHERE, "it is switched off")
        return set(self.running)

    def up(self, names: Collection[str]) -> set[str]:
        """See `Services.up`."""
        return {name for name in names if self.is_running(name)}

    def version(self, name: str) -> str:
        """See `Services.version`."""
        self._ask(name)
        if name not in self.running or not self._started_from.get(name):
            raise no_version(name, WHERE, "none is on record")
        return self._started_from[name]

    def is_running(self, name: str) -> bool:
        """See `Services.is_running`."""
        self._ask(name)
        return name in self.running

    def stop(self, name: str) -> None:
        """See `Services.stop`."""
        self._ask(name)
        if name in self.immortal & self.running:
            raise not_stopped(name, WHERE, 0, "it goes on")
        self.running.discard(name)

    def start(self, *names: str) -> None:
        """See `Services.start`."""
        for name in names:
            self._start(name)

    def _start(self, name: str) -> None:
        self._ask(name)
        if name in self.running:
            return
        try:
            self.lines[name].extend(self._launch(name))
        except OSError as error:
            raise not_started(name, WHERE, str(error)) from None
        self.running.add(name)
        self._started_from[name] = self.releases.get(name, "")

    def logs(self, name: str, since: datetime | None) -> list[str]:
        """See `Services.logs`."""
        self._ask(name)
        return log_lines.since(self.lines[name], since)

    def _ask(self, name: str) -> None:
        if not self.reachable:
            raise unreachable(name, WHERE, "it is switched off")
        if name not in self.lines:
            raise unknown_service(name, WHERE)
