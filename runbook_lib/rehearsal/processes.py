"""Processes as Linux shows them under /proc."""

import os
import signal
import time
from pathlib import Path

MARK = "REHEARSAL_STACK"
KILL_SECONDS = 5.0


def started(pid: int) -> str | None:
    """Return when a living process started, in clock ticks since boot; None for a dead one or a zombie. Read-only."""
    try:
        state, *rest = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if state == "Z" else rest[18]


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
