"""The workflow that `runbook init` writes, run from a clean clone of a team's repository; pip alone is left out."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from junitparser import JUnitXml

from runbook_lib.config.open_points import open_points
from runbook_lib.init.writing import init

from ..support.ci_shell import GITHUB, Job
from ..support.own_release import FILES, Team, team

pytestmark = pytest.mark.slow

FOUND = {
    "Procfile": "shop: python dist/app.py $PORT\n",
    "Makefile": "build:\n\tpython build.py\n",
    ".env.example": "DATABASE_URL=postgresql://shop:secret@localhost/shop\n",
}
URL = "${REHEARSAL_DATABASE_URL}"
MIGRATE = f'{{run: [python, migrate.py], directory: "${{REHEARSAL_ROOT}}/shop", environment: {{DATABASE_URL: "{URL}"}}}}'
ANSWERS = {
    "services.versions.shop": '{url: "${REHEARSAL_SHOP_URL}/health", field: version}',
    "database.fill": "[{dump: before.sql}, {backup: before}]",
    "database.release": f"[{MIGRATE}]",
    "health.shop": '{url: "${REHEARSAL_SHOP_URL}/health"}',
}


@pytest.fixture(scope="module")
def remote(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The team's remote: CI and stack on main, and a branch with the release, of which there is no plan."""
    made = team(tmp_path_factory.mktemp("team") / "shop")
    made.git("branch", "fees")
    made.git("reset", "--quiet", "--hard", "main~1")
    for name, text in FOUND.items():
        (made.root / name).write_text(text)
    init(made.root)
    shutil.copy(FILES / "rehearsal" / "before.sql", made.root / "parameters")
    for name in ("rehearsal", "stack"):
        _answer(made.root / "parameters" / f"{name}.yaml")
    _commit(made, "Rehearse rollbacks", ".github", ".gitlab-ci.yml", "parameters", *FOUND)
    made.git("checkout", "--quiet", "fees")
    made.git("rebase", "--quiet", "main")
    place = made.root.with_name("shop.git")
    made.git("clone", "--quiet", "--bare", ".", str(place))
    return place


def _answer(file: Path) -> None:
    lines = file.read_text().splitlines()
    for point in open_points(file.read_text()):
        lines[point.line - 1] = lines[point.line - 1].replace("null  #", f"{ANSWERS[point.key]}  #")
    file.write_text("\n".join(lines) + "\n")


def _commit(made: Team, message: str, *paths: str) -> None:
    made.git("add", *paths)
    made.git("commit", "--quiet", "--message", message)


def test_a_release_is_drafted_and_rehearsed_from_a_clean_clone(remote: Path, tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "--quiet", "--branch", "fees", str(remote), str(clone)], check=True)
    environment = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "RUNBOOK_PROJECT": str(clone)}

    done = Job(clone, environment).run(GITHUB)

    assert done.returncode == 0, done.stdout + done.stderr
    (suite,) = JUnitXml.fromfile(str(clone / "outputs" / "rehearsal.xml"))
    assert (suite.name, suite.failures, suite.errors, suite.tests > 10) == ("rehearsal.none", 0, 0, True)
    groups = {case.classname.removeprefix("rehearsal.none") for case in suite}
    assert groups == {".step", ".check", "", ".undo", ".check-undone", ".check-deployed"}
    (run,) = [path.parent for path in clone.glob("outputs/*/journal.jsonl")]
    assert {"SHOP-41.yaml", "SHOP-41.changes.yaml", "SHOP-41.states.zip"} <= {
        path.name for path in (clone / "parameters").iterdir()
    }
    assert {"01-triage.ipynb", "03-full-rollback.ipynb", "report.html"} <= {path.name for path in run.iterdir()}
