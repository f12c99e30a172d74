"""What stands of a run, what may come next, and the nearest way to services that are back."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Literal

from runbook_lib.config.compatibility import BOTH, Rules, StepEffect
from runbook_lib.config.plan import StepSpec
from runbook_lib.context import Context
from runbook_lib.errors import RunbookError
from runbook_lib.journal.state import RunState

NONE: Mapping[tuple[str, str], str] = MappingProxyType({})
DOWN = "some services would still be down after the last step"


@dataclass(frozen=True)
class Move:
    """A step to apply or to undo, and how long that should take in seconds."""

    action: Literal["apply", "undo"]
    step: str
    estimate: int


@dataclass(frozen=True)
class RecoveryPath:
    """Moves after which every service runs in an allowed combination; none where that is so already, or there is no way."""

    moves: Sequence[Move] = ()
    blocked: str = ""  # why there is no way

    @property
    def estimate(self) -> int:
        """How long the whole should take, in seconds."""
        return sum(move.estimate for move in self.moves)


def rules_of(context: Context) -> Rules:
    """The rules that hold for a run; a backup that it restores brings its own schema. Read-only."""
    try:
        restored = context.restored
    except RunbookError:  # it cannot be read now: either may be
        restored = BOTH
    return Rules(context.plan, context.target.services.built_from, restored)


def effects_of(state: RunState) -> list[StepEffect]:
    """The steps whose effect is there by the record, in the order in which they were begun."""
    begun = [step for step in state.steps.values() if step.status not in ("pending", "undone")]
    return [StepEffect(step.name, step.is_done, step.begun_here) for step in begun]


def shortest(
    rules: Rules, effects: Sequence[StepEffect], steps: Sequence[str], failing: Mapping[tuple[str, str], str] = NONE
) -> RecoveryPath:
    """The quicker way to services that run in an allowed combination: on along `steps`, or back over what stands.

    Of two that take as long, the one that goes on. A way that would repeat what is failing is none.

    Args:
        effects: The steps whose effect is there, in the order in which they were begun.
        steps: The steps of the run's type and option, in order.
        failing: Action and step -> why that failed, or was refused, when it was tried last.
    """
    if rules.serves(rules.state(effects)):
        return RecoveryPath()
    ways = [forward(rules, effects, steps, failing), backward(rules, effects, steps, failing)]
    if open_ways := [way for way in ways if not way.blocked]:
        return min(open_ways, key=lambda way: way.estimate)
    return RecoveryPath(blocked=f"forward: {ways[0].blocked}; back: {ways[1].blocked}")


def forward(
    rules: Rules, effects: Sequence[StepEffect], steps: Sequence[str], failing: Mapping[tuple[str, str], str] = NONE
) -> RecoveryPath:
    """The steps still to be applied until the services are back."""
    now = list(effects)
    moves: list[Move] = []
    for step in steps:
        state = rules.state(now)
        if rules.serves(state):
            break
        if any(one.step == step and one.whole for one in now):
            continue
        if why := failing.get(("apply", step)):
            return RecoveryPath(blocked=f"“{rules.plan.steps[step].title}” failed: {_brief(why)}")
        then = _applied(now, step)
        if refusal := rules.refusal(state, rules.state(then)):
            return RecoveryPath(blocked=f"“{rules.plan.steps[step].title}” is refused: {refusal}")
        moves.append(Move("apply", step, rules.plan.steps[step].estimate))
        now = then
    return RecoveryPath(moves) if rules.serves(rules.state(now)) else RecoveryPath(blocked=DOWN)


def backward(
    rules: Rules, effects: Sequence[StepEffect], steps: Sequence[str], failing: Mapping[tuple[str, str], str] = NONE
) -> RecoveryPath:
    """The steps to be undone, latest first, until the services are back."""
    now = list(effects)
    moves: list[Move] = []
    state = rules.state(now)
    for one in reversed(effects):
        spec = rules.plan.steps[one.step]
        if rules.serves(state):
            break
        if not spec.about.in_the_way:
            continue
        if not one.own or one.step not in steps:
            return RecoveryPath(blocked=f"“{spec.title}” was not done by this rollback, so it cannot be undone by it")
        if why := failing.get(("undo", one.step)):
            return RecoveryPath(blocked=f"undoing “{spec.title}” failed: {_brief(why)}")
        then = rules.after_undo(now, one.step)
        if refusal := rules.refusal(state, then):
            return RecoveryPath(blocked=f"undoing “{spec.title}” is refused: {refusal}")
        moves.append(Move("undo", one.step, spec.seconds_to_undo(rules.plan.steps.values())))
        now = [other for other in now if other.step != one.step]
        state = then
    return (
        RecoveryPath(moves)
        if rules.serves(state)
        else RecoveryPath(blocked="some services would still be down with every step undone")
    )


def refused(rules: Rules, effects: Sequence[StepEffect], step: str, *, undo: bool = False) -> str:
    """Why a step must not be applied, or undone, now; "" where it may."""
    then = rules.after_undo(effects, step) if undo else rules.state(_applied(effects, step))
    return rules.refusal(rules.state(effects), then)


def _brief(error: str) -> str:
    """The first line of an error, without its full stop."""
    return error.partition("\n")[0].rstrip(".")


def _applied(effects: Sequence[StepEffect], step: str) -> list[StepEffect]:
    if any(one.step == step for one in effects):
        return [replace(one, whole=True) if one.step == step else one for one in effects]
    return [*effects, StepEffect(step)]


def conflict(one: StepSpec, other: StepSpec) -> bool:
    """Whether one of two steps changes what the other changes or rests on, so that they are undone in order. Pure."""
    mine, others = one.touches(), other.touches()
    return bool(mine.changes & (others.changes | others.rests_on) or mine.rests_on & others.changes)


def to_be_undone_first(order: Mapping[str, StepSpec], name: str, there: Collection[str]) -> list[str]:
    """The steps after `name` in `order` whose effect is `there`, and that must be undone before it; newest first. Pure.

    What must be undone before one of those is among them.
    """
    names = list(order)
    needed = [name]
    for other in names[names.index(name) + 1 :]:
        if other in there and any(conflict(order[other], order[one]) for one in needed):
            needed.append(other)
    return needed[:0:-1]
