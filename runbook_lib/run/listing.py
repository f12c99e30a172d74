"""The runs and rehearsals of a folder, newest first."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from runbook_lib import records
from runbook_lib.config.loading import located
from runbook_lib.config.plan import Plan
from runbook_lib.documents import load_plan
from runbook_lib.errors import ParametersError, RunbookError
from runbook_lib.journal import Journal
from runbook_lib.journal.event import clock
from runbook_lib.journal.folder import FLEET, RunFolder
from runbook_lib.journal.state import replay
from runbook_lib.records import Records
from runbook_lib.records.record import read
from runbook_lib.records.walk import Walk, walked

KINDS = ("rehearsal", "fleet")  # environments that a row names; all others are a run
HEAD = ["name, when (UTC), what", "type", "target", "outcome", "took", "down"]


@dataclass(frozen=True)
class Listed:
    """The runs and rehearsals of a folder, newest first, the rehearsal records, and unreadable files with the reason."""

    walks: Sequence[Walk]
    recorded: frozenset[str] = frozenset()
    unreadable: Mapping[str, str] = field(default_factory=dict)

    def rows(self) -> list[list[str]]:
        """Return the table's rows, with the cells of `HEAD`. Pure."""
        return [
            [
                f"{each.name}\n{each.at:%Y-%m-%d %H:%M}, {each.environment if each.environment in KINDS else 'run'}"
                + ", on record" * (each.name in self.recorded),
                f"{each.type or 'none yet'} {each.option}".strip(),
                each.target,
                each.outcome,
                "" if each.seconds is None else clock(each.seconds),
                each.outage,
            ]
            for each in self.walks
        ]

    def as_json(self) -> dict[str, Any]:
        """Return the listing as plain values."""
        walks = [{**each.model_dump(mode="json"), "recorded": each.name in self.recorded} for each in self.walks]
        return {"runs": walks, "unreadable": dict(self.unreadable)}


def listed(folder: Path, place: Records, fleet: Callable[[Path], Walk] | None = None) -> Listed:
    """List every run of a folder, and every recorded rehearsal of a place. Read-only.

    Args:
        folder: The folder with the runs; a fleet's folder lists the runs of its targets.
        place: Where the rehearsals are recorded.
        fleet: How to read a fleet's folder, which is one row.

    Raises:
        ParametersError: There is no such folder.
        AdapterError: The place cannot be read.
    """
    kept = records.kept(place)
    if not folder.is_dir():
        raise ParametersError(
            f"There is no folder {folder}.", state="Nothing was touched.", safe_next="Name the folder with the runs."
        )
    plans, found = dict[str, Plan | None](), {each.name: each.walk for each in kept.records}
    unreadable = {f"{name} in {kept.place}": why for name, why in kept.unreadable.items()}
    entries = folder.glob("runs/*/*") if (folder / FLEET).is_file() else folder.iterdir()
    for path in sorted(each for each in entries if each.is_dir() and each.name != records.FOLDER):
        try:
            found[path.name] = fleet(path) if fleet and (path / FLEET).is_file() else of_run(path, plans)
        except (RunbookError, OSError, KeyError, TypeError, ValueError) as error:
            unreadable[str(path)] = error.what if isinstance(error, RunbookError) else f"{type(error).__name__}: {error}"
    newest = sorted(found.values(), key=lambda each: (each.at, each.name), reverse=True)
    return Listed(newest, frozenset(each.name for each in kept.records), unreadable)


def of_run(path: Path, plans: dict[str, Plan | None] | None = None) -> Walk:
    """Return the walk of a run's folder, or of a rehearsal record's file; `plans` caches plans. Read-only.

    Raises:
        ParametersError: The path is neither.
        JournalError: The journal's chain is broken.
    """
    file = located(path)
    if file.is_file():
        try:
            return read(file.read_text(encoding="utf-8", errors="replace")).walk
        except ValueError as error:
            raise ParametersError(
                f"{path} cannot be read as a rehearsal record: {error}.",
                state="Nothing was touched.",
                safe_next="Name a run folder, or the file of a rehearsal record.",
            ) from None
    folder = RunFolder.open(file)
    events = Journal(folder.journal_path).events()
    state = replay(events)
    return walked(folder.id, _plan(str(state.opened.get("plan_file", "")), {} if plans is None else plans), state, events)


def _plan(file: str, known: dict[str, Plan | None]) -> Plan | None:
    """Return the plan of that file, None if it can no longer be read."""
    if file not in known:
        try:
            known[file] = load_plan(Path(file))
        except RunbookError:
            known[file] = None
    return known[file]
