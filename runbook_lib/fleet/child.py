"""Brings one target of a fleet to its next state, in whatever process an engine calls this.

Nothing is handed back: the target's lock, lease, probe and journal decide, and whoever wants to know reads the journal.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import sleep
from typing import Literal

from runbook_lib.config.installed import lock_digest, own_version
from runbook_lib.errors import Declined, PreconditionError, RunbookError
from runbook_lib.fleet import rendered
from runbook_lib.headless import dry_run
from runbook_lib.journal import Journal
from runbook_lib.journal.control import BETWEEN_LOOKS, ControlFile
from runbook_lib.journal.folder import RunFolder
from runbook_lib.run import Run, approval, cleanup, engine, lifecycle, undo
from runbook_lib.run.lifecycle import Outcome
from runbook_lib.ui import mirror

_IDENTIFYING = threading.Lock()  # two threads at once in Python's `ast` fail in 3.11
SOAK = "soak"  # the round of the checks between waves
Action = Literal["preview", "apply", "undo", "check"]


@dataclass(frozen=True)
class Task:
    """What is to be done with one target: plain values, so that it travels to any process."""

    target: str  # its name in the fleet
    folder: str  # of its run
    action: Action
    digest: str = ""  # what was approved
    by: str = ""
    checks: tuple[str, ...] = ()  # to be made, where the action is to check
    library: str = ""  # the versions by which the fleet was walked; "" where the same process acts
    fleet: str = ""  # its folder, which the walker has locked, where a team's cluster acts


class Aborted(Declined):
    """A target was to end before its next step."""


def unfit(task: Task) -> str:
    """Why this process must not act on a task of another, "" where it may: versions, files and locks. Read-only."""
    if task.library != (own := identity()):
        return f"it has {own}, and the fleet is walked by {task.library}"
    journal = Path(task.folder) / "journal.jsonl"
    opened = Journal(journal).events()[0].data if journal.is_file() else {}
    files = [journal, *(lifecycle.recorded(opened[key]) for key in ("plan_file", "target_file") if key in opened)]
    if unseen := [str(path) for path in files if not path.is_file()]:
        return f"it does not see {unseen[0]}"
    if task.fleet and not RunFolder(Path(task.fleet)).held_by():
        return f"it does not see the walker's lock on {task.fleet}: that is a copy, or its file system shares no locks"
    return ""


def identity() -> str:
    """The version of this library here, and a digest of all that it needs. Read-only."""
    with _IDENTIFYING:
        return f"{own_version()}, packages {lock_digest()}"


def bring(task: Task) -> None:
    """Preview a target, roll it back, undo that, or check it again; errors of the runbook are journaled, not raised.

    Changes the target by what was approved, and by nothing else.

    Raises:
        PreconditionError: This process has other versions than the walker or does not see its files, or another process acts
            on the target; this process touched nothing.
        RunbookError: The run cannot be opened here, as a secret is missing; that is journaled, and nothing was touched.
    """
    if task.library and (why := unfit(task)):
        raise PreconditionError(
            f"The worker on {socket.gethostname()} cannot act for this fleet: {why}.",
            where=socket.gethostname(),
            state="Nothing was touched.",
            safe_next="Install the same lock file there, mount the fleet's folder at the same path, and restart the worker.",
        )
    with ExitStack() as held:
        held.enter_context(RunFolder(Path(task.folder).parent).lock())
        run = _opened(task)
        held.callback(run.close_adapters)
        held.callback(mirror.send, run)  # nothing is written before an approval
        ACTIONS[task.action](run, task)


def _opened(task: Task) -> Run:
    try:
        return lifecycle.open_existing(Path(task.folder), task.by)
    except RunbookError as error:
        if task.fleet:
            error.what = f"On {socket.gethostname()}: {error.what}"
        journal = RunFolder(Path(task.folder)).journal_path
        if journal.is_file():
            Journal(journal).append("stopped", cell=f"fleet {task.action}", exit_code=error.exit_code, error=str(error))
        raise


def _preview(run: Run, task: Task) -> None:
    if run.state.steps:
        return
    with _journaled(run, task):
        found = dry_run.dry_run(run)
        if found.obstacles:
            raise approval.refusal(found.digest, found.obstacles, str(run.folder.path))


def _apply(run: Run, task: Task) -> None:
    if run.state.outcome and run.state.outcome["status"] in ("verified", "waived", "undone", "ended"):
        return
    with _journaled(run, task, closes=True), _heeding(run) as heed:
        run.require_open()
        cleanup.clean_up_due(run)
        if not run.state.begun_since:
            run.prerequisites()
            run.look_before()
        run.approve(task.digest, task.by)
        for name in run.steps:
            heed()
            mirror.send(run)
            run.expect_looks_after(name)
            engine.apply(run, name)
        lifecycle.verify(run)
        lifecycle.close(run)
    rendered.write(run)
    lifecycle.write_archive(run)


def _undo(run: Run, task: Task) -> None:
    if not run.state.steps or run.state.is_undone:
        return
    with _journaled(run, task, closes=True), _heeding(run) as heed:
        undo.walk(run, undo.offer(run, approved=task.digest), task.digest, heed)
    rendered.write(run)
    lifecycle.write_archive(run)


def _check(run: Run, task: Task) -> None:
    with _journaled(run, task, closes=True):
        run.require(run.observe(SOAK, task.checks))


ACTIONS = {"preview": _preview, "apply": _apply, "undo": _undo, "check": _check}


def requests(folder: Path) -> ControlFile:
    """The file by which the run in that folder is paused, resumed and aborted between its steps."""
    return ControlFile(folder, "between-steps")


@contextmanager
def _heeding(run: Run) -> Iterator[Callable[[], None]]:
    """Give what is called before each step: it waits while the target is paused, and ends it where it was aborted."""
    control = requests(run.folder.path)

    def heed() -> None:
        while (requested := control.requested()) == "pause":
            sleep(BETWEEN_LOOKS)
        if requested == "abort":
            raise Aborted(
                "This target was aborted on request, before its next step.",
                where=str(run.folder.path),
                state="Finished steps remain as they are.",
                safe_next="`runbook fleet status` shows how to resume the fleet, or to undo it.",
            )

    with control.opened():
        yield heed


@contextmanager
def _journaled(run: Run, task: Task, *, closes: bool = False) -> Iterator[None]:
    """Journal what stopped an action; one that changes the target then ends the run for now, and keeps its lease."""
    try:
        yield
    except RunbookError as error:
        on_request = isinstance(error, Aborted) or isinstance(error.__cause__, Declined)
        about = {"exit_code": error.exit_code, "error": str(error), "on_request": on_request}
        run.journal.append("stopped", cell=f"fleet {task.action}", **about)
        if closes and not on_request:  # what was aborted on request may be resumed
            status = {1: "declined", 4: "unknown"}.get(error.exit_code, "failed")
            lifecycle.close(run, Outcome(status, error.what))
