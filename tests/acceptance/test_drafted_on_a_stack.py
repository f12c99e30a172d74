"""`runbook draft --stack S` drafts the plan of a release from the stack of its rehearsals."""

from pathlib import Path

import pytest
import yaml

from ..support.bare import runbook
from ..support.own_release import team


@pytest.mark.slow
def test_a_plan_is_drafted_from_a_stack_without_a_target(tmp_path: Path) -> None:
    shop = team(tmp_path / "shop")
    folder = tmp_path / "drafted"

    ended = runbook("draft", "--stack", shop.stack, "--feature", "SHOP-41", "-o", folder / "plan.yaml", "--folder", folder)

    assert ended.exit_code == 0, ended.text
    text = (folder / "plan.yaml").read_text()
    plan = yaml.safe_load(text)
    assert plan["migration"] == {"tool": "plain", "repository": "shop", "versions": ["002"]}
    fields = [each["fields"] for each in plan["checks"].values() if each["path"] == "/orders"]
    assert fields == [["orders[].id", "orders[].cents"]]
    assert "Made from the newest backup, before_" in text
    assert (folder / plan["draft"]["changes"]).exists()
    assert runbook("check-plan", folder / "plan.yaml").exit_code == 0
