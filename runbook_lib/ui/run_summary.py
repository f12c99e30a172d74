"""How a run ended, in short: outcome, outage, losses, pending cleanup, report and the next command. Read-only."""

from __future__ import annotations

from collections.abc import Iterator

from runbook_lib.journal.event import Event
from runbook_lib.journal.state import RunState
from runbook_lib.report import facts
from runbook_lib.run import Run
from runbook_lib.run.lifecycle import ENDED_WELL
from runbook_lib.ui import display


def lines(run: Run) -> Iterator[str]:
    """The lines that follow the outcome."""
    plan, state, events = run.context.plan, run.state, run.journal.events()
    if taken := facts.duration(plan, state, events, facts.verdict(plan, state, events).ended):
        yield f"Took {taken}. Outage: {facts.outage(plan, events) or 'none'}."
    yield from (f"Lost: {loss}" for loss in _losses(state, events))
    yield from display.pending(state)
    yield f"Report: {run.folder.path / 'report.html'}"
    if (state.outcome or {}).get("status") in ENDED_WELL and not state.is_undone:
        yield "Next, if the rollback is to be undone:"
        yield f"runbook undo {run.folder.path}"
        if state.pending:
            yield "Next, if it never will be:"
            yield f"runbook purge {run.folder.path}"


def outcome(state: RunState) -> str:
    """The outcome in a line, "" where there is none."""
    return f"{state.outcome['status'].upper()}: {state.outcome['summary']}" if state.outcome else ""


def _losses(state: RunState, events: list[Event]) -> Iterator[str]:
    """What the approved preview said that each executed step loses."""
    shown = [e.data["shown"] for e in events if e.kind == "previewed" and e.data["digest"] == state.approved]
    for preview in shown[-1] if shown else []:
        if state.step(preview["step"]).is_done:
            yield from (f"{loss} ({preview['step']})" for loss in preview["loses"])
