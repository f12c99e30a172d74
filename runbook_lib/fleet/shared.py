"""The parts that all targets of a fleet share, such as code and services: when they may be rolled back. Pure."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Literal

from runbook_lib.config.compatibility import Rules, State, StepEffect
from runbook_lib.config.fleet import Fleet, Shared
from runbook_lib.config.plan import Plan
from runbook_lib.config.plan.steps import DatabaseStep
from runbook_lib.config.target import Target
from runbook_lib.fleet.standing import DONE, Standing
from runbook_lib.journal.folder import SHARED

NAME = SHARED


def problem(plan: Plan, fleet: Fleet, shared: Shared, target: Target, each: Plan) -> str:
    """Why the shared parts cannot be rolled back when the fleet file says, "" where they can. Pure.

    While databases are rolled back in waves, some have the feature and some do not. The code that runs meanwhile must be
    allowed with all of that by the plan's compatibility table.

    Args:
        plan: The fleet's plan.
        fleet: The fleet file.
        shared: What it says about the shared parts.
        target: Their target.
        each: The plan of a target.
    """
    if shared.type not in plan.types:
        return f"the plan has no rollback type {shared.type!r}; it has {', '.join(plan.types)}"
    steps = plan.steps_of(shared.type, shared.option)
    if changing := [name for name in steps if isinstance(plan.steps[name], DatabaseStep)]:
        return f"its type {shared.type} has steps on a database: {', '.join(changing)}"
    changes = {what for name in steps for what in plan.steps[name].touches().changes}
    of_each = each.steps_of(each.carried_out(fleet.type), fleet.option)
    if twice := [name for name in of_each if each.steps[name].touches().changes & changes]:
        return f"the type {fleet.type} of each target changes what all share, by {', '.join(twice)}"
    rules, databases = Rules(plan, target.services.built_from), _walked(Rules(each, {}), of_each)
    code = _walked(rules, steps)
    if not (why := _forbidden(rules, code, databases, shared.when)):
        return ""
    other: Literal["before", "after"] = "after" if shared.when == "before" else "before"
    may = "" if _forbidden(rules, code, databases, other) else f"; `when: {other}` is allowed"
    return f"between the waves {why}, which the plan's compatibility table does not allow{may}"


def _walked(rules: Rules, steps: Sequence[str]) -> list[State]:
    """The states that steps go through, from before the first to after the last."""
    return [rules.state(map(StepEffect, steps[:count])) for count in range(len(steps) + 1)]


def _forbidden(rules: Rules, code: Sequence[State], databases: Sequence[State], when: Literal["before", "after"]) -> str:
    """The first combination that must not run while one is rolled back and then the other, "" where all may."""
    first, last = code[0], code[-1]
    if when == "before":
        passed = [*code, *(replace(last, database=each.database) for each in databases)]
    else:
        passed = [replace(first, database=each.database) for each in databases]
        passed += [replace(one, database=databases[-1].database) for one in code]
    return next((found[0] for each in passed if (found := rules.forbidden(each))), "")


def undone_later(shared: Shared | None, names: Collection[str]) -> set[str]:
    """Whose undo comes after that of the others: what all targets share, or the targets. Pure."""
    if shared is None:
        return set()
    return {NAME} if shared.when == "before" else {*names} - {NAME}


def blocked(shared: Shared | None, wave: Collection[str], standings: Mapping[str, Standing], *, undo: bool = False) -> str:
    """Why a wave must not begin because of what all targets share, "" where it may. Pure.

    What the fleet file puts before the targets must be done before any of them, and undone after all of them; what it puts
    after them, the other way round. Nothing else keeps to the combinations that were checked beforehand.
    """
    if shared is None:
        return ""
    first = (shared.when == "before") is not undo
    if NAME not in wave:
        return f"what all targets share is not {_word(undo)}" if first and not _through(standings[NAME], undo=undo) else ""
    left = [] if first else [name for name, each in standings.items() if name != NAME and not _through(each, undo=undo)]
    return f"what all targets share was left as it is: not {_word(undo)}: {', '.join(left)}" if left else ""


def _through(each: Standing, *, undo: bool) -> bool:
    return each.word == "undone" or not each.touched if undo else each.word in DONE


def _word(undo: bool) -> str:
    return "undone" if undo else "rolled back"
