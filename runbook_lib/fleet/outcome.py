"""What the targets of a fleet add up to. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from runbook_lib.fleet import FleetState
from runbook_lib.fleet.standing import DONE, Standing

EXIT_CODES = {"finished": 0, "undone": 0, "declined": 1, "stopped by failures": 3, "mixed": 4}


@dataclass(frozen=True)
class Outcome:
    """How a fleet's run ended, in a word, a sentence and an exit code."""

    status: str
    summary: str

    @property
    def exit_code(self) -> int:
        """The exit code of a command that ends so."""
        return EXIT_CODES[self.status]


def of(state: FleetState, standings: Mapping[str, Standing], stopped: str = "", *, by_failures: bool = False) -> Outcome:
    """The outcome of a fleet whose targets stand so.

    `finished` is said of all targets or not at all; a target that was held back or never begun makes the fleet mixed.

    Args:
        state: The fleet's own journal.
        standings: Each target.
        stopped: Why the walk ended before its last target, "" where it did not.
        by_failures: Whether it ended because too many targets failed.
    """
    words = Counter(each.word for each in standings.values())
    counted = ", ".join(f"{count} {word}" for word, count in words.most_common())
    done = sum(words[word] for word in DONE)
    if done == len(standings):
        return Outcome("finished", f"all {done} targets are rolled back: {counted}")
    if not any(each.touched for each in standings.values()):
        why = f"; {stopped}" if stopped else ""
        return Outcome("undone" if words["undone"] else "declined", f"no target is rolled back: {counted}{why}")
    if by_failures:
        return Outcome("stopped by failures", f"{counted}; {stopped}")
    return Outcome("mixed", counted + (f"; {stopped}" if stopped else ""))
