"""How a rehearsal stack ends, and what outlives what."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from runbook_lib.errors import PreconditionError
from runbook_lib.rehearsal.postgres import binaries
from runbook_lib.rehearsal.stack import stack
from runbook_lib.rehearsal.workspace import StackError, started, sweep, until

from ...support import command_line
from ...support.stack_access import ROWS, THREAD, api, git, pid, request


@pytest.fixture
def temporary(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A short directory in which stacks make theirs."""
    directory = Path(tempfile.mkdtemp(prefix="t-", dir="/tmp"))
    monkeypatch.setenv("TMPDIR", str(directory))
    monkeypatch.setattr(tempfile, "tempdir", None)
    yield directory
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


def test_services_outlive_the_database(temporary: Path) -> None:
    with stack(ROWS) as own:
        root, before = own.root, {name: pid(own, name) for name in ("backend", "worker")}
        own.supervisor.stop("postgres")
        version = git(root / "backend", "rev-parse", "HEAD")[:12]
        assert api(own, "/health") == (503, {"status": "database unavailable", "version": version})
        assert api(own, THREAD)[0] == 503
        assert until(lambda: " WARNING " in own.supervisor.log("worker").read_text(), 5)
        assert {name: pid(own, name) for name in before} == before

        own.supervisor.stop("backend")
        assert not own.supervisor.running("backend")
        own.supervisor.start("backend")
        assert until(lambda: " WARNING database unavailable" in own.supervisor.log("backend").read_text(), 5)
        own.supervisor.start("postgres")
        url = own.environment["REHEARSAL_BACKEND_URL"]
        assert until(lambda: answers(url) and api(own, "/health")[0] == 200, 10)
    assert processes_of(root) == []
    assert list(temporary.iterdir()) == []


def answers(url: str) -> bool:
    try:
        request(url + "/health")
    except OSError:
        return False
    return True


def owner() -> "subprocess.Popen[str]":
    return command_line.started([sys.executable, "-m", "runbook_lib.rehearsal", "--rows", str(ROWS)])


def ready_root(process: "subprocess.Popen[str]") -> Path:
    assert process.stdout
    for line in process.stdout:
        if line.startswith("Environment"):
            return Path(line.split()[-1]).parent
    raise AssertionError(process.stderr.read() if process.stderr else "")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGINT, 0)])
def test_signal_to_the_owner_brings_everything_down(number: signal.Signals, code: int, temporary: Path) -> None:
    process = owner()
    root = ready_root(process)
    assert processes_of(root)
    process.send_signal(number)
    assert process.wait(10) == code
    assert processes_of(root) == []
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize("sign", ["pg/data/base/1", "supervisor.sock"])
def test_signal_while_starting_brings_everything_down(sign: str, temporary: Path) -> None:
    process = owner()
    assert until(lambda: list(temporary.glob(f"rb-*/{sign}")) != [], 60)
    (root,) = temporary.iterdir()
    process.terminate()
    assert process.wait(30) == 143
    assert processes_of(root) == []
    assert list(temporary.iterdir()) == []


def test_a_killed_owner_leaves_no_process_and_the_next_start_cleans_up(temporary: Path) -> None:
    process = owner()
    root = ready_root(process)
    process.kill()
    process.wait()
    assert until(lambda: processes_of(root) == [], 6)
    assert root.exists()
    sweep()
    assert list(temporary.iterdir()) == []


def test_exception_brings_everything_down_and_changes_no_permission(temporary: Path) -> None:
    watched = [temporary, *temporary.parents, binaries(), *binaries().parents]
    before = [path.stat().st_mode for path in watched]
    with pytest.raises(ZeroDivisionError), stack(ROWS) as own:
        root = own.root
        raise ZeroDivisionError
    assert processes_of(root) == []
    assert list(temporary.iterdir()) == []
    assert [path.stat().st_mode for path in watched] == before


def test_a_tool_that_is_missing_is_one_clear_error_and_leaves_nothing(
    temporary: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("unshare", "git"):
        found = shutil.which(name)
        assert found
        (tmp_path / name).symlink_to(found)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "executable", "no-such-python")
    with pytest.raises(StackError, match=r"No such file or directory: 'no-such-python'"), stack(ROWS):
        pytest.fail("it came up without a Python")
    assert list(temporary.iterdir()) == []


def test_a_program_of_the_stack_that_is_missing_is_named_before_anything_starts(
    temporary: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(PreconditionError, match="no git"), stack(ROWS):
        pytest.fail("it came up without git")
    assert list(temporary.iterdir()) == []
