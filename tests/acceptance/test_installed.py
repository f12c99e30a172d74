"""The project as its users install it: a wheel, in an environment of its own, in an empty folder outside the repository."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from junitparser import JUnitXml
from playwright.sync_api import expect, sync_playwright

from runbook_lib.browser.chromium import launch_options

from ..support.browser_seat import STEP, Served, seated
from ..support.commands import words
from ..support.places import PLAN, ROOT, TARGET
from ..support.wheel import built

pytestmark = pytest.mark.slow

CASE = ROOT / "tests" / "corpus" / "01-nullable-column"
STACK = {  # the variables of a stack that does not run
    **{f"REHEARSAL_{name}": "/nowhere" for name in ("ROOT", "PG_BIN", "PYTHON")},
    **{f"REHEARSAL_{name}": "http://127.0.0.1:1" for name in ("BACKEND_URL", "FRONTEND_URL")},
    **{f"REHEARSAL_{name}": "application" for name in ("APPLICATION_ROLE", "API_TOKEN")},
}


@dataclass(frozen=True)
class Installed:
    """An environment that holds the wheel, and the folder that its commands run in."""

    root: Path
    wheel: Path

    @property
    def folder(self) -> Path:
        return self.root / "work"

    @property
    def python(self) -> list[str]:
        return [str(self.root / "environment" / "bin" / "python")]

    @property
    def environment(self) -> dict[str, str]:
        """What a user's shell has: nothing of the process that runs the tests."""
        return {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR", "RUNBOOK_CHROMIUM") if name in os.environ}

    def install(self, extra: str, lock: str) -> None:
        """Add an extra, "" for none, each package in the version that the project locks."""
        versions = self.root / f"{lock}.txt"
        locked = re.findall(r"^[a-z0-9._-]+==[^\\\n]+", (ROOT / ".ci" / f"{lock}.lock").read_text(), re.MULTILINE)
        versions.write_text("\n".join(locked))
        wanted = f"{self.wheel}[{extra}]" if extra else str(self.wheel)
        pip = [*self.python, "-m", "pip", "install", "--disable-pip-version-check", "--quiet", "--no-compile"]
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        done = subprocess.run(
            [*pip, "--constraint", versions, wanted], cwd=self.root, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr

    def command(self, *arguments: str) -> list[str]:
        return [str(self.root / "environment" / "bin" / "runbook"), *arguments]

    def __call__(self, *arguments: str, **more: str) -> "subprocess.CompletedProcess[str]":
        """Run a command in the folder; whatever it says, it says without a traceback."""
        environment = {**self.environment, **more}
        done = subprocess.run(self.command(*arguments), cwd=self.folder, env=environment, capture_output=True, text=True)
        assert "Traceback" not in done.stdout + done.stderr
        return done


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """The wheel without extras."""
    root = tmp_path_factory.mktemp("installed")
    (root / "work").mkdir()
    subprocess.run([sys.executable, "-m", "venv", root / "environment"], check=True)
    made = Installed(root, built(root))
    made.install("", "headless")
    return made


@pytest.fixture(scope="module")
def rehearsing(plain: Installed) -> Installed:
    plain.install("rehearsal", "headless")
    return plain


@pytest.fixture(scope="module")
def seating(rehearsing: Installed) -> Installed:
    rehearsing.install("lab", "lab")
    return rehearsing


def runs(folder: Path) -> set[Path]:
    return set((folder / "outputs").glob("*/journal.jsonl"))


def test_without_extras_a_command_names_the_one_it_needs(plain: Installed) -> None:
    where = [*plain.python, "-c", "import runbook_lib; print(runbook_lib.__file__)"]
    loaded = subprocess.run(where, cwd=plain.folder, env=plain.environment, capture_output=True, text=True).stdout
    migration = ["rehearse", "--before", "before.sql", "--migration", "up.sql"]

    assert Path(loaded.strip()).is_relative_to(plain.root)
    assert plain("--help").returncode == 0
    for command, extra in ((["rehearse"], "rehearsal"), (migration, "rehearsal"), (["lab", "--rehearsal"], "lab")):
        refused = plain(*command)
        assert (refused.returncode, refused.stdout) == (3, "")
        assert f'pip install "runbook-lib[{extra}]"' in refused.stderr
    assert list(plain.folder.iterdir()) == []


def test_plan_target_and_outputs_are_those_of_the_current_directory(plain: Installed) -> None:
    for source, name in ((PLAN, "mine.yaml"), (TARGET, "mine-target.yaml")):
        shutil.copyfile(source, plain.folder / name)
    missing = plain("plan", "--plan", "missing.yaml", "--target", "mine-target.yaml", "--type", "full", **STACK)
    planned = plain("plan", "--plan", "mine.yaml", "--target", "mine-target.yaml", "--type", "full", **STACK)
    (journal,) = runs(plain.folder)

    assert missing.returncode == 2
    assert f"a relative path starts from {plain.folder}" in words(missing.stderr)
    assert planned.returncode == 3  # no service of that target runs
    assert json.loads(journal.read_text().splitlines()[0])["data"]["plan_file"] == "mine.yaml"
    assert plain("status", f"outputs/{journal.parent.name}").returncode == 0
    assert plain("notebook", "--plan", "mine.yaml", "--type", "full").returncode == 0
    assert 'PLAN: str = "mine.yaml"' in (plain.folder / "03-full-rollback.py").read_text()


def test_the_sample_is_rolled_back_and_verified(rehearsing: Installed) -> None:
    before = runs(rehearsing.folder)
    done = rehearsing("rehearse", "--rows", "600", "--junit", "junit.xml")
    (journal,) = runs(rehearsing.folder) - before

    assert done.returncode == 0, done.stdout + done.stderr
    assert "full rollback with option A VERIFIED" in done.stdout
    assert f"Report: outputs/{journal.parent.name}/report.html" in words(done.stdout)
    assert rehearsing("verify", str(journal.parent)).returncode == 0
    (suite,) = JUnitXml.fromfile(str(rehearsing.folder / "junit.xml"))
    assert (suite.name, suite.failures, suite.errors, suite.tests > 20) == ("rehearsal.all-media-missing", 0, 0, True)


def test_a_stack_whose_manager_is_missing_names_it_before_anything(rehearsing: Installed, tmp_path: Path) -> None:
    for program in ("git", "node", "npm"):
        (tmp_path / program).touch(0o755)
    before = runs(rehearsing.folder)
    refused = rehearsing("rehearse", "--stack", "node", PATH=str(tmp_path))

    assert (refused.returncode, refused.stdout) == (3, "")
    assert "There is no pm2" in words(refused.stderr)
    assert "npm install --global pm2" in words(refused.stderr)
    assert runs(rehearsing.folder) == before


def test_a_migration_is_taken_back_and_verified(rehearsing: Installed) -> None:
    for name in ("before", "up", "use"):
        shutil.copyfile(CASE / f"{name}.sql", rehearsing.folder / f"{name}.sql")
    done = rehearsing("rehearse", "--before", "before.sql", "--migration", "up.sql", "--use", "use.sql")

    assert done.returncode == 0, done.stdout + done.stderr
    assert "VERIFIED in" in done.stdout


@contextmanager
def served(installed: Installed) -> Iterator[Served]:
    """A game day of the installed package, ended as by Ctrl-C."""
    command = installed.command("lab", "--rehearsal", "--rows", "600", "--no-browser", "--json")
    with subprocess.Popen(
        command, cwd=installed.folder, env=installed.environment, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout
            said = json.loads(process.stdout.readline() or '{"error": "it ended with a traceback"}')
            assert "run" in said, said["error"]
            yield Served(Path(said["run"]), said["link"])
        finally:
            process.send_signal(signal.SIGINT)


def test_the_notebooks_run_in_jupyterlab(seating: Installed) -> None:
    with served(seating) as lab, sync_playwright() as playwright:
        browser = playwright.chromium.launch(**launch_options())
        with seated(browser, lab.link) as seat:
            seat.run_all()
            expect(seat.waiting("TYPE:")).to_contain_text("Full: database, backend and frontend", timeout=STEP)
        browser.close()

    assert lab.folder.parent == seating.folder / "outputs"
    assert any(event["kind"] == "cell-ended" for event in map(json.loads, (lab.folder / "journal.jsonl").open()))
