"""The CI files that `runbook init` writes, run from a clean clone of a team's repository; pip alone is left out."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from junitparser import JUnitXml

from runbook_lib.config.open_points import open_points
from runbook_lib.init.writing import init

from ..support.ci_shell import GITHUB, GITLAB, Job
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
    "database.fill": f"[{{dump: before.sql}}, {{backup: before}}]\n  release: [{MIGRATE}]",
    "health.shop": '{url: "${REHEARSAL_SHOP_URL}/health"}',
}


@pytest.fixture(scope="module")
def remote(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The team's remote: CI and stack on main, and a branch with the release and its plan."""
    made = team(tmp_path_factory.mktemp("team") / "shop")
    made.git("branch", "fees")
    made.git("reset", "--quiet", "--hard", "main~1")
    drafted = made.root / "rehearsal"
    for name, text in FOUND.items():
        (made.root / name).write_text(text)
    init(made.root)
    shutil.copy(FILES / "rehearsal" / "before.sql", made.root / "parameters")
    for name in ("rehearsal", "stack"):
        _answer(made.root / "parameters" / f"{name}.yaml")
    _commit(made, "Rehearse rollbacks", ".github", ".gitlab-ci.yml", "parameters", *FOUND)
    made.git("checkout", "--quiet", "fees")
    made.git("rebase", "--quiet", "main")
    for name in ("changes.yaml", "states.zip"):
        shutil.copy(drafted / f"SHOP-41.{name}", made.root / "parameters")
    shutil.copy(drafted / "plan.yaml", made.root / "parameters" / "SHOP-41.yaml")
    _commit(made, "Plan the rollback of the fees", "parameters")
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


@pytest.mark.parametrize("file", [GITHUB, GITLAB])
def test_a_release_is_rehearsed_from_a_clean_clone(remote: Path, tmp_path: Path, file: str) -> None:
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "--quiet", "--branch", "fees", str(remote), str(clone)], check=True)
    environment = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "RUNBOOK_PROJECT": str(clone)}

    done = Job(clone, environment).run(file)

    assert done.returncode == 0, done.stdout + done.stderr
    (suite,) = JUnitXml.fromfile(str(clone / "outputs" / "rehearsal.xml"))
    assert (suite.name, suite.failures, suite.errors, suite.tests > 10) == ("rehearsal.none", 0, 0, True)
    (run,) = [path.parent for path in clone.glob("outputs/*/journal.jsonl")]
    assert {"01-triage.ipynb", "03-full-rollback.ipynb", "report.html"} <= {path.name for path in run.iterdir()}
