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
        ({"targets": {"list": []}}, "targets.list: List should have at least 1 item"),
        ({"targets": {"list": [17]}}, "targets.list.0: it must be a name, in quotes .* but the file has 17"),
        ({"targets": {"list": ["a/b"]}}, "key targets: 'a/b' cannot name a target: a name has letters"),
        ({"targets": {"list": ["t001", "t001"]}}, "key targets: two targets are called t001"),
        ({"targets": {"list": [{"name": "a", "labels": {"name": "b"}}]}}, "targets.list.0.labels: {target.name} is the"),
        ({"targets": {"glob": "none-at-all/*.yaml"}, "template": None}, "key targets: no target was found"),
        ({"targets": {"glob": "/"}, "template": None}, "key targets: no target was found"),
        ({"targets": {"glob": ""}, "template": None}, "targets.glob: it must not be empty"),
        ({"canaries": ["t009"]}, "key canaries: no target is called t009"),
        ({"waves": []}, "waves: the last wave, and no other, must be rest"),
        ({"waves": [0, "rest"]}, "waves.0: a wave has at least one target, but the file has 0"),
        ({"waves": ["150 %", "rest"]}, "waves.0: it must be a number of targets, a share as 25 %, or rest"),
        ({"waves": [True, "rest"]}, "waves.0: it must be a number of targets, .* but the file has true"),
        ({"waves": ["rest", "rest"]}, "waves: the last wave, and no other, must be rest"),
        ({"at_once": 0}, "at_once: Input should be greater than 0"),
        ({"deadline": 0}, "deadline: Input should be greater than 0"),
        ({"soak": {"seconds": 0, "checks": ["none"]}}, "none is not a check of the plan.*key soak.checks"),
        ({"shared": {"target": "none.yaml", "type": "full", "when": "before"}}, "none.yaml.*key shared.target"),
        ({"per_target": {"a": {"b": "{target.c}"}}}, "t001 has no label 'c', which .*fleet.yaml, key per_target.a.b fills"),
        ({"server": "{target.host}"}, "t001 has no label 'host', which .*fleet.yaml, key server fills"),
        ({"type": "ful"}, "ful"),
        ({"option": "Z"}, "has no option 'Z'"),
        ({"choose": {"STRATEGIE": "batched"}}, "STRATEGIE is not a choice of this type's steps"),
        ({"choose": {"STRATEGY": "fast"}}, "fast is not a value of STRATEGY"),
        ({"plan": "no-such-plan.yaml"}, "There is no file no-such-plan.yaml.*fleet.yaml, key plan"),
        ({"template": "no-such-template.yaml"}, "There is no file no-such-template.yaml.*fleet.yaml, key template"),
    ],
)
def test_a_wrong_key_of_the_fleet_is_named_with_its_remedy(over: dict[str, Any], said: str, tmp_path: Path) -> None:
    error = refused(tmp_path, over)

    assert re.search(said, str(error), re.DOTALL)
    assert "fleet.yaml" in str(error)
    assert error.safe_next


@pytest.mark.parametrize(
    ("over", "said"),
    [
        ({"backups": None}, "^the target t001: backups: missing; add it"),
        ({"name": "{target.region}"}, "t001 has no label 'region', which .*template.yaml, key name fills in"),
        (WITH_SECRET, "NO_SUCH_SECRET is not in the environment"),
        ({"contacts": {}}, "the target t001 lacks what the plan of SHOP-77 needs of a target: contacts."),
    ],
)
def test_a_wrong_template_is_named_with_the_target(over: dict[str, Any], said: str, tmp_path: Path) -> None:
    error = refused(tmp_path, {}, over)

    assert re.search(said, error.what)
    assert "t001" in error.what + error.where
    assert str(tmp_path / "outputs") not in str(error)
    assert "template.yaml" in error.what + error.safe_next
    assert error.safe_next


def test_a_secret_is_named_with_the_key_that_refers_to_it(tmp_path: Path) -> None:
    assert refused(tmp_path, {}, WITH_SECRET).where == f"{tmp_path / 'fleet.yaml'}, the target t001, key api_token"


def test_the_example_of_a_fleet_file_is_valid() -> None:
    found = load_fleet(ROOT / "parameters" / "fleet.example.yaml")

    assert found.waves == [1, "5 %", "25 %", "rest"]
    assert found.soak
    assert found.targets.list_
