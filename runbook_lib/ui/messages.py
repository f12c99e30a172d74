"""Texts for people outside the notebook: messages ready to send, and the draft of a postmortem."""

from __future__ import annotations

from collections.abc import Sequence

from runbook_lib.config.plan import Plan
from runbook_lib.errors import ParametersError
from runbook_lib.journal.elapsed import seconds, steady
from runbook_lib.journal.event import Event, clock
from runbook_lib.journal.state import RunState
from runbook_lib.report.facts import type_title, verdict
from runbook_lib.run import Run
from runbook_lib.ui import display
from runbook_lib.ui.display import Shown
from runbook_lib.ui.estimates import began, waited

QUIET = {"cell-started", "cell-ended", "progress", "asked", "answered", "previewed", "evidence", "released", "index-scans"}


def message(run: Run, moment: str) -> Shown:
    """The message to the team at the "start" or the "end" of a rollback, ready to copy. Read-only.

    Raises:
        ParametersError: It is neither.
    """
    plan, state, events = run.context.plan, run.state, run.journal.events()
    match moment:
        case "start":
            text = _start(plan, state)
        case "end":
            text = _end(plan, state, events)
        case _:
            raise ParametersError(
                f"There is no message for {moment!r}.", state="Nothing was sent.", safe_next="Use start or end."
            )
    contacts = "; ".join(f"{role}: {contact}" for role, contact in run.context.target.contacts.items())
    return display.side_by_side(display.line(f"To send now, to {contacts or 'the team'}:"), display.block(text))


def postmortem(plan: Plan, state: RunState, events: Sequence[Event]) -> str:
    """A draft in Markdown: facts and timeline from the journal, and questions for people to answer. Pure."""
    ended = verdict(plan, state, events)
    first = began(events)
    until = next((event for event in reversed(events) if event.time == ended.ended), events[-1])
    took = clock(seconds(steady(events), first, until)) if first else "no step was started"
    incident = state.opened.get("incident") or "none named"
    lines = [f"- {e.at[:19].replace('T', ' ')} {e.kind}: {e.text}" for e in events if e.kind not in QUIET]
    pending = [f"- [ ] pending cleanup: {item['text']}" for item in state.pending.values()]
    return "\n".join(
        [
            f"# Postmortem (draft): {plan.title}",
            "",
            f"Incident {incident} · {state.opened['target']} · {type_title(plan, state)}",
            f"Outcome: {ended.word}. {ended.summary}",
            f"From the first step to the end: {took}; waiting for people: {clock(waited(events, until.time))}.",
            "",
            "## What happened",
            "",
            state.opened.get("reason") or "To be written.",
            "",
            "## Why it happened",
            "",
            "To be written.",
            "",
            "## What went well, what did not",
            "",
            *([f"- {note}" for note in state.notes] or ["To be written."]),
            "",
            "## Timeline (UTC)",
            "",
            *lines,
            "",
            "## To do",
            "",
            *pending,
            *(f"- [ ] {text}" for text in plan.follow_ups),
            "",
        ]
    )


def _start(plan: Plan, state: RunState) -> str:
    budget = plan.types[state.type].budget if state.type else None
    incident, reason = state.opened.get("incident") or "none named", state.opened.get("reason") or "not given"
    return "\n".join(
        [
            f"ROLLBACK STARTS: {plan.title} ({plan.feature}) on {state.opened['target']} ({state.opened['environment']})",
            f"Incident: {incident}. Reason: {reason.rstrip('.')}.",
            f"Type: {type_title(plan, state)}. Planned: {clock(budget) if budget else 'no budget'}. By: {state.operator}.",
            "Please deploy and restart nothing until we report the end.",
        ]
    )


def _end(plan: Plan, state: RunState, events: Sequence[Event]) -> str:
    ended = verdict(plan, state, events)
    pending = [f"Pending cleanup: {item['text']}." for item in state.pending.values()]
    return "\n".join(
        [
            f"ROLLBACK {ended.word}: {plan.title} ({plan.feature}) on {state.opened['target']}",
            f"Incident: {state.opened.get('incident') or 'none named'}. {ended.summary}",
            f"Type: {type_title(plan, state)}. By: {state.operator}.",
            *pending,
            *([f"What follows: {' '.join(plan.follow_ups)}"] if plan.follow_ups else []),
        ]
    )
