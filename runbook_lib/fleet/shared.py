"""The parts that all targets of a fleet share, such as code and services: when they may be rolled back. Pure."""

from dataclasses import replace

from runbook_lib.config.compatibility import FEATURE, Rules
from runbook_lib.config.fleet import Shared
from runbook_lib.config.plan import Plan
from runbook_lib.config.plan.steps import DatabaseStep
from runbook_lib.config.target import Target

NAME = "shared"  # what its run is called among the targets'


def problem(plan: Plan, shared: Shared, target: Target) -> str:
    """Why the shared parts cannot be rolled back when the fleet file says, "" where they can. Pure.

    While databases are rolled back in waves, some have the feature and some do not. The code that runs meanwhile must be
    allowed with both by the plan's compatibility table.
    """
    if shared.type not in plan.types:
        return f"the plan has no rollback type {shared.type!r}; it has {', '.join(plan.types)}"
    steps = plan.types[shared.type].steps
    if changing := [name for name in steps if isinstance(plan.steps[name], DatabaseStep)]:
        return f"its type {shared.type} has steps on a database: {', '.join(changing)}"
    rules = Rules(plan, target.services.built_from)
    state = rules.beginning()
    for step in steps if shared.when == "before" else ():
        state = rules.after(state, step)
    for schema, data in ((FEATURE, FEATURE), ("before", "before")):
        between = replace(state, database=frozenset({(schema, data)}))
        if forbidden := rules.forbidden(between):
            return f"between the waves {forbidden[0]}, which the plan's compatibility table does not allow"
    return ""
