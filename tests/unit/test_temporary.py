"""Temporary files go with their process, at the latest by the next start."""

import json
import os
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from runbook_lib.system import temporary
from runbook_lib.system.processes import until
from runbook_lib.system.temporary import OWNER, started

MAKES = """
import os, sys
from runbook_lib.system import temporary
with temporary.directory() as made:
    (made / "key").write_text("secret")
    print(made, flush=True)
    {then}
"""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def left_by(process: "subprocess.Popen[str]") -> Path:
    assert process.stdout
    return Path(process.stdout.readline().strip())


def makes(then: str, here: Path) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", MAKES.format(then=then)]
    return subprocess.Popen(
        command, env={**os.environ, "TMPDIR": str(here)}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


@pytest.mark.parametrize("then", ["pass", "os._exit(0)", "os.kill(os.getpid(), 9)", "raise SystemExit(3)"])
def test_nothing_is_left_however_a_process_ends(then: str, here: Path) -> None:
    with makes(then, here) as process:
        made = left_by(process)
        assert made.is_relative_to(here)

    assert until(lambda: list(here.iterdir()) == [], 10, 0.02), list(here.rglob("*"))


def test_the_directory_is_private_and_the_same_for_the_whole_process(here: Path) -> None:
    with temporary.directory() as one, temporary.directory() as other:
        assert one.parent == other.parent == temporary.root()
        assert stat.S_IMODE(one.parent.stat().st_mode) == 0o700
    assert not one.exists()


def abandoned(here: Path, **changes: object) -> Path:
    """A directory whose recorded owner began at another time than the process that now has its id."""
    root = here / f"{temporary.PREFIX}abandoned"
    root.mkdir()
    record = {"pid": os.getpid(), "started": "0", "namespace": os.readlink("/proc/self/ns/pid")}
    (root / OWNER).write_text(json.dumps(record | changes))
    return root


def test_the_next_start_removes_what_a_dead_owner_left_and_its_writers(here: Path) -> None:
    root = abandoned(here)
    with (root / "said").open("w") as said, subprocess.Popen(["sleep", "1000"], stdout=said) as command:
        said.close()

        temporary.sweep()

        assert command.wait(10) == -15
    assert not root.exists()


@pytest.mark.parametrize("changes", [{"started": started(os.getpid())}, {"namespace": "pid:[1]"}])
def test_the_next_start_spares_a_living_owner_and_one_it_cannot_see(here: Path, changes: dict[str, object]) -> None:
    root = abandoned(here, **changes)

    temporary.sweep()

    assert root.exists()


def test_a_process_that_its_parent_has_not_fetched_has_ended_too() -> None:
    process = subprocess.Popen(["sleep", "60"])
    assert not temporary.has_ended(process.pid)

    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert temporary.has_ended(process.pid)

    process.wait()
    assert temporary.has_ended(process.pid)
