"""Where a run stands in time: since when it runs, what its budget is, and how long it has waited for people. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from runbook_lib.archive.facts import clock
from runbook_lib.journal import Event
from runbook_lib.plan import DatabaseStep, Plan
from runbook_lib.seat.history import Past, estimate, rows_of
from runbook_lib.state import RunState

PEOPLE = {"asked": "answered", "cell-ended": "cell-started"}  # what begins a wait for people -> what ends it
BEGINS = ("started", "found")  # the first of these starts the clock that the plan's budget is held against


def lines(plan: Plan, state: RunState, events: Sequence[Event], runs: Sequence[Past], now: datetime) -> list[str]:
    """The lines of a banner that say where the run stands and how long it should go on. Pure."""
    if not state.type:
        return [f"elapsed {clock(_since(events[0].time, now))}"]
    names = plan.steps_of(state.type, state.option)
    left = [name for name in names if not state.step(name).is_done]
    acting = next((name for name in names if state.step(name).status == "started"), "")
    place = names.index(acting or left[0]) + 1 if left else len(names)
    where = (
        f"step {place} of {len(names)}: {plan.steps[acting or left[0]].title}" if left else f"all {len(names)} steps done"
    )
    return [
        f"{where} · {_elapsed(plan, state, events, now)}",
        f"waiting for people, counted apart: {clock(waited(events, now))}",
        _expected(plan, state, events, runs, left, acting, now),
    ]


def waited(events: Sequence[Event], now: datetime) -> float:
    """The seconds that passed between a question and its answer, or between two cells; overlaps count once. Pure."""
    total, since, ends, over = 0.0, None, set[str](), ended(events)
    for event in events:
        if since is not None and (event.kind in ends or event is over):
            total += (event.time - since).total_seconds()
            since, ends = None, set()
        if event is over:
            return total
        if event.kind in PEOPLE:
            since, ends = since or event.time, ends | {PEOPLE[event.kind]}
    return total + (_since(since, now) if since is not None else 0.0)


def began(events: Sequence[Event]) -> datetime | None:
    """When the first step began. Pure."""
    return next((event.time for event in events if event.kind in BEGINS), None)


def ended(events: Sequence[Event]) -> Event | None:
    """The first outcome that no step was begun after, None while there is none. Pure."""
    last = max((event.seq for event in events if event.kind == "started"), default=0)
    return next((event for event in events if event.kind == "outcome" and event.seq > last), None)


def _elapsed(plan: Plan, state: RunState, events: Sequence[Event], now: datetime) -> str:
    budget = plan.types[state.type].budget
    over = ended(events)
    until = over.time if over else now
    first = began(events)
    if first is None:
        of = f", budget {clock(budget)} from the first step" if budget else ""
        return f"elapsed {clock(_since(events[0].time, until))} since opened{of}"
    taken = _since(first, until)
    if budget is None:
        return f"elapsed {clock(taken)} since the first step"
    side = "within" if taken <= budget else "OVER"
    return f"elapsed {clock(taken)} since the first step, {side} the budget of {clock(budget)}"


def _expected(
    plan: Plan, state: RunState, events: Sequence[Event], runs: Sequence[Past], left: list[str], acting: str, now: datetime
) -> str:
    if not left:
        return "nothing is left to do"
    rows = rows_of(state.previews.get(state.approved) or next(reversed(state.previews.values()), {}))
    grows = {name: isinstance(plan.steps[name], DatabaseStep) for name in left}
    last = next((e.time for e in reversed(events) if e.kind == "started" and e.data["step"] == acting), now)
    key = (str(state.opened.get("plan", "")), state.type, state.option)
    found = estimate(runs, key, grows, rows, _since(last, now) if acting else 0.0)
    return str(found) if found else "expected to remain: no estimate (fewer than five verified runs like this one)"


def _since(then: datetime, now: datetime) -> float:
    return max(0.0, (now - then).total_seconds())
