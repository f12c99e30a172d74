"""A rehearsal: the stack up, a fault in, triage, the notebooks, the verdict, the stack down."""

import os
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

from runbook_lib.errors import ParametersError
from runbook_lib.headless import conductor
from runbook_lib.rehearsal.scenarios import SCENARIOS, Scenario
from runbook_lib.rehearsal.stack import stack
from runbook_lib.rehearsal.workspace import OUTPUTS, PLAN, TARGET, settled_in
from runbook_lib.run import Run, lifecycle
from runbook_lib.run.lifecycle import Outcome
from runbook_lib.ui.progress import Told

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


def rehearse(scenario: str, rows: int, tell: Told) -> list[Rehearsed]:
    """Rehearse one scenario, or all; each on a stack of its own, which is gone afterwards.

    Raises:
        ParametersError: There is no such scenario.
    """
    chosen = SCENARIOS if scenario == "all" else {scenario: scenario_named(scenario, "all")}
    return [_one(name, one, rows, tell) for name, one in chosen.items()]


def scenario_named(name: str, *besides: str) -> Scenario:
    """The scenario of that name. Read-only.

    Raises:
        ParametersError: There is none.
    """
    if name not in SCENARIOS:
        raise ParametersError(
            f"There is no scenario {name!r}.",
            state="Nothing was started.",
            safe_next=f"Name one of: {', '.join([*besides, *SCENARIOS])}.",
        )
    return SCENARIOS[name]


def _one(name: str, scenario: Scenario, rows: int, tell: Told) -> Rehearsed:
    begun = monotonic()
    tell(f"Scenario {name}: {scenario.about}")
    tell(f"bringing up PostgreSQL, backend, frontend and worker with {rows} rows …")
    with stack(rows=rows, fault=scenario.fault) as up, settled_in(up.environment):
        tell(f"  up in {monotonic() - begun:.1f} s: {up.environment['REHEARSAL_FRONTEND_URL']}")
        about = {"operator": "rehearsal", "reason": scenario.about, "incident": f"rehearsal-{name}"}
        run = lifecycle.open_new(PLAN, TARGET, "", option=scenario.option, outputs=OUTPUTS, **about)
        outcome = _walk(run, scenario, tell)
    seconds = round(monotonic() - begun, 1)
    ended_as, option = run.state.type, run.state.option
    as_expected = ended_as == scenario.ends_as and option == scenario.option
    code = outcome.exit_code if as_expected else max(outcome.exit_code, 3)
    if code == 0:
        with_option = f" with option {option}" if run.context.plan.types[ended_as].options else ""
        tell(f"Scenario {name}: {ended_as} rollback{with_option} VERIFIED in {seconds} s, all torn down")
    else:
        expected = f"ended as {ended_as or 'nothing'}, option {option} (expected {scenario.ends_as}, {scenario.option})"
        tell(f"Scenario {name}: {expected}, {outcome.status}: {outcome.summary}")
    tell(f"Report: {os.path.relpath(run.folder.path / 'report.html')}")
    return Rehearsed(name, str(run.folder.path), ended_as, outcome.status, code, seconds)


def _walk(run: Run, scenario: Scenario, tell: Told) -> Outcome:
    folder: Path = run.folder.path
    problem = conductor.execute(folder, "01-triage", _chosen(scenario), tell)
    if problem:
        return problem
    return conductor.carry_out(folder, _approved_as_previewed, {}, tell)


def _chosen(scenario: Scenario) -> dict[str, str]:
    return {"TYPE": scenario.chosen, "OVERRIDE": scenario.override, "MONITOR": MONITOR}


def _approved_as_previewed(run: Run) -> str:
    return run.previews()[0]
