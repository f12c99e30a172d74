"""The cells of a triage: the symptoms, a closer look, a longer one, and what they recommend."""

from __future__ import annotations

from IPython.display import display as show

from runbook_lib import details, display, monitoring, triage
from runbook_lib.display import Shown
from runbook_lib.run import Run
from runbook_lib.seat import symptoms as symptoms_of
from runbook_lib.seat.beside import beside
from runbook_lib.seat.journaling import journaled
from runbook_lib.widgets import attended


@journaled
async def symptoms(run: Run, values: str = "") -> Shown | None:
    """Probe the symptoms of the plan's decision matrix and say which rollback they ask for. Read-only.

    A person can tick them otherwise until the type is chosen; headless, `values` ("Frontend errors=no, …") does.
    """
    plan, given = run.context.plan, details.read(values)
    symptoms_of.require_known(plan, given)
    found = await beside(run, "Probing the symptoms", lambda: run.observe("triage", triage.checks_needed(plan)))
    seen = display.results(found, "Symptoms")
    if attended() and not run.context.type:
        show(seen)
        symptoms_of.tick(run, found)
        return None
    if not attended():
        for symptom, value in given.items():
            symptoms_of.say(run, found, symptom, value, "parameter")
    advice = symptoms_of.scored(run, found)
    return display.beside(seen, display.ticks(advice), display.recommendation(advice, plan))


@journaled
async def investigate(run: Run) -> Shown:
    """Where the matrix says “investigate first”: the findings that confirm the rollback, or clear it. Read-only."""
    row = monitoring.row_for(run, "investigate first")
    if row is None:
        return display.line("No investigation is called for.")
    found, verdict = await beside(run, f"Investigating “{row.symptom}”", lambda: monitoring.investigate(run, row))
    return display.beside(display.results(found, f"Findings on “{row.symptom}”"), display.advice(verdict))


@journaled
async def monitor(run: Run, values: str = "") -> Shown:
    """Where the matrix says “monitor”: its checks again and again, shown as they come, until they tell. Read-only.

    `values` ("EVERY=5, LASTS=60, FAILURES=2") says what differs from the plan.
    """
    row = monitoring.row_for(run, "monitor")
    if row is None:
        return display.line("No monitoring is called for.")
    planned = monitoring.planned(row, details.read(values))
    handle = show(display.line(f"Watching “{row.symptom}” every {planned.every} s for {planned.lasts} s …"), display_id=True)
    shown = display.line("")
    async for watch in monitoring.watch(run, row, planned):
        shown = display.watch(watch)
        if handle is not None:
            handle.update(shown)
    assert watch.verdict is not None
    return display.advice(watch.verdict) if handle is not None else shown


def triaged(run: Run) -> bool:
    """Whether the symptoms were probed in this run. Read-only."""
    return any(event.kind == "recommended" for event in run.journal.events())


def recommended(run: Run) -> str:
    """The rollback type that the triage of this run recommends by now, "" for none. Read-only."""
    return next((e.data["type"] for e in reversed(run.journal.events()) if e.kind == "recommended"), "")
