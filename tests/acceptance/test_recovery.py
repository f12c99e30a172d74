"""What a headless run that fails while the services are stopped leaves to read, and that its last line can be followed."""

import json
import shlex
import shutil
import subprocess

import pytest

from runbook_lib.rehearsal.stack import Stack

from ..support.places import PLAN, TARGET
from ..support.stacks import RUNBOOK


def runbook(*words: str) -> subprocess.CompletedProcess[str]:
    command = [RUNBOOK, *words]
    return subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)


def last_line(done: subprocess.CompletedProcess[str]) -> str:
    return done.stderr.strip().splitlines()[-1]


@pytest.mark.slow
def test_a_failed_run_ends_with_a_recovery_path_and_can_be_resumed(broken: Stack) -> None:
    planned = json.loads(runbook("plan", "--plan", str(PLAN), "--target", str(TARGET), "--type", "full", "--json").stdout)
    backend, run = broken.root / "backend", planned["run"]
    (backend / ".git" / "info").mkdir(exist_ok=True)
    (backend / ".git" / "info" / "exclude").write_text("dist.new\n")
    (backend / "dist.new").write_text("in the way of a build here, and not in a scratch clone")

    failed = runbook("run", run, "--approve", planned["digest"])

    assert failed.returncode == 3, failed.stderr
    assert "“Build backend” failed" in failed.stderr
    command = shlex.split(last_line(failed))
    assert command[:4] == ["runbook", "service-back", run, "--approve"]
    path = failed.stderr[failed.stderr.index("Service back in") :]
    assert ("undo | Take the code of backend back" in path, "apply | Build backend" in path) == (True, False)

    again = runbook(*command[1:])  # its undo builds too, so it fails for the same reason

    assert again.returncode == 3, again.stderr
    assert "“Take the code of backend back” failed" in again.stderr
    path = again.stderr[again.stderr.index("Service back in") :]
    assert ("undo | Option A: clear" in path, "Take the code of backend back" in path) == (True, False)
    command = shlex.split(last_line(again))

    back = runbook(*command[1:], "--json")  # the feature's build is still in place

    assert json.loads(back.stdout)["outcome"]["status"] == "service-back", back.stderr

    (backend / "dist.new").unlink()
    resumed = runbook("run", run, "--approve", planned["digest"])

    assert resumed.returncode == 0, resumed.stderr
    assert resumed.stderr == ""
    shutil.rmtree(run)
