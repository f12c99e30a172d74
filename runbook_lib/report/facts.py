"""A run as a whole, by its journal: verdict, times, steps and checks."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from runbook_lib.config.plan import Plan, RollbackType
from runbook_lib.errors import ParametersError
from runbook_lib.journal import elapsed
from runbook_lib.journal.event import Event, clock
from runbook_lib.journal.state import RunState, StepState

_WORDS = {
    "verified": ("✔", "VERIFIED"),
    "waived": ("?", "COMPLETED, NOT VERIFIED"),
    "service-back": ("↺", "SERVICE BACK, NOT FINISHED"),
    "undone": ("↶", "UNDONE"),
    "ended": ("■", "ENDED UNFINISHED"),
    "failed": ("✘", "FAILED"),
    "unknown": ("?", "UNKNOWN"),
    "declined": ("⊘", "DECLINED"),
    "escalated": ("▲", "ESCALATED"),
}
_AGAIN = {
    "approved",
    "started",
    "found",
    "applied",
    "failed",
    "undone",
    "checked",
    "escalated",
    "by-hand",
}  # these outdate an outcome


@dataclass(frozen=True)
class Verdict:
    """The state of a run, in a symbol, a word and a sentence."""

    status: str
    symbol: str
    word: str
    summary: str
    ended: datetime | None


@dataclass(frozen=True)
class Duration:
    """How long the rollback took from its first step, and what the plan allows, in seconds."""

    seconds: float | None  # None where the clock was set back in between, and no record says by how much
    budget: int | None

    def __str__(self) -> str:
        if self.budget is None or self.seconds is None:
            return clock(self.seconds)
        side = "within" if self.seconds <= self.budget else "OVER"
        return f"{clock(self.seconds)}, {side} the plan's {clock(self.budget)}"


def verdict(plan: Plan, state: RunState, events: Sequence[Event]) -> Verdict:
    """Return the outcome on record, unless the record contradicts it or the run continued after it. Read-only."""
    last = max((event.seq for event in events if event.kind == "outcome"), default=0)
    continued = any(event.seq > last and event.kind in _AGAIN for event in events)
    if state.outcome is None or continued:
        return Verdict("open", "…", "STILL OPEN", "The journal holds no outcome yet.", None)
    ended = next(event.time for event in events if event.seq == last)
    status, summary = state.outcome["status"], state.outcome.get("summary", "")
    doubts = _doubts(plan, state) if status in ("verified", "waived") else []
    if doubts:
        summary = f"Recorded as verified, but the journal contradicts that: {'; '.join(doubts)}."
        return Verdict("unknown", *_WORDS["unknown"], summary, ended)
    symbol, word = _WORDS.get(status, ("?", status.upper()))
    return Verdict(status, symbol, word, summary, ended)


def _doubts(plan: Plan, state: RunState) -> list[str]:
    unproven = {name: found for name, found in not_passed(plan, state).items() if name not in state.waivers}
    walked = [state.step(name) for name in steps_of_type(plan, state) if name not in state.waivers]
    return [
        *(f"{title(plan, name)}: {found}" for name, found in unproven.items()),
        *(f"{step.title}: {step.status}" for step in walked if step.status in ("started", "failed")),
    ]


def not_passed(plan: Plan, state: RunState) -> dict[str, str]:
    """Return the final checks that are not PASS, each with its status or "not made". Read-only."""
    after = state.checks.get("after", {})
    kind = rollback_type(plan, state)
    names = dict.fromkeys([*(state.due(kind.checks) if kind else []), *after])
    found = {name: str(after[name]["status"]) if name in after else "not made" for name in names}
    return {name: status for name, status in found.items() if status != "PASS"}


def rollback_type(plan: Plan, state: RunState) -> RollbackType | None:
    """Return the type whose steps are executed, or None where people execute it. Read-only."""
    try:
        return plan.types[plan.carried_out(state.type)]
    except ParametersError:
        return None


def steps_of_type(plan: Plan, state: RunState) -> list[str]:
    """Return the steps to execute, by type and option; none where people execute it. Read-only."""
    return plan.steps_of(plan.carried_out(state.type), state.option) if rollback_type(plan, state) else []


def type_title(plan: Plan, state: RunState) -> str:
    """Return the chosen type's title, and the type executed in its place if there is one. Read-only."""
    chosen, carried_out = plan.types.get(state.type), rollback_type(plan, state)
    if chosen is None:
        return state.type or "not chosen"
    return chosen.title if carried_out in (None, chosen) else f"{chosen.title}, executed as {carried_out.title}"


def duration(plan: Plan, state: RunState, events: Sequence[Event], ended: datetime | None) -> Duration | None:
    """Return the time from the first step to the outcome, or to the last event of an open run. Read-only."""
    began = next((event for event in events if event.kind in ("started", "found")), None)
    if began is None:
        return None
    kind = rollback_type(plan, state)
    until = next((event for event in reversed(events) if event.kind == "outcome" and event.time == ended), events[-1])
    taken = elapsed.seconds(elapsed.steady(events), began, until)
    return Duration(taken, kind.budget if kind else None)


def outage(plan: Plan, events: Sequence[Event]) -> str:
    """Return how long users waited, by the journal: from the first stop of services to the end of the last start.

    "" where the run stopped none. A start ends when its services answer in the expected version. Read-only.
    """
    of_services = [e for e in events if e.kind in ("started", "applied") and e.data.get("step") in plan.steps]
    kinds = {id(event): plan.steps[event.data["step"]].about for event in of_services}
    begun = [e for e in of_services if e.kind == "started" and e.data.get("action", "apply") == "apply"]
    down = next((e for e in begun if kinds[id(e)].starts_on_undo), None)
    if down is None:
        return ""
    up = next((e for e in reversed(of_services) if e.kind == "applied" and kinds[id(e)].starts and e.seq > down.seq), None)
    if up is None:
        return "not over (the journal records no later start of services)"
    seconds = elapsed.seconds(elapsed.steady(events), down, up)
    return "not known (the clock was changed meanwhile)" if seconds is None else f"{seconds:.1f} s"


def steps(plan: Plan, state: RunState) -> list[StepState]:
    """Return the steps on record and the remaining steps of the type, in order. Read-only."""
    names = dict.fromkeys([*state.steps, *steps_of_type(plan, state)])
    return [state.steps.get(name, StepState(name, title(plan, name))) for name in names]


def title(plan: Plan, name: str) -> str:
    """Return the plan's title of a check or a step. Read-only."""
    known = plan.checks.get(name) or plan.steps.get(name)
    return known.title if known else name
