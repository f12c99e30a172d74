"""The effects of a run, the allowed next steps, and the nearest recovery path."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from runbook_lib.config.compatibility import BOTH, Database, Rules, State, StepEffect
from runbook_lib.config.loading import ROOT
from runbook_lib.config.plan import StepSpec
from runbook_lib.context import Context
from runbook_lib.documents import load_plan, load_target
from runbook_lib.errors import RunbookError
from runbook_lib.journal import Journal
from runbook_lib.journal.folder import FLEET, SHARED
from runbook_lib.journal.state import RunState, replay

NONE: Mapping[tuple[str, str], str] = MappingProxyType({})
DOWN = "some services would still be down after the last step"


@dataclass(frozen=True)
class Move:
    """A step to apply or to undo, and its estimate in seconds."""

    action: Literal["apply", "undo"]
    step: str
    estimate: int


@dataclass(frozen=True)
class RecoveryPath:
    """Moves after which every service runs in an allowed combination; empty if it already does, or if blocked."""

    moves: Sequence[Move] = ()
    blocked: str = ""  # why there is no path

    @property
    def estimate(self) -> int:
        """The estimate of the whole path, in seconds."""
        return sum(move.estimate for move in self.moves)


def rules_of(context: Context) -> Rules:
    """Return the rules of a run; a backup that it restores brings its own schema. Read-only.

    In a fleet whose targets share parts, they begin with what its other runs did, by their journals.
    """
    try:
        restored = context.restored
    except RunbookError:  # unreadable now: either is possible
        restored = BOTH
    rules = Rules(context.plan, context.target.services.built_from, restored)
    return rules if context.after_undo else replace(rules, begins=_of_fleet(context.folder.path, rules.beginning()))


def _of_fleet(path: Path, state: State) -> State | None:
    """Return a state with what a fleet's other runs did; None for a run of no such fleet. Read-only."""
    fleet = path.parents[2] if len(path.parents) > 2 else path
    if not (fleet / FLEET).is_file() or not (fleet / "runs" / SHARED).is_dir():
        return None
    runs = {name: fleet / each["run"] for name, each in Journal(fleet / FLEET).events()[0].data["targets"].items()}
    if path == runs[SHARED]:
        return replace(state, database=_databases([run for name, run in runs.items() if name != SHARED]))
    known = _state(runs[SHARED])
    built_from = load_target(ROOT / known.opened["target_file"]).services.built_from
    shared = Rules(load_plan(ROOT / known.opened["plan_file"]), built_from).state(effects_of(known))
    return replace(
        state,
        code={**state.code, **shared.code},
        built={**state.built, **shared.built},
        running={**state.running, **shared.running},
    )


def _databases(runs: Sequence[Path]) -> Database:
    """Return the schemas and data that the databases of these runs have reached; one plan rolls all of them back."""
    reached = {tuple(effects_of(state)): state for state in map(_state, runs)}
    found = [Rules(load_plan(ROOT / state.opened["plan_file"]), {}).state(effects) for effects, state in reached.items()]
    return frozenset(each for one in found for each in one.database)


def _state(run: Path) -> RunState:
    return replay(Journal(run / "journal.jsonl").events())


def effects_of(state: RunState) -> list[StepEffect]:
    """Return the steps with an effect according to the journal, in the order in which they were begun."""
    begun = [step for step in state.steps.values() if step.status not in ("pending", "undone")]
    return [StepEffect(step.name, step.is_done, step.begun_here) for step in begun]


def shortest(
    rules: Rules, effects: Sequence[StepEffect], steps: Sequence[str], failing: Mapping[tuple[str, str], str] = NONE
) -> RecoveryPath:
    """Return the faster path to services in an allowed combination: forward along `steps`, or back by undos.

    If both take equally long, it is the forward one. A path that would repeat a failing action is excluded.

    Args:
        effects: The steps with an effect, in the order in which they were begun.
        steps: The steps of the run's type and option, in order.
        failing: Action and step -> why it failed, or was refused, the last time.
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
    """Return the steps to apply until the services are back."""
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
    """Return the steps to undo, latest first, until the services are back."""
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
            return RecoveryPath(blocked=f"“{spec.title}” was not done by this rollback, so it cannot undo it")
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
    """Return why a step must not be applied, or undone, now; "" if it may."""
    then = rules.after_undo(effects, step) if undo else rules.state(_applied(effects, step))
    return rules.refusal(rules.state(effects), then)


def _brief(error: str) -> str:
    """Return the first line of an error, without its full stop."""
    return error.partition("\n")[0].rstrip(".")


def _applied(effects: Sequence[StepEffect], step: str) -> list[StepEffect]:
    if any(one.step == step for one in effects):
        return [replace(one, whole=True) if one.step == step else one for one in effects]
    return [*effects, StepEffect(step)]


def conflict(one: StepSpec, other: StepSpec) -> bool:
    """Check whether one step changes what the other changes or depends on, so they are undone in order. Pure."""
    mine, others = one.touches(), other.touches()
    return bool(mine.changes & (others.changes | others.rests_on) or mine.rests_on & others.changes)


def to_be_undone_first(order: Mapping[str, StepSpec], name: str, there: Collection[str]) -> list[str]:
    """Return the steps after `name` in `order` with an effect that must be undone before it; newest first. Pure.

    This includes the steps that must be undone before one of those.
    """
    names = list(order)
    needed = [name]
    for other in names[names.index(name) + 1 :]:
        if other in there and any(conflict(order[other], order[one]) for one in needed):
            needed.append(other)
    return needed[:0:-1]
