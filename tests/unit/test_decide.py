"""A decision says one thing; what is undecided stops when the plan is read."""

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
