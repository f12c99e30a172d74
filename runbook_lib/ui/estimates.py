"""Estimates the remaining time from earlier runs of the same plan, type and option, scaled by rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from statistics import median

from runbook_lib.config.plan import DatabaseStep, Plan, StepSpec
from runbook_lib.journal.elapsed import seconds, steady, steady_now
from runbook_lib.journal.event import Event, clock
from runbook_lib.journal.past import Past, measured, rows_of
from runbook_lib.journal.state import RunState

FEWEST = 5  # runs that an estimate rests on


@dataclass(frozen=True)
class Estimate:
    """The remaining seconds, from `runs` earlier runs; `errors` are the relative errors of earlier estimates."""

    median: float
    p90: float
    runs: int
    errors: Sequence[float] = field(default_factory=list)

    def __str__(self) -> str:
        off = (
            f"off by {median(self.errors):.0%} at the median, {max(self.errors):.0%} at worst, where it could be tested"
            if self.errors
            else "the possible error is not known yet"
        )
        return f"expected to remain: {self.median:.0f} s (median), {self.p90:.0f} s (p90), by {self.runs} runs; {off}"


def estimate(
    runs: Sequence[Past], key: tuple[str, str, str], left: Mapping[str, bool], rows: int, spent: float = 0.0
) -> Estimate | None:
    """Estimate the steps `left` (name -> whether its time grows with the rows); None: too few runs. Pure.

    Args:
        runs: Earlier runs, whatever their plan.
        key: The plan, type and option of this one.
        left: The steps that are not done yet.
        rows: The rows of this run; 0 if unknown.
        spent: Seconds that the first of them has taken so far.
    """
    known = [run for run in runs if run.key == key and set(left) <= set(run.steps)]
    if len(known) < FEWEST or not left:
        return None
    found = sorted(max(0.0, _foretold(run, left, rows) - spent) for run in known)
    return Estimate(median(found), _p90(found), len(found), _errors(known, left))


def _foretold(run: Past, steps: Mapping[str, bool], rows: int) -> float:
    scale = rows / run.rows if rows and run.rows else 1.0
    return sum(run.steps[name] * (scale if grows else 1.0) for name, grows in steps.items())


def _errors(runs: Sequence[Past], steps: Mapping[str, bool]) -> list[float]:
    """The relative error of the others' median for each run; empty if the others are too few."""
    if len(runs) <= FEWEST:
        return []
    errors = []
    for number, run in enumerate(runs):
        others = [other for place, other in enumerate(runs) if place != number]
        took = sum(run.steps[name] for name in steps)
        if took:
            errors.append(abs(median(_foretold(other, steps, run.rows) for other in others) - took) / took)
    return errors


def _p90(values: Sequence[float]) -> float:
    """The smallest of the sorted values that nine tenths do not exceed."""
    return values[-(-9 * len(values) // 10) - 1]


def planned(*ways: Sequence[StepSpec]) -> str:
    """The number of steps, their planned time and outage; for several options, a range. Pure."""
    numbers, wholes, outages = ([of(steps) for steps in ways] for of in (len, _whole, outage))
    down = f"services are down for {_from_to(outages)} of it" if any(outages) else "no service stops"
    few, many = min(numbers), max(numbers)
    return f"{few if few == many else f'{few} to {many}'} steps, {_from_to(wholes)}; {down}"


def ways(plan: Plan, type_name: str) -> list[list[StepSpec]]:
    """The steps of a type, for each of its options. Pure."""
    options = plan.types[type_name].options or [""]
    return [[plan.steps[name] for name in plan.steps_of(type_name, option)] for option in options]


def _whole(steps: Sequence[StepSpec]) -> int:
    return sum(step.estimate for step in steps)


def _from_to(seconds: Sequence[int]) -> str:
    least, most = roughly(min(seconds)), roughly(max(seconds))
    return least if least == most else f"{least} to {most.removeprefix('about ')}"


def outage(steps: Sequence[StepSpec]) -> int:
    """The seconds from the first step that stops services to the last one that starts some, 0 where none stops. Pure."""
    down = [n for n, step in enumerate(steps) if step.about.starts_on_undo]
    up = [n for n, step in enumerate(steps) if step.about.starts]
    return sum(step.estimate for step in steps[down[0] : up[-1] + 1]) if down and up else 0


def roughly(seconds: int) -> str:
    """The planned seconds in words. Pure."""
    return f"about {seconds} s" if seconds < 60 else f"about {clock(seconds)}"


WAITED = "waiting for people"
PEOPLE = {"asked": "answered", "cell-ended": "cell-started"}  # what begins a wait for people -> what ends it
BEGINS = ("started", "found")  # the first of these starts the clock that is compared with the plan's budget


def lines(plan: Plan, state: RunState, events: Sequence[Event], runs: Sequence[Past], now: datetime) -> list[str]:
    """The banner's lines on the current step and the remaining time. Pure."""
    people = clock(waited(events, now))
    events, now = steady(events), steady_now(events, now)
    if not state.type:
        return [f"elapsed {clock(seconds(events, events[0], now))}"]
    names = plan.steps_of(state.type, state.option)
    left = [name for name in names if not state.step(name).is_done]
    acting = next((name for name in names if state.step(name).status == "started"), "")
    place = names.index(acting or left[0]) + 1 if left else len(names)
    where = (
        f"step {place} of {len(names)}: {plan.steps[acting or left[0]].title}" if left else f"all {len(names)} steps done"
    )
    return [
        f"{where} · {_elapsed(plan, state, events, now)}",
        f"{WAITED}, counted apart: {people}",
        _expected(plan, state, events, runs, left, acting, now),
        f"planned: {planned([plan.steps[name] for name in names])}",
    ]


def waited(events: Sequence[Event], now: datetime) -> float | None:
    """The seconds that passed between a question and its answer, or between two cells; overlaps count once. Pure.

    None if the clock was set back meanwhile.
    """
    events, now = steady(events), steady_now(events, now)
    spans, since, ends, over = list[float | None](), None, set[str](), ended(events)
    for event in events:
        if since is not None and (event.kind in ends or event is over):
            spans.append(seconds(events, since, event))
            since, ends = None, set()
        if event is over:
            break
        if event.kind in PEOPLE:
            since, ends = since or event, ends | {PEOPLE[event.kind]}
    else:
        spans += [seconds(events, since, now)] if since is not None else []
    return None if None in spans else sum(span for span in spans if span)


def began(events: Sequence[Event]) -> Event | None:
    """The event of the first step's start. Pure."""
    return next((event for event in events if event.kind in BEGINS), None)


def ended(events: Sequence[Event]) -> Event | None:
    """The first outcome after which no step started; None without one. Pure."""
    last = max((event.seq for event in events if event.kind == "started"), default=0)
    return next((event for event in events if event.kind == "outcome" and event.seq > last), None)


def _elapsed(plan: Plan, state: RunState, events: Sequence[Event], now: datetime) -> str:
    budget = plan.types[state.type].budget
    until = ended(events) or now
    first = began(events)
    if first is None:
        of = f", budget {clock(budget)} from the first step" if budget else ""
        return f"elapsed {clock(seconds(events, events[0], until))} since opened{of}"
    taken = seconds(events, first, until)
    if budget is None or taken is None:
        return f"elapsed {clock(taken)} since the first step"
    side = "within" if taken <= budget else "OVER"
    return f"elapsed {clock(taken)} since the first step, {side} the budget of {clock(budget)}"


def _expected(
    plan: Plan, state: RunState, events: Sequence[Event], runs: Sequence[Past], left: list[str], acting: str, now: datetime
) -> str:
    if not left:
        return "nothing is left to do"
    rows = rows_of(state.previews.get(state.approved) or state.previews.get(state.previewed, {}))
    grows = {name: isinstance(plan.steps[name], DatabaseStep) for name in left}
    last = next((e for e in reversed(events) if e.kind == "started" and e.data["step"] == acting), None)
    key = (str(state.opened.get("plan", "")), state.type, state.option)
    spent = (seconds(events, last, now) or 0.0) if last else 0.0
    return str(estimate(runs, key, grows, rows, spent) or _by_newest(runs, key, grows, rows, spent))


def _by_newest(runs: Sequence[Past], key: tuple[str, str, str], left: Mapping[str, bool], rows: int, spent: float) -> str:
    """The remaining time, from the newest runs and rehearsals of this size. Pure."""
    known = [measured(runs, key, name, rows, grows=grows) for name, grows in left.items()]
    took = [each[0] for each in known if each]
    if len(took) < len(left):
        return "expected to remain: no estimate (fewer than five verified runs like this one)"
    return f"expected to remain: {max(0.0, sum(took) - spent):.0f} s, as in the last run or rehearsal of this size"
