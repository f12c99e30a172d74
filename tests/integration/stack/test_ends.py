"""How a rehearsal stack ends, and what outlives what."""

import shutil
import signal
import sys
from pathlib import Path

import pytest

from runbook_lib.errors import PreconditionError
from runbook_lib.rehearsal.postgres import binaries
from runbook_lib.rehearsal.stack import stack
from runbook_lib.rehearsal.workspace import StackError, sweep, until

from ...support.owned import owner, processes_of, ready_root
from ...support.stack_access import ROWS, THREAD, api, git, pid, request


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
    for name in ("unshare", "true", "git"):
        found = shutil.which(name)
        assert found
        (tmp_path / name).symlink_to(found)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "executable", "no-such-python")
    with pytest.raises(StackError, match=r"No such file or directory: 'no-such-python'"), stack(ROWS):
        pytest.fail("it came up without a Python")
    assert list(temporary.iterdir()) == []


def test_a_missing_program_of_the_stack_is_named_before_anything_starts(
    temporary: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(PreconditionError, match="no git"), stack(ROWS):
        pytest.fail("it came up without git")
    assert list(temporary.iterdir()) == []
