"""Services under any manager that has a command line: systemd, say."""

from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from runbook_lib import services
from runbook_lib.config.loading import Model
from runbook_lib.config.target import Command, ServicesTarget
from runbook_lib.errors import AdapterError
from runbook_lib.results import Found, Status
from runbook_lib.services import (
    NOTHING,
    Look,
    Marks,
    Restart,
    Restore,
    no_list,
    no_time,
    no_version,
    not_started,
    not_stopped,
    unreachable,
)
from runbook_lib.system.processes import Completed, Processes, not_found, shown, typed, until

INTERVAL = 0.1  # seconds between two questions


class Commands(Model):
    """The commands that manage one service; {service} and {since} are filled in."""

    list: Command
    """Prints the names of all services that run, one a line."""
    running: Command
    """Prints something while the service runs."""
    stop: Command
    """Stops it."""
    start: Command
    """Starts it."""
    logs: Command
    """Prints its log; {since} is filled in."""
    version: Command | None = None
    """Prints what the service runs."""


class CommandsTarget(ServicesTarget):
    """Services under any manager that has a command line."""

    manager: Literal["commands"]
    commands: Commands
    """The commands."""
    directory: str
    """Where they are run."""

    pins_are_reported_by_manager = False

    def tells_versions(self) -> bool:
        """Return where the target names a command for it. Pure."""
        return self.commands.version is not None


class CommandServices:
    """Services managed by a target's commands; `running` prints something while one runs, and fails if that is unknown."""

    Keys = CommandsTarget

    def __init__(self, described: CommandsTarget, processes: Processes) -> None:
        self._commands = described.commands
        self._directory = Path(described.directory)
        self._timeout = described.timeout
        self._processes = processes

    def all_running(self) -> set[str]:
        """See `Services.all_running`."""
        try:
            return set(self._run(self._commands.list, "").output.split())
        except AdapterError as error:
            raise no_list(shown(self._commands.list), error.what.rstrip(".")) from None

    def up(self, names: Collection[str]) -> set[str]:
        """See `Services.up`; as far as the target's command reports it."""
        return {name for name in names if self.is_running(name)}

    def version(self, name: str) -> str:
        """See `Services.version`; the last word that the command prints."""
        if not self._commands.version:
            raise no_version(name, shown(self._commands.running), "the target names no command for it")
        try:
            words = self._run(self._commands.version, name).output.split()
        except AdapterError as error:
            raise no_version(name, shown(self._commands.version), error.what.rstrip(".")) from None
        if not words or not self.is_running(name):
            reason = "it printed nothing" if not words else "it does not run"
            raise no_version(name, shown(self._commands.version), reason)
        return words[-1]

    def is_running(self, name: str) -> bool:
        """See `Services.is_running`."""
        try:
            return bool(self._run(self._commands.running, name).output.strip())
        except AdapterError as error:
            raise unreachable(name, shown(self._commands.running), error.what.rstrip(".")) from None

    def running_of(self, names: Collection[str]) -> set[str]:
        """See `Services.running_of`."""
        return {name for name in names if self.is_running(name)}

    def stop(self, *names: str) -> None:
        """See `Services.stop`; the command is run even for a stopped service, which might be about to be restarted."""
        self.running_of(names)
        for name in names:
            self._run(self._commands.stop, name)
        for name in names:
            if not self._becomes(name, running=False):
                raise not_stopped(name, shown(self._commands.running), self._timeout, "still running")

    def stop_by_hand(self, names: Sequence[str]) -> list[str]:
        """See `Services.stop_by_hand`: the target's commands."""
        return [typed(_filled(self._commands.stop, name), self._directory) for name in names]

    def start_by_hand(self, names: Sequence[str], restore: Restore = NOTHING) -> list[str]:
        """See `Services.start_by_hand`: the target's commands."""
        return [typed(_filled(self._commands.start, name), self._directory) for name in names]

    def looks(self, restart: Restart) -> list[Look]:
        """See `Services.looks`: whether the programs are there; a command line says no more than the target."""
        return [Look("programs", "The programs of the services' commands are here", self._programs)]

    def _programs(self) -> Found:
        commands = self._commands
        each = [commands.list, commands.running, commands.stop, commands.start, commands.logs, commands.version or []]
        missing = not_found(filter(None, each), self._directory)
        return (Status.FAIL, f"not here, or not to be run: {', '.join(missing)}") if missing else (Status.PASS, "they are")

    def to_restore(self, names: Collection[str]) -> Restore:
        """See `Services.to_restore`: what the target's command starts is all of it."""
        return {}

    def start(self, *names: str, restore: Restore = NOTHING) -> None:
        """See `Services.start`."""
        stopped = [name for name in names if not self.is_running(name)]
        for name in stopped:
            self._run(self._commands.start, name)
        for name in stopped:
            if not self._becomes(name, running=True):
                raise not_started(name, shown(self._commands.running), f"not running {self._timeout:g} s after the start")

    def log_marks(self, names: Collection[str]) -> Marks:
        """See `Services.log_marks`: a command that takes {since} places the lines itself."""
        return {}

    def logs(self, name: str, since: datetime | None, mark: Mapping[str, Any] = NOTHING) -> list[str]:
        """See `Services.logs`; what the command prints on its error stream follows what it prints on its output."""
        answer = self._run(self._commands.logs, name, since or datetime.fromtimestamp(0, UTC))
        said = [services.split_lines(text) for text in (answer.output, answer.errors)]
        placed = since is None or any("{since}" in word for word in self._commands.logs)
        if not placed and not all(services.has_times(lines) for lines in said if lines):
            raise no_time(
                name, shown(self._commands.logs), "Have the command print the lines from {since} on, or a time in each."
            )
        return [line for lines in said for line in services.lines_since(lines, since)]

    def _becomes(self, name: str, *, running: bool) -> bool:
        return until(lambda: self.is_running(name) == running, self._timeout, INTERVAL)

    def _run(self, command: Sequence[str], name: str, since: datetime | None = None) -> Completed:
        filled = _filled(command, name, since)
        return self._processes.run(filled, cwd=self._directory, timeout=self._timeout).require()


def _filled(command: Sequence[str], name: str, since: datetime | None = None) -> list[str]:
    moment = since.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z") if since else ""
    return [word.replace("{service}", name).replace("{since}", moment) for word in command]
