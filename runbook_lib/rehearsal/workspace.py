"""The directory of a stack: private, owned by one process, removed with it."""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from runbook_lib.config.installed import packaged
from runbook_lib.config.loading import ROOT
from runbook_lib.errors import RunbookError
from runbook_lib.system import processes
from runbook_lib.system.signals import ending_signals_raise, undisturbed
from runbook_lib.system.temporary import OWNER, claim, is_abandoned, started


class StackError(RunbookError):
    """The rehearsal stack could not be brought up, or one of its parts did not answer."""


PLAN = packaged("rehearsal", "parameters", "feat-2025-20251103111429.yaml")
TARGET = packaged("rehearsal", "parameters", "rehearsal.yaml")
OUTPUTS = ROOT / "outputs"


@contextmanager
def settled_in(environment: Mapping[str, str]) -> Iterator[None]:
    """Have this process's environment hold that of a stack while the block runs."""
    before = dict(os.environ)
    os.environ.update(environment)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


MARK = "REHEARSAL_STACK"
KILL_SECONDS = 5.0


def marked(root: Path) -> list[int]:
    """Return the living processes that were started for the stack in `root`. Read-only."""
    mark = f"{MARK}={root}".encode()
    pids = (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdecimal())
    return [pid for pid in pids if mark in _environment(pid) and started(pid)]


def kill_marked(root: Path) -> None:
    """End every process that was started for the stack in `root`, and wait until none lives."""
    deadline = time.monotonic() + KILL_SECONDS
    while (pids := marked(root)) and time.monotonic() < deadline:
        for pid in pids:
            _kill(pid)
        time.sleep(0.02)


def _environment(pid: int) -> list[bytes]:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except (PermissionError, FileNotFoundError, ProcessLookupError):
        return []


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


PREFIX = "rb-"


@contextmanager
def workspace() -> Iterator[Path]:
    """Make a private directory; however the block ends, remove it and every process marked with it.

    What stacks with a killed owner left behind is removed first.
    """
    with ending_signals_raise():
        sweep()
        root = Path(tempfile.mkdtemp(prefix=PREFIX))
        try:
            claim(root)
            yield root
        finally:
            with undisturbed():
                _remove(root)


def sweep() -> None:
    """Remove the directories, and end the processes, of stacks whose owner was killed."""
    for owner in Path(tempfile.gettempdir()).glob(f"{PREFIX}*/{OWNER}"):
        if is_abandoned(owner.parent):
            _remove(owner.parent)


def _remove(root: Path) -> None:
    kill_marked(root)
    _unmount_below(root)
    shutil.rmtree(root, ignore_errors=True)


def _unmount_below(root: Path) -> None:
    """Take off what a container engine leaves mounted, the innermost first."""
    mounts = Path("/proc/self/mounts")
    places = [line.split()[1] for line in mounts.read_text().splitlines()] if mounts.exists() else []
    for place in reversed([each for each in places if each.startswith(f"{root}/")]):
        subprocess.run(["umount", place], capture_output=True, check=False)


INTERVAL = 0.02


def until(condition: Callable[[], bool], seconds: float) -> bool:
    """Return True as soon as `condition` holds, False when it did not within `seconds`. Read-only."""
    return processes.until(condition, seconds, INTERVAL)


def until_healthy(
    ready: Callable[[], bool], seconds: float, name: str, alive: Callable[[], bool], log: Path | Callable[[], Path]
) -> None:
    """Return once `ready`. Read-only.

    Raises StackError with the end of `log`, which may have to be fetched first, when `name` is no longer `alive` or
    `seconds` have passed.
    """
    answered = until(lambda: ready() or not alive(), seconds)
    if not alive():
        raise _unready(name, "ended while starting", log)
    if not answered:
        raise _unready(name, f"did not become healthy within {seconds:g} s", log)


def _unready(name: str, what: str, log: Path | Callable[[], Path]) -> StackError:
    log = log if isinstance(log, Path) else log()
    tail = "\n".join(log.read_text(errors="replace").splitlines()[-10:]) if log.exists() else "(no log)"
    return StackError(
        f"{name} {what}:\n{tail}",
        where=str(log),
        state="the stack is being brought down",
        safe_next="fix what the log names and start again",
    )
