"""What a headless run that fails while the services are stopped leaves to read, and that its last line can be followed."""

import json
import shlex
import shutil
import subprocess

import pytest
import yaml

from runbook_lib.rehearsal.stack import Stack

from ..support.commands import words
from ..support.places import PLAN, TARGET
from ..support.stacks import RUNBOOK


def runbook(*words: str) -> subprocess.CompletedProcess[str]:
    command = [RUNBOOK, *words]
    return subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)


def last_line(done: subprocess.CompletedProcess[str]) -> str:
    return done.stderr.replace("\\\n", " ").strip().splitlines()[-1]


@pytest.mark.slow
def test_a_failed_run_ends_with_a_recovery_path_and_can_be_resumed(broken: Stack) -> None:
    backend, target = broken.root / "backend", broken.root / "target.yaml"
    described = yaml.safe_load(TARGET.read_text())
    described["repositories"]["backend"]["build"] = [
        "sh",
        "-c",
        'mkdir -p cache && touch cache/x && "$REHEARSAL_PYTHON" build.py',
    ]
    target.write_text(yaml.safe_dump(described))
    (backend / "cache").symlink_to(broken.root / "nowhere")  # so it is built here, which fails, and not in a scratch clone
    planned = json.loads(runbook("plan", "--plan", str(PLAN), "--target", str(target), "--type", "full", "--json").stdout)
    run = planned["run"]

    failed = runbook("run", run, "--approve", planned["digest"])

    assert failed.returncode == 3, failed.stderr
    assert "“Build backend” failed" in words(failed.stderr)
    command = shlex.split(last_line(failed))
    assert command[:4] == ["runbook", "service-back", run, "--approve"]
    path = failed.stderr[failed.stderr.index("Service back in") :]
    assert ("undo | Take the code of backend back" in path, "apply | Build backend" in path) == (True, False), path

    again = runbook(*command[1:])  # its undo builds too, so it fails for the same reason

    assert again.returncode == 3, again.stderr
    assert "“Take the code of backend back” failed" in words(again.stderr)
    path = again.stderr[again.stderr.index("Service back in") :]
    assert ("undo | Option A: clear" in path, "Take the code of backend back" in path) == (True, False)
    command = shlex.split(last_line(again))

    back = runbook(*command[1:], "--json")  # the feature's build is still in place

    assert json.loads(back.stdout)["outcome"]["status"] == "service-back", back.stderr

    (broken.root / "nowhere").mkdir()
    resumed = runbook("run", run, "--approve", planned["digest"])

    assert resumed.returncode == 0, resumed.stderr
    assert resumed.stderr == ""
    shutil.rmtree(run)
