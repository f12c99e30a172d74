"""How a run, or a rehearsal, went: its outcome, its seconds, and what each step and check came to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from runbook_lib.config.loading import Model
from runbook_lib.config.plan import Plan
from runbook_lib.journal import elapsed
from runbook_lib.journal.event import Event
from runbook_lib.journal.past import Past
from runbook_lib.journal.state import RunState
from runbook_lib.report.facts import outage, verdict

BEGINS = ("started", "found")
NO_PLAN = "not known: its plan cannot be read"


class WalkedStep(Model):
    """What a step came to."""

    title: str
    """What people call it."""
    kind: str
    """Its kind, "" where the plan cannot be read."""
    status: str
    """Its state, by the journal."""
    seconds: float | None
    """How long it took, null where it did not act."""
    volumes: dict[str, int]
    """What it was approved to act on."""


class Walk(Model):
    """How a run, or a rehearsal, went."""

    name: str
    """The run's id."""
    at: datetime
    """When it was opened."""
    feature: str
    """The plan's feature."""
    target: str
    """The target's name."""
    environment: str
    """What kind of place it was."""
    type: str
    """The rollback type, "" where none was chosen."""
    option: str
    """Its option."""
    outcome: str
    """How it ended, or open."""
    seconds: float | None
    """From its first step to its outcome, null where no step was begun."""
    outage: str
    """How long users waited, "" where no service was stopped."""
    steps: dict[str, WalkedStep] = {}
    """What each step came to, in order."""
    checks: dict[str, str] = {}
    """Each check of the final list, and its status."""
    waivers: dict[str, str] = {}
    """What was waived, and why."""
    choices: dict[str, str] = {}
    """What else was chosen."""

    def past(self, option: str) -> Past:
        """Return what it teaches of how long steps take; a run of a type without options goes by `option`. Pure."""
        steps = {name: step.seconds for name, step in self.steps.items() if step.seconds is not None}
        rows = max((step.volumes.get("rows", 0) for step in self.steps.values()), default=0)
        return Past((self.feature, self.type, self.option or option), steps, rows, self.at.isoformat())


def walked(name: str, plan: Plan | None, state: RunState, events: Sequence[Event]) -> Walk:
    """Return how a run went, by its journal; without its plan, as far as that says. Read-only."""
    opened = state.opened
    named = plan.steps_of(state.type, state.option) if plan and state.type in plan.types else []
    return Walk(
        name=name,
        at=state.began,
        feature=str(opened.get("plan", "")),
        target=str(opened.get("target", "")),
        environment=str(opened.get("environment", "")),
        type=state.type,
        option=state.option if not plan or (state.type and plan.types[state.type].options) else "",
        outcome=verdict(plan, state, events).status if plan else str((state.outcome or {"status": "open"})["status"]),
        seconds=_seconds(events),
        outage=outage(plan, events) if plan else NO_PLAN,
        steps={each: _step(each, plan, state) for each in dict.fromkeys([*state.steps, *named])},
        checks={check: str(result["status"]) for check, result in state.checks.get("after", {}).items()},
        waivers={waived: waiver["reason"] for waived, waiver in state.waivers.items()},
        choices={choice: value for choice, value in state.choices.items() if choice not in ("TYPE", "OPTION")},
    )


def _step(name: str, plan: Plan | None, state: RunState) -> WalkedStep:
    known = state.step(name)
    spec = plan.steps.get(name) if plan else None
    volumes: Mapping[str, int] = state.agreed.get(name, {}).get("volumes", {})
    return WalkedStep(
        title=spec.title if spec else known.title,
        kind=spec.kind if spec else "",
        status=known.status,
        seconds=known.seconds,
        volumes=dict(volumes),
    )


def _seconds(events: Sequence[Event]) -> float | None:
    began = next((event for event in events if event.kind in BEGINS), None)
    ended = next((event for event in reversed(events) if event.kind == "outcome"), events[-1])
    if began is None or ended.seq < began.seq:
        return None
    return elapsed.seconds(elapsed.steady(events), began, ended)
