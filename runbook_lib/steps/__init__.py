"""The kinds of step a plan is made of: each is one module of this room, or one that another package's entry point names."""

import inspect
from collections.abc import Iterator
from functools import cache
from types import ModuleType

from runbook_lib.config.kinds import classes_of, collected
from runbook_lib.config.plan.steps import StepSpec
from runbook_lib.context import Context
from runbook_lib.steps.base import Step


@cache
def kinds() -> dict[str, type[Step]]:
    """The kinds of step that are installed, by the name that plans give them. Read-only.

    Raises:
        TypeError: A kind declares no keys of its own, or two have one name.
    """
    return collected(__name__, "runbook_lib.steps", _declared)


def _declared(module: ModuleType) -> Iterator[tuple[type[StepSpec], type[Step]]]:
    for step in classes_of(module):
        if issubclass(step, Step) and not inspect.isabstract(step):
            if "Keys" not in vars(step):
                raise TypeError(f"{step.__module__}.{step.__name__} does not declare its keys")
            yield step.Keys, step


def kind(name: str) -> type[Step]:
    """The class of a kind of step. Read-only."""
    return kinds()[name]


def steps_of(context: Context) -> dict[str, Step]:
    """The steps of the run's rollback type, in order."""
    return {name: kind(spec.kind)(name, context) for name, spec in context.specs.items()}


def step_named(context: Context, name: str) -> Step:
    """A step of the plan, whatever the run's option is by now."""
    return kind(context.plan.steps[name].kind)(name, context)
