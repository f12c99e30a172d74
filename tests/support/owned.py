"""A stack that another process owns, and its remains."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from runbook_lib.rehearsal.workspace import started

from . import command_line
from .stack_access import ROWS


@contextmanager
def short_directory() -> Iterator[Path]:
    """A directory of its own with a short name, on a disk."""
    directory = Path(tempfile.mkdtemp(prefix="t-", dir="/tmp"))
    try:
        yield directory
    finally:
        shutil.rmtree(directory)


def processes_of(root: Path) -> list[str]:
    """Living processes that name the root in their command line or environment."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and int(entry.name) != os.getpid() and started(int(entry.name)):
            try:
                text = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
            except (FileNotFoundError, ProcessLookupError, PermissionError):
                continue
            if str(root).encode() in text:
                found.append(f"{entry.name} {text[:200]!r}")
    return found


def mounts_below(root: Path) -> list[str]:
    """What is mounted there."""
    return [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines() if f" {root}/" in line]


def owner(*words: str) -> "subprocess.Popen[str]":
    return command_line.started([sys.executable, "-m", "runbook_lib.rehearsal", "--rows", str(ROWS), *words])


def ready_root(process: "subprocess.Popen[str]") -> Path:
    assert process.stdout
    for line in process.stdout:
        if line.startswith("Environment"):
            return Path(line.split()[-1]).parent
    raise AssertionError(process.stderr.read() if process.stderr else "")
