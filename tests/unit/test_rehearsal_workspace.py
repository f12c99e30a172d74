import json
import os
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from runbook_lib.rehearsal.workspace import MARK, marked, sweep, workspace
from runbook_lib.system.temporary import OWNER, started


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def abandoned(temporary: Path, **changes: object) -> Path:
    """A directory whose recorded owner started at another time than the process that now has its id."""
    root = temporary / "rb-abandoned"
    root.mkdir()
    record = {"pid": os.getpid(), "started": "0", "namespace": os.readlink("/proc/self/ns/pid")}
    (root / OWNER).write_text(json.dumps(record | changes))
    return root


def test_directory_is_private_and_removed(temporary: Path) -> None:
    with workspace() as root:
        assert root.parent == temporary
        assert stat.S_IMODE(root.stat().st_mode) == 0o700
    assert not root.exists()


def test_marked_processes_end_with_the_directory() -> None:
    with workspace() as root:
        waiting = [sys.executable, "-c", "print(flush=True); input()"]
        process = subprocess.Popen(waiting, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={MARK: str(root)})
        assert process.stdout
        with process.stdout:
            process.stdout.readline()
        assert marked(root) == [process.pid]
    assert process.wait(5) == -9
    assert process.stdin
    process.stdin.close()


def test_sweep_removes_what_a_dead_owner_left(temporary: Path) -> None:
    root = abandoned(temporary)
    sweep()
    assert not root.exists()


@pytest.mark.parametrize("changes", [{"started": started(os.getpid())}, {"namespace": "pid:[1]"}])
def test_sweep_spares_a_living_owner_and_one_it_cannot_see(temporary: Path, changes: dict[str, object]) -> None:
    root = abandoned(temporary, **changes)
    sweep()
    assert root.exists()


@pytest.mark.parametrize("content", ["", "{"])
def test_sweep_spares_a_directory_whose_record_is_being_written(temporary: Path, content: str) -> None:
    root = abandoned(temporary)
    (root / OWNER).write_text(content)
    sweep()
    assert root.exists()


def test_started_knows_no_dead_process() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    assert started(process.pid) is None
