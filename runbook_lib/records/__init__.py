"""Where the records of green rehearsals are kept; each kind of place is a module here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Protocol

from runbook_lib.config.kinds import classes_of, collected
from runbook_lib.config.target import RecordsTarget, Target
from runbook_lib.records.record import Record, read
from runbook_lib.system.processes import LocalProcesses, Processes

FOLDER = "records"  # next to the folders of runs, where a target names no place


class Records(Protocol):
    """A place that keeps records, each a JSON text under a name of its own."""

    def add(self, name: str, text: str) -> None:
        """Keep a record; one of that name that is there already stays. Changes the place.

        Raises:
            AdapterError: The place cannot be written.
        """

    def texts(self) -> Mapping[str, str]:
        """Return every record that is there: name -> text; none where there is no such place yet. Read-only.

        Raises:
            AdapterError: The place cannot be read.
        """

    def __str__(self) -> str:
        """Return where it is, in words."""


@dataclass
class MemoryRecords:
    """Records that are kept in memory only."""

    kept: dict[str, str] = field(default_factory=dict)

    def add(self, name: str, text: str) -> None:
        """Keep a record."""
        self.kept.setdefault(name, text)

    def texts(self) -> Mapping[str, str]:
        """Return every record."""
        return dict(self.kept)

    def __str__(self) -> str:
        return "memory"


@dataclass(frozen=True)
class Kept:
    """What a place keeps: its records, newest first, and those that cannot be read, each with the reason."""

    place: str
    records: Sequence[Record] = ()
    unreadable: Mapping[str, str] = field(default_factory=dict)


@cache
def kinds() -> dict[str, Any]:
    """Return the kinds of place that are installed, by the name that targets give them. Read-only.

    Raises:
        TypeError: Two have one name.
    """
    return collected(
        __name__,
        "runbook_lib.records",
        lambda module: [(place.Keys, place) for place in classes_of(module) if "Keys" in vars(place)],
    )


def connect(keys: RecordsTarget, service: str, processes: Processes) -> Records:
    """Return the place that some keys describe; nothing is asked of it yet. Read-only.

    Args:
        keys: What a target says of it.
        service: The libpq service of the target's own database.
        processes: What runs git.
    """
    place: Records = kinds()[keys.kind](keys, service, processes)
    return place


def next_to(runs: Path) -> Records:
    """Return the folder that keeps records where a target names no place: next to the folders of its runs. Read-only."""
    keys = kinds()["folder"].Keys(kind="folder", path=str(runs / FOLDER))
    return connect(keys, "", LocalProcesses())


def of_target(target: Target, runs: Path, processes: Processes | None = None) -> Records:
    """Return the place of a target's records; `runs` is where the folders of its runs are. Read-only."""
    if target.records is None:
        return next_to(runs)
    return connect(target.records, target.database.service, processes or LocalProcesses())


def kept(place: Records) -> Kept:
    """Return what a place keeps. Read-only.

    Raises:
        AdapterError: It cannot be read.
    """
    found, unreadable = list[Record](), dict[str, str]()
    for name, text in place.texts().items():
        try:
            found.append(read(text))
        except ValueError as error:
            unreadable[name] = str(error)
    return Kept(str(place), sorted(found, key=lambda each: each.at, reverse=True), unreadable)
