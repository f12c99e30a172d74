"""A fleet file that is wrong is refused by one error that names file, key and remedy, before any folder is made."""

import re
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml

from runbook_lib import fleet
from runbook_lib.config.fleet import load_fleet
from runbook_lib.errors import ParametersError
from runbook_lib.rehearsal.tenants import PLAN

from ...support.places import ROOT

TEMPLATE: dict[str, Any] = {
    "name": "shop-{target.name}",
    "environment": "rehearsal",
    "database": {"service": "tenants", "dbname": "shop_{target.name}", "application_role": "shop"},
    "backups": {"directory": "backups", "pattern": "{target.name}.dump", "oldest_hours": 48},
    "services": {
        "manager": "commands",
        "directory": ".",
        "timeout": 10,
        "commands": {name: ["true"] for name in ("list", "running", "stop", "start", "logs")},
        "versions": {},
        "built_from": {},
    },
    "contacts": dict.fromkeys(("On-Call Engineer", "Database Admin", "DevOps Lead", "Product Owner"), "a test"),
}
FLEET: dict[str, Any] = {"name": "shops", "type": "full", "targets": {"list": ["t001", "t002"]}}
WITH_SECRET = {"api_token": {"env": "NO_SUCH_SECRET"}}


def refused(root: Path, over: dict[str, Any], template: dict[str, Any] | None = None) -> ParametersError:
    """What a fleet file with some keys changed is refused by; nothing was made."""
    found = deepcopy(TEMPLATE) | (template or {})
    (root / "plan.yaml").write_text(yaml.safe_dump(PLAN))
    (root / "template.yaml").write_text(yaml.safe_dump({key: value for key, value in found.items() if value is not None}))
    whole = {**FLEET, "plan": str(root / "plan.yaml"), "template": str(root / "template.yaml"), **over}
    (root / "fleet.yaml").write_text(yaml.safe_dump({key: value for key, value in whole.items() if value is not None}))
    with pytest.raises(ParametersError) as raised:
        fleet.open_new(root / "fleet.yaml", outputs=root / "outputs")
    assert not [*root.glob("outputs/*"), *root.glob("outputs/.*")]
    return raised.value


@pytest.mark.parametrize(
    ("over", "said"),
    [
        ({"typ": "full"}, "line .*: typ: unknown key"),
        ({"targets": {}}, "targets: name the targets by exactly one of list, glob and query"),
        ({"targets": {"list": ["a/b"]}}, "'a/b' cannot name a target: a target's name has letters"),
        ({"targets": {"list": ["t001", "t001"]}}, "two targets are called t001"),
        ({"targets": {"glob": "none-at-all/*.yaml"}, "template": None}, "no target was found"),
        ({"canaries": ["t009"]}, "no target is called t009, which `canaries` names"),
        ({"server": "{target.host}"}, "t001 has no label 'host', which .*fleet.yaml, key server fills in"),
        ({"type": "ful"}, "ful"),
        ({"option": "Z"}, "has no option 'Z'"),
        ({"choose": {"STRATEGIE": "batched"}}, "STRATEGIE is not a choice of this type's steps"),
        ({"choose": {"STRATEGY": "fast"}}, "fast is not a value of STRATEGY"),
        ({"plan": "no-such-plan.yaml"}, "There is no file no-such-plan.yaml"),
        ({"template": "no-such-template.yaml"}, "There is no file no-such-template.yaml"),
    ],
)
def test_a_wrong_key_of_the_fleet_is_named_with_its_remedy(over: dict[str, Any], said: str, tmp_path: Path) -> None:
    error = refused(tmp_path, over)

    assert re.search(said, str(error))
    assert error.safe_next


@pytest.mark.parametrize(
    ("over", "said"),
    [
        ({"backups": None}, "^the target t001: backups: missing; add it"),
        ({"name": "{target.region}"}, "t001 has no label 'region', which .*template.yaml fills in"),
        (WITH_SECRET, "NO_SUCH_SECRET is not in the environment"),
        ({"contacts": {}}, "the target t001 lacks what the plan of SHOP-77 needs of a target: contacts."),
    ],
)
def test_a_wrong_template_is_named_with_the_target(over: dict[str, Any], said: str, tmp_path: Path) -> None:
    error = refused(tmp_path, {}, over)

    assert re.search(said, error.what)
    assert "t001" in error.what + error.where
    assert str(tmp_path / "outputs") not in str(error)
    assert error.safe_next


def test_a_secret_is_named_with_the_key_that_refers_to_it(tmp_path: Path) -> None:
    assert refused(tmp_path, {}, WITH_SECRET).where == f"{tmp_path / 'fleet.yaml'}, the target t001, key api_token"


def test_the_example_of_a_fleet_file_is_valid() -> None:
    found = load_fleet(ROOT / "parameters" / "fleet.example.yaml")

    assert found.waves == [1, "5 %", "25 %", "rest"]
    assert found.soak
    assert found.targets.list_
