"""What stands of a run, what may come next, and the nearest way to services that are back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from runbook_lib.compatibility import BEFORE, BOTH, FEATURE, Rules, Standing
from runbook_lib.context import Context
from runbook_lib.errors import RunbookError
from runbook_lib.state import RunState

LEFT_ALONE = ("backup", "restore_aside")  # nothing of theirs is in the way of the services


@dataclass(frozen=True)
class Move:
    """A step to apply or to undo, and how long that should take in seconds."""

    action: Literal["apply", "undo"]
    step: str
    estimate: int


@dataclass(frozen=True)
class Way:
    """Moves after which every service runs in an allowed combination; none where that is so already, or there is no way."""

    moves: Sequence[Move] = ()
    blocked: str = ""  # why there is no way

    @property
    def estimate(self) -> int:
        """How long the whole should take, in seconds."""
        return sum(move.estimate for move in self.moves)


def rules_of(context: Context) -> Rules:
    """The rules that hold for a run; under option C its backup tells which schema it brings. Read-only."""
    restored = BOTH
    if context.option == "C":
        try:
            restored = frozenset({FEATURE if context.schema_stays else BEFORE})
        except RunbookError:  # it cannot be read now: either may be
            restored = BOTH
    return Rules(context.plan, context.target.services.built_from, restored)


def standing(state: RunState) -> list[Standing]:
    """The steps whose effect is there by the record, in the order in which they were begun."""
    begun = [step for step in state.steps.values() if step.status not in ("pending", "undone")]
    return [Standing(step.name, step.is_done, step.begun_here) for step in begun]


def shortest(rules: Rules, standing: Sequence[Standing], steps: Sequence[str]) -> Way:
    """The quicker way to services that run in an allowed combination: on along `steps`, or back over what stands.

    Of two that take as long, the one that goes on.

    Args:
        standing: The steps whose effect is there, in the order in which they were begun.
        steps: The steps of the run's type and option, in order.
    """
    if rules.serves(rules.state(standing)):
        return Way()
    ways = [forward(rules, standing, steps), backward(rules, standing, steps)]
    if open_ways := [way for way in ways if not way.blocked]:
        return min(open_ways, key=lambda way: way.estimate)
    return Way(blocked=f"forward: {ways[0].blocked}; back: {ways[1].blocked}")


def forward(rules: Rules, standing: Sequence[Standing], steps: Sequence[str]) -> Way:
    """The steps still to be applied until the services are back."""
    now = list(standing)
    moves: list[Move] = []
    for step in steps:
        state = rules.state(now)
        if rules.serves(state):
            break
        if any(one.step == step and one.whole for one in now):
            continue
        then = _applied(now, step)
        if refusal := rules.refusal(state, rules.state(then)):
            return Way(blocked=f"“{rules.plan.steps[step].title}” is refused: {refusal}")
        moves.append(Move("apply", step, rules.plan.steps[step].estimate))
        now = then
    return Way(moves) if rules.serves(rules.state(now)) else Way(blocked="not even the last step gets all of them up")


def backward(rules: Rules, standing: Sequence[Standing], steps: Sequence[str]) -> Way:
    """The steps to be undone, latest first, until the services are back."""
    now = list(standing)
    moves: list[Move] = []
    state = rules.state(now)
    for one in reversed(standing):
        spec = rules.plan.steps[one.step]
        if rules.serves(state):
            break
        if spec.kind in LEFT_ALONE:
            continue
        if not one.own or one.step not in steps:
            return Way(blocked=f"“{spec.title}” was not done by this rollback, so it cannot be undone by it")
        then = rules.after_undo(now, one.step)
        if refusal := rules.refusal(state, then):
            return Way(blocked=f"undoing “{spec.title}” is refused: {refusal}")
        moves.append(Move("undo", one.step, _to_undo(rules, one.step)))
        now = [other for other in now if other.step != one.step]
        state = then
    return Way(moves) if rules.serves(state) else Way(blocked="with all undone they are not up")


def refused(rules: Rules, standing: Sequence[Standing], step: str, *, undo: bool = False) -> str:
    """Why a step must not be applied, or undone, now; "" where it may."""
    then = rules.after_undo(standing, step) if undo else rules.state(_applied(standing, step))
    return rules.refusal(rules.state(standing), then)


def _applied(standing: Sequence[Standing], step: str) -> list[Standing]:
    if any(one.step == step for one in standing):
        return [replace(one, whole=True) if one.step == step else one for one in standing]
    return [*standing, Standing(step)]


def _to_undo(rules: Rules, step: str) -> int:
    """The seconds that undoing a step should take: as long as the step, but that a revert's undo builds too."""
    spec = rules.plan.steps[step]
    if spec.kind == "build":
        return 0
    repository = getattr(spec, "repository", None) if spec.kind == "revert" else None
    builds = [s.estimate for s in rules.plan.steps.values() if s.kind == "build" and s.repository == repository]
    return spec.estimate + sum(builds)
