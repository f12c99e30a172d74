"""`runbook notebook`: a notebook and its text, written once."""

import json
from pathlib import Path

import pytest

from ...support.commands import Command
from ...support.places import PLAN, TARGET


def test_the_pair_is_written_here_by_the_plans_name_for_it(runbook: Command, tmp_path: Path) -> None:
    code, out, _ = runbook("notebook", "--plan", PLAN, "--type", "full", "--option", "B", "--json")

    assert (code, json.loads(out)) == (0, {"files": ["03-full-rollback.ipynb", "03-full-rollback.py"]})
    assert 'OPTION: str = "B"' in (tmp_path / "03-full-rollback.py").read_text()


@pytest.mark.parametrize(("needs_more", "code"), [(False, 0), (True, 2)], ids=["it fits", "it lacks what the plan needs"])
def test_a_notebook_for_a_target_names_it_and_it_must_fit(
    runbook: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, needs_more: bool, code: int
) -> None:
    for name in ("ROOT", "BACKEND_URL", "FRONTEND_URL", "API_TOKEN", "PG_BIN", "PYTHON", "APPLICATION_ROLE"):
        monkeypatch.setenv(f"REHEARSAL_{name}", "application" if name == "APPLICATION_ROLE" else "http://a.test")
    target = tmp_path / "ours.yaml"
    target.write_text(TARGET.read_text().replace("\n  frontend:", "\n  else:", 1) if needs_more else TARGET.read_text())

    ended, _, err = runbook("notebook", "--plan", PLAN, "--type", "full", "--option", "A", "--target", target)

    assert (ended, "ours.yaml" in err) == (code, needs_more)
    assert [f'TARGET: str = "{target}"' in made.read_text() for made in tmp_path.glob("*.py")] == [True] * (not needs_more)


def test_a_notebook_that_was_worked_in_is_not_written_over(runbook: Command, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("worked in")
    code, _, err = runbook("notebook", "--plan", PLAN, "--type", "full", "-o", "mine.ipynb")

    assert (code, "mine.py exists" in err) == (2, True)
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("mine.py", "worked in")]


@pytest.mark.parametrize("file", ["mine.txt", "no-folder/mine.ipynb"])
def test_a_file_that_cannot_be_a_notebook_is_refused(runbook: Command, tmp_path: Path, file: str) -> None:
    code, _, err = runbook("notebook", "--plan", PLAN, "--type", "full", "-o", file)

    assert (code, f"{file} is no place for a notebook" in err) == (2, True)
    assert list(tmp_path.iterdir()) == []
