"""Every YAML example of the documentation is read, as a part of a plan or of a target."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from runbook_lib.config.fleet import Fleet, Tls
from runbook_lib.config.target import Target, pair
from runbook_lib.documents import load_plan, load_target, plan_model

from ..support.places import ROOT

PAGES = [ROOT / "README.md", *sorted(path for path in (ROOT / "docs").rglob("*.md") if path.parent.name != "decisions")]
EXAMPLES = [
    pytest.param(block, id=f"{page.name}-{number}")
    for page in PAGES
    if page.name != "fleet.md"
    for number, block in enumerate(re.findall(r"```yaml\n(.*?)```", page.read_text(), re.DOTALL))
]
OF_FLEETS = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs" / "fleet.md").read_text(), re.DOTALL)
NAMES = ("backend", "frontend", "shop", "billing")
PLAN: dict[str, Any] = {
    "feature": "SHOP-41",
    "title": "Fees",
    "extends": "standard",
    "repositories": {"backend": {}},
    "services": [*NAMES],
    "compatibility": [{"code": code, "schema": "feature", "data": "feature"} for code in ("before", "feature")],
}
TARGET: dict[str, Any] = yaml.safe_load((ROOT / "parameters" / "production.example.yaml").read_text()) | {
    "repositories": {name: {"path": f"/srv/{name}", "build": ["make"]} for name in NAMES},
    "endpoints": {"shop": "http://localhost:1"},
    "metrics": {"url": "http://localhost:2"},
    "commands": {"smoke": {"command": ["true"]}},
}
TARGET["contacts"] = dict.fromkeys(TARGET["contacts"], "+00 0000")
SERVICES = {"manager": "pm2", "timeout": 60, "built_from": {name: name for name in NAMES}}
VERSIONS = {name: {"log": "(v.+)"} for name in NAMES}


def placed(example: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The plan and the target that an example makes, over a small one of each."""
    of_kinds = all(isinstance(value, dict) and "kind" in value for value in example.values())
    if of_kinds and not example.keys() & Target.model_fields.keys():
        example = {"checks": example}
    keys = {field.alias or name for name, field in plan_model().model_fields.items()}
    services = example.pop("services", None)
    of_plan = {key: value for key, value in example.items() if key in keys}
    of_target = {key: value for key, value in example.items() if key not in keys}
    managed = services if isinstance(services, dict) else {"home": "/home/deploy/.pm2"}
    versions = VERSIONS | managed.get("versions", {})
    target = TARGET | of_target | {"services": SERVICES | managed | {"versions": versions}}
    return PLAN | of_plan | ({"services": services} if isinstance(services, list) else {}), target


@pytest.mark.parametrize("block", OF_FLEETS)
def test_an_example_of_a_fleet_is_read(tmp_path: Path, block: str) -> None:
    example = yaml.safe_load(block)

    if any(key.startswith("tls_") for key in example):
        assert example.keys() <= Tls.model_fields.keys()
    elif "feature" in example:
        (tmp_path / "plan.yaml").write_text(block)
        assert load_plan(tmp_path / "plan.yaml").types["full"].in_fleet
    elif "apiVersion" not in example:
        assert Fleet.model_validate(example).waves


@pytest.mark.parametrize("block", EXAMPLES)
def test_an_example_is_read(tmp_path: Path, block: str) -> None:
    plan, target = placed(yaml.safe_load(block.replace("  …\n", "")))
    plan_file, target_file = tmp_path / "plan.yaml", tmp_path / "target.yaml"
    plan_file.write_text(yaml.safe_dump(plan))
    target_file.write_text(yaml.safe_dump(target))

    pair(load_plan(plan_file), load_target(target_file, {"SOCIAL_SELLING_API_TOKEN": "x"}), target_file)
