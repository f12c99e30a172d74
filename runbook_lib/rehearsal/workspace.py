"""The directory of a stack: private, owned by one process, removed with it."""

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from runbook_lib.rehearsal.processes import kill_marked, started
from runbook_lib.signals import ending_signals_raise, undisturbed

PREFIX = "rb-"
OWNER = "owner.json"


@contextmanager
def workspace() -> Iterator[Path]:
    """Make a private directory; however the block ends, remove it and every process marked with it.

    What stacks with a killed owner left behind is removed first.
    """
    with ending_signals_raise():
        sweep()
        root = Path(tempfile.mkdtemp(prefix=PREFIX))
        try:
            (root / OWNER).write_text(json.dumps(_identity(os.getpid())))
            yield root
        finally:
            with undisturbed():
                _remove(root)


def sweep() -> None:
    """Remove the directories, and end the processes, of stacks whose owner was killed."""
    for owner in Path(tempfile.gettempdir()).glob(f"{PREFIX}*/{OWNER}"):
        if _abandoned(owner):
            _remove(owner.parent)


def _abandoned(owner: Path) -> bool:
    try:
        if owner.parent.is_symlink() or owner.stat().st_uid != os.geteuid():
            return False
        recorded = json.loads(owner.read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return False
    return bool(recorded["namespace"] == _namespace() and recorded != _identity(recorded["pid"]))


def _identity(pid: int) -> dict[str, int | str | None]:
    return {"pid": pid, "started": started(pid), "namespace": _namespace()}


def _namespace() -> str:
    return os.readlink("/proc/self/ns/pid")


def _remove(root: Path) -> None:
    kill_marked(root)
    shutil.rmtree(root, ignore_errors=True)
