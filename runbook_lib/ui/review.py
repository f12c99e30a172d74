"""Tables and charts of the data before and after, and of the time taken, kept as evidence."""

from __future__ import annotations

from collections.abc import Sequence

from runbook_lib.config.plan import Plan
from runbook_lib.context import comparison
from runbook_lib.journal.elapsed import seconds, steady
from runbook_lib.journal.event import Event, clock
from runbook_lib.report import charts
from runbook_lib.run import Run
from runbook_lib.ui import display
from runbook_lib.ui.display import Shown

BUDGETS = "Steps and their budgets (outlined)"
Taken = tuple[str, float, float]  # a step, and when it began and ended, in seconds since the first began


def compared(run: Run) -> Shown:
    """Compare the data before and after, and keep the tables as evidence. Read-only."""
    parts: list[Shown] = []
    for number, (title, data) in enumerate(comparison.tables(run.context).items(), 1):
        file = f"evidence/table-{number}.json"
        run.folder.write_text(file, data.to_json(orient="split"))
        run.journal.append("evidence", title=title, file=file, kind="table")
        parts.append(display.frame(title, data))
        if {"before", "after"} <= set(data.columns):
            labels = data.select_dtypes(exclude="number").astype(str).agg(", ".join, axis=1)
            counts = [(n, float(b), float(a)) for n, b, a in zip(labels, data["before"], data["after"], strict=True)]
            parts.append(_kept(run, "rows", "Rows before (outlined) and after (filled)", charts.pairs(counts)))
    return display.side_by_side(*parts)


def timeline(run: Run) -> Shown:
    """Compare the time of each step with its budget, and keep the chart as evidence. Read-only."""
    plan, events = run.context.plan, run.journal.events()
    found = taken(events)
    if not found:
        return times(plan, events)
    spans = [(plan.steps[name].title, begin, end, float(plan.steps[name].estimate)) for name, begin, end in found]
    return display.side_by_side(times(plan, events), _kept(run, "timeline", BUDGETS, charts.spans(spans)))


def times(plan: Plan, events: Sequence[Event]) -> Shown:
    """Compare the time of each step with its budget, as a table. Pure."""
    found = taken(events)
    if not found:
        return display.line("No step is done yet.")
    rows = [
        [f"{n}", plan.steps[name].title, clock(begin), clock(end - begin), clock(plan.steps[name].estimate), _side(plan, t)]
        for n, t in enumerate(found, 1)
        for name, begin, end in [t]
    ]
    return display.table(BUDGETS, ["", "step", "began after", "took", "budget", ""], rows)


def taken(events: Sequence[Event]) -> list[Taken]:
    """Each executed step, by its last attempt, in the order of their start. Pure."""
    events = steady(events)
    begun: dict[str, Event] = {}
    done: dict[str, tuple[Event, Event]] = {}
    for event in events:
        if event.kind == "started":
            begun[event.data["step"]] = event
        elif event.kind == "applied" and event.data["step"] in begun:
            done[event.data["step"]] = (begun[event.data["step"]], event)
    if not done:
        return []
    first = min((start for start, _ in done.values()), key=lambda event: event.seq)
    began = {name: seconds(events, first, start) or 0.0 for name, (start, _) in done.items()}
    # A step measures its own time with a monotonic clock.
    spans = [(name, began[name], began[name] + end.data["seconds"]) for name, (_, end) in done.items()]
    return sorted(spans, key=lambda span: span[1])


def _side(plan: Plan, span: Taken) -> str:
    name, begin, end = span
    return "within" if end - begin <= plan.steps[name].estimate else "OVER"


def _kept(run: Run, name: str, title: str, svg: str) -> Shown:
    file = f"evidence/{name}.svg"
    run.folder.write_text(file, svg)
    run.journal.append("evidence", title=title, file=file, kind="image")
    return display.chart(svg, title)
