"""The archive of a fleet: fleet-report.html, and a seal over its files and over the seal of each target's run."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from functools import cache
from pathlib import Path, PurePosixPath

from runbook_lib.documents import load_plan
from runbook_lib.errors import RunbookError
from runbook_lib.fleet import FleetRun, report
from runbook_lib.journal.event import Event
from runbook_lib.journal.folder import FLEET as JOURNAL
from runbook_lib.journal.folder import RunFolder
from runbook_lib.report import manifest
from runbook_lib.report.manifest import Layout, Problem
from runbook_lib.run import lifecycle

PLAIN = {"targets", "plans", "runs", "lab"}  # folders


def _runs(events: Sequence[Event]) -> Collection[str]:
    return {str(about["run"]) for about in events[0].data["targets"].values()} if events else set()


def _folders(events: Sequence[Event]) -> Collection[str]:
    return PLAIN | {str(PurePosixPath(run).parent) for run in _runs(events)}


FLEET = Layout(
    JOURNAL,
    re.compile(
        r"fleet\.jsonl|fleet\.yaml|fleet-report\.html|(?:targets|plans)/[\w.-]+\.yaml|runs/[\w.-]+/[\w.-]+/manifest\.json"
    ),
    _folders,
    _runs,
)


def write(run: FleetRun, held_by: str = "") -> dict[str, str]:
    """Write the report of each target that has none of its present state, the fleet's report, and the fleet's seal.

    Args:
        run: The fleet.
        held_by: The process that acts in the fleet now, "" for none but this one; with any, nothing is sealed.

    Returns:
        The targets that cannot be sealed now, each with the reason; with any, the fleet gets a report and no new seal.
    """
    unsealed = {} if held_by else {name: why for name in run.state.targets if (why := _sealed(run.child(name)))}
    report.write(run, cache(load_plan), held_by)
    if not unsealed and not held_by:
        manifest.seal(run.folder, FLEET)
    return unsealed


def _sealed(path: Path) -> str:
    """Seal a target's run where it changed since its last seal; returns why not, "" where it is sealed."""
    folder = RunFolder(path)
    if by := folder.held_by() or RunFolder(path.parent).held_by():
        return f"a process acts in it ({by})"
    try:
        if manifest.verify(path):
            lifecycle.archive(*lifecycle.read(path)[:2])
    except RunbookError as error:
        return error.what
    return ""


def is_sealed(run: FleetRun) -> bool:
    """Check whether the fleet has a seal, intact or not. Read-only."""
    return (run.path / manifest.MANIFEST).is_file()


def verify(path: Path) -> list[Problem]:
    """Return the differences between a fleet's folder, with each target's run, and its seal; none means intact. Read-only.

    Raises:
        ParametersError: There is no such folder.
    """
    return [*manifest.verify(path, FLEET), *_of_runs(path)]


def _of_runs(path: Path) -> Iterator[Problem]:
    for run in sorted(_runs(FleetRun(path).journal.events())):
        if (path / run).is_dir():
            yield from (Problem(f"{run}/{problem.file}", problem.what) for problem in manifest.verify(path / run))
        else:
            yield Problem(run, "is missing.")
