"""A rehearsal: the stack up, a fault in, triage, the notebooks, the verdict, the stack down.

That is done for a scenario; for the decision matrix, each of its faults is triaged and rolled back without notebooks, and
every check that the matrix names is made.
"""

import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any

from runbook_lib.browser.chromium import require_chromium
from runbook_lib.config.plan import Plan
from runbook_lib.documents import load_plan
from runbook_lib.errors import ParametersError
from runbook_lib.headless import conductor
from runbook_lib.rehearsal import record, stack_file
from runbook_lib.rehearsal.scenarios import SCENARIOS, Scenario
from runbook_lib.rehearsal.stack import stack
from runbook_lib.rehearsal.stack_file import SAMPLE
from runbook_lib.rehearsal.workspace import OUTPUTS, settled_in
from runbook_lib.run import Run, engine, lifecycle
from runbook_lib.run.lifecycle import Outcome
from runbook_lib.triage import decision_matrix
from runbook_lib.ui.display import Shown, table
from runbook_lib.ui.progress import Report

MONITOR = "EVERY=1, LASTS=20, FAILURES=2"  # seconds, for the hour that the plan says


@dataclass(frozen=True)
class Rehearsed:
    """How the rehearsal of one scenario ended."""

    scenario: str
    run: str
    type: str
    status: str
    exit_code: int
    seconds: float

    def as_json(self) -> dict[str, Any]:
        """Return how it ended, as plain values."""
        return dict(vars(self))


def rehearse(scenario: str, rows: int, report: Report, stack_name: str = SAMPLE) -> list[Rehearsed]:
    """Rehearse one scenario, or all; each on a stack of its own, which is gone afterwards.

    Raises:
        ParametersError: There is no such scenario or stack.
        PreconditionError: A program of the stack is missing, or Chromium.
        StackError: The stack does not come up.
    """
    require_programs(stack_name)
    chosen = SCENARIOS if scenario == "all" else {scenario: scenario_named(scenario, "all")}
    ended = [_one(name, one, rows, report, stack_name) for name, one in chosen.items()]
    if len(ended) > 1:
        report("\n".join(in_short(ended)))
    return ended


def in_short(ended: Sequence[Rehearsed]) -> list[str]:
    """Return how each scenario ended, a line each, after one of all. Pure."""
    right, seconds = sum(one.exit_code == 0 for one in ended), sum(one.seconds for one in ended)
    return [
        f"{right} of {len(ended)} scenarios ended as expected, in {seconds:.0f} s:",
        *(f"  {one.scenario}: {one.type or 'nothing'} {one.status}, {one.seconds:.0f} s" for one in ended),
    ]


def require_programs(stack_name: str = SAMPLE) -> None:
    """Make sure that the programs exist which a stack needs and no Python package brings. Read-only.

    Raises:
        PreconditionError: One does not.
    """
    stack_file.named(stack_name).require()
    require_chromium()


def scenario_named(name: str, *others: str) -> Scenario:
    """Return the scenario of that name. Read-only.

    Raises:
        ParametersError: There is none.
    """
    if name not in SCENARIOS:
        raise ParametersError(
            f"There is no scenario {name!r}.",
            state="Nothing was started.",
            safe_next=f"Name one of: {', '.join([*others, *SCENARIOS])}.",
        )
    return SCENARIOS[name]


def _one(name: str, scenario: Scenario, rows: int, report: Report, stack_name: str) -> Rehearsed:
    begun = monotonic()
    described = stack_file.named(stack_name)
    report(f"Scenario {name}: {scenario.about}")
    report(f"bringing up {described.about}, with {rows} rows …")
    with stack(rows, scenario.fault, stack_name) as up, settled_in(up.environment):
        report(f"  up in {monotonic() - begun:.1f} s: {up.environment['REHEARSAL_FRONTEND_URL']}")
        about = {"operator": "rehearsal", "reason": scenario.about, "incident": f"rehearsal-{name}"}
        run = lifecycle.open_new(
            described.plan_file, described.target_file, "", option=scenario.option, outputs=OUTPUTS, **about
        )
        outcome = _walk(run, scenario, report)
        ended_as, option = run.state.type, run.state.option
        as_expected = ended_as == scenario.ends_as and option == scenario.option
        code = outcome.exit_code if as_expected else max(outcome.exit_code, 3)
        if code == 0:
            record.keep(run, report)
    seconds = round(monotonic() - begun, 1)
    if code == 0:
        with_option = f" with option {option}" if run.context.plan.types[ended_as].options else ""
        report(f"Scenario {name}: {ended_as} rollback{with_option} VERIFIED in {seconds} s, all torn down")
    else:
        expected = f"ended as {ended_as or 'nothing'}, option {option} (expected {scenario.ends_as}, {scenario.option})"
        report(f"Scenario {name}: {expected}, {outcome.status}: {outcome.summary}")
    report(f"Report: {os.path.relpath(run.folder.path / 'report.html')}")
    return Rehearsed(name, str(run.folder.path), ended_as, outcome.status, code, seconds)


def _walk(run: Run, scenario: Scenario, report: Report) -> Outcome:
    folder: Path = run.folder.path
    problem = conductor.execute(folder, "01-triage", _chosen(scenario), report)
    if problem:
        return problem
    return conductor.carry_out(folder, record.approved, {}, report)


def _chosen(scenario: Scenario) -> dict[str, str]:
    return {"TYPE": scenario.chosen, "OVERRIDE": scenario.override, "MONITOR": MONITOR}


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


def matrix(rows: int, report: Report, stack_name: str = SAMPLE) -> list[Line]:
    """Inject each fault of the decision matrix, one at a time, and see that triage, checks and rollback agree on it.

    The steps are walked without notebooks, and the run folders are gone afterwards.

    Raises:
        PreconditionError: There is no git or no Chromium.
    """
    require_programs(stack_name)
    described = stack_file.named(stack_name)
    plan = load_plan(described.plan_file)
    faults = {scenario.symptom: scenario.fault for scenario in SCENARIOS.values() if scenario.symptom}
    return [_line(plan, row.symptom, faults[row.symptom], rows, report, stack_name) for row in plan.decision_matrix]


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
    """Return the table: faults down, named checks across, each as it was before and after the rollback."""
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


def _line(plan: Plan, symptom: str, fault: str, rows: int, report: Report, stack_name: str) -> Line:
    begun = monotonic()
    described = stack_file.named(stack_name)
    own = [row.own for row in plan.decision_matrix]
    with tempfile.TemporaryDirectory() as outputs, stack(rows, fault, stack_name) as up, settled_in(up.environment):
        run = lifecycle.open_new(
            described.plan_file,
            described.target_file,
            "",
            operator="rehearsal",
            reason=f"{fault}, injected",
            outputs=Path(outputs),
        )
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
    report(f"{fault}: triage named {named or 'nothing'}; rolled back as {line.type or 'nothing'} in {line.seconds} s")
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
