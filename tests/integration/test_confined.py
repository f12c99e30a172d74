"""Commands that get less of the machine, or stand in another folder's place."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from runbook_lib.errors import AdapterError
from runbook_lib.system.processes import Confinement, LocalProcesses

from ..support.code_steps import git

PYTHON = [sys.executable, "-c"]


@pytest.fixture
def processes() -> LocalProcesses:
    return LocalProcesses()


def test_it_has_its_processors_and_comes_after_all_others(processes: LocalProcesses, tmp_path: Path) -> None:
    say = "import os; print(len(os.sched_getaffinity(0)), os.nice(0))"

    done = processes.run([*PYTHON, say], cwd=tmp_path, timeout=20, confine=Confinement(processors=1))

    assert done.output.split() == ["1", str(os.nice(0) + 10)]
    assert done.usage
    assert 0 < done.usage.processors < 1.5


def test_what_it_and_its_children_hold_is_measured(processes: LocalProcesses, tmp_path: Path) -> None:
    child = "x = bytearray(150_000_000); import time; time.sleep(0.4)"
    hold = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"

    done = processes.run([*PYTHON, hold], cwd=tmp_path, timeout=20, confine=Confinement())

    assert done.usage
    assert 150_000_000 < done.usage.memory < 300_000_000
    assert not done.usage.over


def test_one_that_holds_more_than_it_may_is_ended_with_its_children(processes: LocalProcesses, tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    child = f"import os, time; open({str(pid)!r}, 'w').write(str(os.getpid())); x = bytearray(300_000_000); time.sleep(60)"
    hold = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"

    done = processes.run([*PYTHON, hold], cwd=tmp_path, timeout=50, confine=Confinement(memory=100_000_000))

    assert done.usage
    assert (done.exit_code, done.usage.over) == (137, True)
    assert not Path(f"/proc/{pid.read_text()}/cmdline").exists() or not Path(f"/proc/{pid.read_text()}/cmdline").read_bytes()


@pytest.mark.parametrize(("script", "code"), [("exit 3", 3), ("kill -9 $$", 137), ("true", 0)])
def test_its_exit_code_is_its_own(processes: LocalProcesses, tmp_path: Path, script: str, code: int) -> None:
    assert processes.run(["sh", "-c", script], cwd=tmp_path, timeout=20, confine=Confinement()).exit_code == code


def test_a_missing_command_is_reported_as_usual(processes: LocalProcesses, tmp_path: Path) -> None:
    with pytest.raises(AdapterError, match="no-such-program could not be started"):
        processes.run(["no-such-program"], cwd=tmp_path, timeout=20, confine=Confinement())


def test_its_folder_replaces_another_for_it_alone(processes: LocalProcesses, tmp_path: Path) -> None:
    place, folder = tmp_path / "deployed", tmp_path / "scratch"
    place.mkdir()
    git(place, "init", "--quiet")
    (place / "file").write_text("deployed")
    git(place, "add", ".")
    git(place, "commit", "--quiet", "--message=one")
    git(tmp_path, "clone", "--quiet", "--shared", str(place), str(folder))
    (folder / "file").write_text("scratch")

    for _ in range(2):
        script = "pwd; pwd -P; cat file; echo; git log --format=%s; touch made"
        done = processes.run(["sh", "-c", script], cwd=folder, timeout=20, confine=Confinement(place=place))

        assert done.usage
        assert done.usage.in_place, "this test needs mount namespaces"
        assert done.output.splitlines() == [str(place), str(place.resolve()), "scratch", "one"]
    assert ((folder / "made").exists(), (place / "made").exists()) == (True, False)
    assert git(folder, "log", "--format=%s") == "one"


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user, which root alone can")
def test_an_ordinary_user_has_that_too(tmp_path: Path) -> None:
    for path in (p for p in (tmp_path, *tmp_path.parents) if p.is_relative_to(tempfile.gettempdir())):
        path.chmod(path.stat().st_mode | 0o5)
    for name in ("deployed", "scratch"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
        os.chown(tmp_path / name, 65534, 65534)
    launcher = tmp_path / "launcher.py"
    launcher.write_bytes((Path(__file__).parents[2] / "runbook_lib" / "system" / "confined.py").read_bytes())
    code = (
        "import sys; sys.path.insert(0, '.'); from pathlib import Path; import launcher;"
        f"print(launcher.take(Path({str(tmp_path / 'scratch')!r}), Path({str(tmp_path / 'deployed')!r})));"
        f"print(open({str(tmp_path / 'deployed' / 'file')!r}).read())"
    )

    done = subprocess.run(
        ["/usr/bin/env", "python3", "-c", code],
        cwd=tmp_path,
        user=65534,
        group=65534,
        capture_output=True,
        text=True,
        check=True,
    )

    assert done.stdout.split() == ["True", "scratch"], done.stderr
