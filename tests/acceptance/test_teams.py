"""Two teams, from `runbook init` to a green rehearsal in CI, and to the next release, of which none was rehearsed."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from junitparser import JUnitXml

from runbook_lib.rehearsal.stack import Stack, brought_up
from runbook_lib.rehearsal.stack_file import load_stack
from runbook_lib.rehearsal.workspace import settled_in

from ..support.ci_shell import GITHUB, GITLAB, Job
from ..support.commands import words
from ..support.teams import PARCELS, SHOP, Team, cloned, git, push
from ..support.teams.desk import begin, rehearse

pytestmark = pytest.mark.slow
BIN = Path(sys.executable).parent
WITHOUT_DOWNLOADS = {"PRISMA_HIDE_UPDATE_MESSAGE": "1", "CHECKPOINT_DISABLE": "1"} | dict.fromkeys(
    ("PRISMA_QUERY_ENGINE_LIBRARY", "PRISMA_SCHEMA_ENGINE_BINARY"), os.devnull
)


FILES = [pytest.param(SHOP, GITHUB, id="Alembic and FastAPI"), pytest.param(PARCELS, GITLAB, id="Prisma and Node")]


@pytest.mark.parametrize(("team", "file"), FILES)
def test_a_release_is_green_in_ci_and_the_next_one_is_refused(team: Team, file: str, tmp_path: Path) -> None:
    clone = opened(team, tmp_path)
    environment = {**os.environ, **WITHOUT_DOWNLOADS, "PATH": f"{BIN}:{os.environ['PATH']}", "RUNBOOK_PROJECT": str(clone)}

    done = Job(clone, environment).run(file)

    assert done.returncode == 0, done.stdout + done.stderr
    report = JUnitXml.fromfile(str(clone / "outputs" / "rehearsal.xml"))
    assert (report.failures, report.errors, report.skipped, report.tests > 10) == (0, 0, 0, True)
    with settled_in(environment | {"RELEASED": "v1.0.0"}), brought_up(load_stack(clone / "parameters" / "stack.yaml")) as up:
        deployed = up.root / team.name
        for file in clone.glob(f"parameters/{team.feature}.*"):
            shutil.copy(file, up.root / "backups")
        assert "PASS The rollback was rehearsed for exactly this" in words(planned(team, clone, up).stdout)
        rehearsed = git(deployed, "rev-parse", "HEAD")[:12]

        team.release(deployed, "v1.2.0")
        up.migrate()
        refused, here = planned(team, clone, up), git(deployed, "rev-parse", "HEAD")[:12]

    said = words(refused.stdout + refused.stderr)
    assert (refused.returncode, "had other inputs: " in said) == (3, True), said
    assert f"the commit of {team.name}: rehearsed {rehearsed}, here {here}" in said


def opened(team: Team, place: Path) -> Path:
    """A clean clone of a pull request's branch: main has the first release and what `init` wrote, the branch the second."""
    desk = team.repository(place)
    team.release(desk, "v1.0.0")
    begin(team, desk)
    push(desk, "Rehearse rollbacks in CI")
    git(desk, "switch", "--quiet", "--create", "feature")
    team.release(desk, "v1.1.0")
    rehearse(team, desk)
    push(desk, "Say what users do with the release")
    return cloned(place / f"{team.name}.git", place / "clone", "--branch=feature")


def planned(team: Team, clone: Path, up: Stack) -> "subprocess.CompletedProcess[str]":
    """`runbook plan` on production."""
    files = ["--plan", f"parameters/{team.feature}.yaml", "--target", "parameters/production.yaml", "--type=full"]
    about = ["--option=D", "--operator=Ada", "--reason=no orders", "--incident=INC-1", "--verbose"]
    command = [str(BIN / "runbook"), "plan", *files, *about]
    return subprocess.run(command, cwd=clone, env={**os.environ, **up.environment}, capture_output=True, text=True)
