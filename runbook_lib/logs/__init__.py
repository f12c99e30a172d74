"""What the lines of a service's log say: which are errors, and of which kind.

Each format is a module here, or one that another package's entry point names: a `Format` that looks at one line.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from enum import IntEnum
from functools import cache

from runbook_lib.config.kinds import modules_of

ERRORS = """
    error err erro eror fatal fata ftl critical crit crt severe emerg emergency alert panic pani dpanic fail
""".split()  # noqa: SIM905  # read as a table
OTHERS = """
    trace trc debug debu dbug dbg verbose vrb silly fine finer finest info inf information informational notice log
    warn wrn warning success mark
""".split()  # noqa: SIM905
_ADDED = re.compile(r"\x1b\[[\d;]*m|(?:[+-]?\d+)?\s*$")  # colours, and slog's steps between two levels
ONLY_AS_A_VALUE = ["http", "data", "input", "prompt", "help", "config", "default"]  # anywhere else they are words


class Severity(IntEnum):
    """How grave a line is; of what several formats say of one, the gravest counts."""

    NO_ERROR = 0
    UNCLEAR = 1  # it has a level that is not known
    ERROR = 2


def severity(level: str) -> Severity:
    """Return the severity of a level that is a word. Pure."""
    word = _ADDED.sub("", level).strip().lower()
    return (
        Severity.ERROR if word in ERRORS else Severity.NO_ERROR if word in [*OTHERS, *ONLY_AS_A_VALUE] else Severity.UNCLEAR
    )


@dataclass(frozen=True)
class Seen:
    """What a format sees in a line: how grave it is, and what it says, without time and level."""

    severity: Severity
    said: str
    format: Format | None = None


@dataclass(frozen=True)
class Format:
    """A format of log lines: how it looks at one, and gives None where the line is of another format."""

    name: str
    look: Callable[[str], Seen | None]
    longest: int = 4000  # characters of a line that it looks at
    raises: bool = False  # whether the exception that a line is about may follow it at the margin
    one_line: bool = False  # whether each of its lines is a record, whatever it begins with


@cache
def formats() -> dict[str, Format]:
    """Return the formats that are installed, by the names that plans give them. Read-only."""
    found = [
        each
        for module in modules_of(__name__, "runbook_lib.logs")
        for each in vars(module).values()
        if isinstance(each, Format)
    ]
    return {each.name: each for each in found}


def seen(line: str, names: Collection[str]) -> Seen | None:
    """Return what the named formats see in a line, the gravest of it; None where it is of none of them. Pure."""
    looks = [(each, each.look(line[: each.longest])) for each in map(formats().__getitem__, names)]
    found = [Seen(look.severity, look.said, each) for each, look in looks if look]
    return max(found, key=lambda each: each.severity, default=None)
