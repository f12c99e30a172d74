"""Faults against the decision matrix: each fault in a stack of its own, triaged, rolled back, and every named check made."""

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

from runbook_lib.config.plan import Plan
from runbook_lib.documents import load_plan
from runbook_lib.rehearsal.scenarios import SCENARIOS
from runbook_lib.rehearsal.stack import stack
from runbook_lib.rehearsal.workspace import PLAN, TARGET, settled_in
from runbook_lib.run import Run, engine, lifecycle
from runbook_lib.triage import decision_matrix
from runbook_lib.ui.display import Shown, table
from runbook_lib.ui.progress import Told

Statuses = Mapping[str, str]  # check -> PASS, FAIL or UNKNOWN


@dataclass(frozen=True)
class Line:
    """One fault: the row that triage named, the type walked, and the named checks before and after."""

    fault: str
    symptom: str  # the row that the fault belongs to
    named: str  # the row that triage named
    type: str
    before: Statuses
    after: Statuses
    seconds: float


def matrix(rows: int, tell: Told) -> list[Line]:
    """Inject each fault of the decision matrix, one at a time, and see that triage, checks and rollback agree on it.

    The steps are walked without notebooks, and the run folders are gone afterwards.
    """
    plan = load_plan(PLAN)
    faults = {scenario.symptom: scenario.fault for scenario in SCENARIOS.values() if scenario.symptom}
    return [_line(plan, row.symptom, faults[row.symptom], rows, tell) for row in plan.decision_matrix]


def problems(plan: Plan, lines: list[Line]) -> list[str]:
    """Where the lines are not as they must be: the own check FAIL then PASS, every other PASS, the row named. Pure."""
    found = []
    own = {row.symptom: row.own for row in plan.decision_matrix}
    if missing := own.keys() - {line.symptom for line in lines}:
        found.append(f"no fault for {', '.join(sorted(missing))}")
    for line in lines:
        if line.named != line.symptom:
            found.append(f"{line.fault}: triage named {line.named or 'nothing'}")
        for check in own.values():
            wanted = ("FAIL" if check == own[line.symptom] else "PASS", "PASS")
            seen = (line.before.get(check, "not made"), line.after.get(check, "not made"))
            if seen != wanted:
                found.append(f"{line.fault}: {check} was {' then '.join(seen)}, not {' then '.join(wanted)}")
    return found


def shown(plan: Plan, lines: list[Line]) -> Shown:
    """The table: faults down, named checks across, each as it was before and after the rollback."""
    own = [row.own for row in plan.decision_matrix]
    head = ["fault", *own, "triage named", "rolled back as", "took"]
    rows = [
        [
            line.fault,
            *(f"{line.before.get(check, '?')} → {line.after.get(check, '?')}" for check in own),
            line.named or "nothing",
            line.type,
            f"{line.seconds:.1f} s",
        ]
        for line in lines
    ]
    return table("Each check before → after the rollback", head, rows)


def _line(plan: Plan, symptom: str, fault: str, rows: int, tell: Told) -> Line:
    begun = monotonic()
    own = [row.own for row in plan.decision_matrix]
    with tempfile.TemporaryDirectory() as outputs, stack(rows, fault) as up, settled_in(up.environment):
        run = lifecycle.open_new(PLAN, TARGET, "", operator="rehearsal", reason=f"{fault}, injected", outputs=Path(outputs))
        try:
            advice = decision_matrix.recommend(plan, run.observe("triage", decision_matrix.checks_needed(plan)))
            named = advice.row.symptom if advice.row else ""
            before = _statuses(run, "triage")
            if advice.row:
                run.choose("TYPE", plan.carried_out(advice.row.type), "rehearsal")
                _roll_back(run)
                run.observe("after", own)
            after = _statuses(run, "after")
        finally:
            run.close_adapters()
    line = Line(fault, symptom, named, run.context.type, before, after, round(monotonic() - begun, 1))
    tell(f"{fault}: triage named {named or 'nothing'}; rolled back as {line.type or 'nothing'} in {line.seconds} s")
    return line


def _roll_back(run: Run) -> None:
    run.context.adapters.browser.warm()
    run.prerequisites()
    for name in run.steps:
        if not run.is_still_approved():
            run.approve(run.previews()[0], "rehearsal")
        engine.apply(run, name)


def _statuses(run: Run, round_name: str) -> Statuses:
    return {name: result["status"] for name, result in run.state.checks.get(round_name, {}).items()}
