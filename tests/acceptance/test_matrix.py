"""Each fault of the decision matrix, on real parts: triage names its row, its own check alone notices it."""

from runbook_lib.plan import load_plan
from runbook_lib.rehearsal.matrix import matrix, problems, shown
from runbook_lib.rehearsal.scenarios import SCENARIOS

from .conftest import PLAN, ROWS


def test_each_fault_is_named_by_triage_noticed_by_its_own_check_alone_and_gone_after_the_rollback() -> None:
    plan = load_plan(PLAN)

    lines = matrix(ROWS, lambda line: None)

    assert problems(plan, lines) == [], shown(plan, lines).text
    assert len(lines) == len(plan.decision_matrix) == 6
    ends = {scenario.fault: scenario.ends_as for scenario in SCENARIOS.values()}
    assert {line.fault: line.type for line in lines} == {line.fault: ends[line.fault] for line in lines}
