"""A decision says one thing; an undecided one stops when the plan is read."""

from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from runbook_lib.config.plan import Decision
from runbook_lib.documents import load_plan
from runbook_lib.errors import ParametersError

from ..support.places import PLAN


@pytest.mark.parametrize(
    "decision",
    [
        {},
        {"columns": ["street"], "from": "addresses"},
        {"columns": ["street"], "match": "true"},
        {"from": "addresses", "match": "true"},
        {"value": "1", "rows": "SELECT 1"},
        {"columns": ["street"], "from": "addresses", "match": "true", "value": "1"},
        {"misfits": "keep", "value": "1"},
    ],
)
def test_half_a_decision_and_two_at_once_are_refused(decision: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match=r"go together|exactly one"):
        Decision.model_validate(decision)


def test_what_is_undecided_stops_when_the_plan_is_read(tmp_path: Path) -> None:
    plan = tmp_path / "plan.yaml"
    plan.write_text(yaml.safe_dump({**yaml.safe_load(PLAN.read_text()), "decide": {"customers.street": None}}))

    with pytest.raises(ParametersError, match=r"decide\.customers\.street"):
        load_plan(plan)


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ("refuse", "refuse"),
        ("keep", "keep"),
        ("'open'", "'open'"),
        (0, "0"),
        (1.5, "1.5"),
        (False, "false"),
        ("NULL", "NULL"),
        ("left(code, 3)", "left(code, 3)"),
    ],
)
def test_misfits_are_a_word_or_a_value(given: object, read: str) -> None:
    assert Decision.model_validate({"misfits": given}).misfits == read


@pytest.mark.parametrize("misfits", ["kep", "Keep", "open", ""])
def test_a_misspelt_word_is_no_value_and_stops_when_the_plan_is_read(tmp_path: Path, misfits: str) -> None:
    plan = tmp_path / "plan.yaml"
    decide = {"meters.pulses": {"misfits": misfits}}
    plan.write_text(yaml.safe_dump({**yaml.safe_load(PLAN.read_text()), "decide": decide}))

    with pytest.raises(ParametersError, match=r"decide\.meters\.pulses\.misfits: misfits is refuse, keep or SQL") as error:
        load_plan(plan)

    assert str(error.value).count("decide.") == 1
