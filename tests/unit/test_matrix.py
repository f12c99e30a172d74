"""The table of faults against checks names each fault that no check distinguishes; `make matrix` fills it on real parts."""

from dataclasses import replace

import pytest

from runbook_lib.config.plan import Plan
from runbook_lib.rehearsal.rehearse import Line, problems


@pytest.fixture
def lines(plan: Plan) -> list[Line]:
    """Each row's fault, noticed by its own check alone and gone afterwards."""
    after = {row.own: "PASS" for row in plan.decision_matrix}
    return [
        Line(f"fault-{n}", row.symptom, row.symptom, "full", {**after, row.own: "FAIL"}, dict(after), 1.0)
        for n, row in enumerate(plan.decision_matrix)
    ]


def test_faults_that_are_distinguished_are_no_problem(plan: Plan, lines: list[Line]) -> None:
    assert len(lines) == 6
    assert problems(plan, lines) == []


def test_a_row_without_a_fault_is_one(plan: Plan, lines: list[Line]) -> None:
    assert problems(plan, lines[1:]) == [f"no fault for {lines[0].symptom}"]


def test_a_fault_that_triage_takes_for_another_is_one(plan: Plan, lines: list[Line]) -> None:
    lines[0] = replace(lines[0], named=lines[1].symptom)
    assert problems(plan, lines) == [f"{lines[0].fault}: triage named {lines[1].symptom}"]


@pytest.mark.parametrize(("moment", "status"), [("before", "PASS"), ("after", "FAIL"), ("after", "UNKNOWN")])
def test_a_check_that_says_otherwise_is_one(plan: Plan, lines: list[Line], moment: str, status: str) -> None:
    own = plan.decision_matrix[0].own
    lines[0] = replace(lines[0], **{moment: {**getattr(lines[0], moment), own: status}})
    assert [problem.split(" was ")[0] for problem in problems(plan, lines)] == [f"{lines[0].fault}: {own}"]


def test_a_check_that_fails_for_anothers_fault_is_one(plan: Plan, lines: list[Line]) -> None:
    other = plan.decision_matrix[1].own
    lines[0] = replace(lines[0], before={**lines[0].before, other: "FAIL"})
    assert problems(plan, lines) == [f"{lines[0].fault}: {other} was FAIL then PASS, not PASS then PASS"]
