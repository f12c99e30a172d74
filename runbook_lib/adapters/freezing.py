"""Holding still what would interfere with a rollback, by the target's own commands, on each host that it names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from runbook_lib.adapters.processes import Processes, shown
from runbook_lib.errors import AdapterError
from runbook_lib.target import Freeze
from runbook_lib.waiting import until

INTERVAL = 0.2  # seconds between two questions
YES, NO = 0, 1  # exit codes of a check; any other one means that it could not tell


@dataclass(frozen=True)
class Hold:
    """One thing to hold still, on one host where there are several."""

    name: str
    commands: Freeze
    host: str = ""

    @property
    def label(self) -> str:
        """What it is called in a preview or a debt."""
        return f"{self.name} on {self.host}" if self.host else self.name

    def command(self, words: Sequence[str]) -> list[str]:
        """A command of it, with its host filled in."""
        return [word.replace("{host}", self.host) for word in words]

    def is_frozen(self, processes: Processes) -> bool:
        """What its check says. Read-only.

        Raises:
            AdapterError: The check could not tell.
        """
        check = self.command(self.commands.check)
        answer = processes.run(check, timeout=self.commands.timeout)
        if answer.exit_code not in (YES, NO):
            raise AdapterError(
                f"Whether {self.label} is frozen cannot be told: {shown(check)} ended with exit code {answer.exit_code}.",
                where=self.label,
                state="Nothing was changed by asking.",
                safe_next="Make its check end with 0 while it is frozen, and with 1 while it is not.",
            )
        return answer.exit_code == YES

    def freeze(self, processes: Processes) -> None:
        """Freeze it, and wait until its check says so. Changes the target.

        Raises:
            AdapterError: The command failed, or its check does not say so in time.
        """
        self._do(processes, self.commands.freeze, frozen=True)

    def release(self, processes: Processes) -> None:
        """Release it, and wait until its check says so. Changes the target.

        Raises:
            AdapterError: The command failed, or its check does not say so in time.
        """
        self._do(processes, self.commands.release, frozen=False)

    def _do(self, processes: Processes, words: Sequence[str], *, frozen: bool) -> None:
        command = self.command(words)
        processes.run(command, timeout=self.commands.timeout).require()
        if not until(lambda: self.is_frozen(processes) is frozen, self.commands.timeout, INTERVAL):
            raise AdapterError(
                f"{shown(command)} succeeded, but the check of {self.label} still says "
                f"{'not frozen' if frozen else 'frozen'} after {self.commands.timeout} s.",
                where=self.label,
                state="What it does by now is what its check says.",
                safe_next="Look at it by hand; then run the step again.",
            )


def holds(freezes: Mapping[str, Freeze]) -> list[Hold]:
    """What the target names to be held still, in its order. Pure."""
    return [Hold(name, freeze, host) for name, freeze in freezes.items() for host in freeze.hosts or [""]]
