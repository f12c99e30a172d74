"""The parts that all targets of a fleet share, such as code and services: when they may be rolled back. Pure."""

from collections.abc import Collection, Mapping
from dataclasses import replace

from runbook_lib.config.compatibility import FEATURE, Rules
from runbook_lib.config.fleet import Fleet, Shared
from runbook_lib.config.plan import Plan
from runbook_lib.config.plan.steps import DatabaseStep
from runbook_lib.config.target import Target
from runbook_lib.fleet.standing import DONE, Standing

NAME = "shared"  # what its run is called among the targets'


def problem(plan: Plan, fleet: Fleet, shared: Shared, target: Target) -> str:
    """Why the shared parts cannot be rolled back when the fleet file says, "" where they can. Pure.

    While databases are rolled back in waves, some have the feature and some do not. The code that runs meanwhile must be
    allowed with both by the plan's compatibility table.
    """
    if shared.type not in plan.types:
        return f"the plan has no rollback type {shared.type!r}; it has {', '.join(plan.types)}"
    steps = plan.steps_of(shared.type, shared.option)
    if changing := [name for name in steps if isinstance(plan.steps[name], DatabaseStep)]:
        return f"its type {shared.type} has steps on a database: {', '.join(changing)}"
    changes = {what for name in steps for what in plan.steps[name].touches().changes}
    of_each = plan.steps_of(fleet.type, fleet.option) if fleet.type in plan.types else []
    if twice := [name for name in of_each if plan.steps[name].touches().changes & changes]:
        return f"the type {fleet.type} of each target changes what all share, by {', '.join(twice)}"
    rules = Rules(plan, target.services.built_from)
    state = rules.beginning()
    for step in steps if shared.when == "before" else ():
        state = rules.after(state, step)
    for schema, data in ((FEATURE, FEATURE), ("before", "before")):
        between = replace(state, database=frozenset({(schema, data)}))
        if forbidden := rules.forbidden(between):
            return f"between the waves {forbidden[0]}, which the plan's compatibility table does not allow"
    return ""


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
