"""`runbook rehearse --plan P --stack S`: a release of one's own, on the stack that a file describes."""

import json
from pathlib import Path
from typing import Any

import pytest

from runbook_lib import records
from runbook_lib.rehearsal import own

from ..support.bare import Ended, runbook
from ..support.own_release import Team, team


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Team:
    return team(tmp_path_factory.mktemp("team") / "shop")


@pytest.fixture(autouse=True)
def outputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(own, "OUTPUTS", tmp_path)
    return tmp_path


def rehearsed(shop: Team, *more: str) -> Ended:
    return runbook("rehearse", "--plan", shop.plan, "--stack", shop.stack, *more)


def found(ended: Ended) -> dict[str, Any]:
    (one,) = json.loads(ended.text.splitlines()[-1])
    return dict(one)


@pytest.mark.slow
def test_a_release_that_works_is_rolled_back_as_the_stack_expects(shop: Team, outputs: Path) -> None:
    before = shop.git("rev-parse", "HEAD"), shop.git("status", "--porcelain")

    ended = rehearsed(shop, "--json")

    one = found(ended)
    assert (ended.exit_code, one["status"], one["type"], one["problems"]) == (0, "verified", "full", [])
    assert (one["undone"], one["not_undone"], one["deployed_again"]) == (True, {}, True)
    assert {"01-triage.ipynb", "03-full-rollback.ipynb"} <= {path.name for path in Path(one["run"]).iterdir()}
    assert "VERIFIED" in (Path(one["run"]) / "rollback-log.md").read_text()
    assert runbook("verify", one["run"]).exit_code == 0
    assert (shop.git("rev-parse", "HEAD"), shop.git("status", "--porcelain")) == before
    (kept,) = records.kept(records.next_to(outputs)).records
    assert kept.walk.outcome == "verified"
    assert {step.status for step in kept.walk.steps.values()} <= {"done", "found done"}
    assert {code.commit for code in kept.subject.code.values()} == {before[0]}


@pytest.mark.slow
def test_triage_must_recommend_what_a_fault_expects(shop: Team) -> None:
    ended = rehearsed(shop, "--scenario", "broken", "--json")

    one = found(ended)
    assert (ended.exit_code, one["status"], one["recommended"]) == (0, "verified", "full")
