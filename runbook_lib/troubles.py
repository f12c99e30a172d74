"""The plan's troubleshooting entries, each told by its checks. Pure; the checks are made elsewhere."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from runbook_lib.plan import Plan, Trouble
from runbook_lib.results import Result, Status


@dataclass(frozen=True)
class Diagnosis:
    """A trouble, whether it is there, and what was seen of it."""

    name: str
    trouble: Trouble
    there: Literal["yes", "no", "unknown"]
    seen: list[Result]


def checks_needed(plan: Plan) -> list[str]:
    """The checks that tell the troubles, each once, in the plan's order."""
    named = {name for trouble in plan.troubles.values() for name in [*trouble.signs, *trouble.passing]}
    return [name for name in plan.checks if name in named]


def diagnose(plan: Plan, results: Iterable[Result]) -> list[Diagnosis]:
    """Which of the plan's troubles the checks show: any sign fails, and all that must pass does."""
    found = {result.name: result for result in results}
    return [_told(name, trouble, found) for name, trouble in plan.troubles.items()]


def _told(name: str, trouble: Trouble, found: dict[str, Result]) -> Diagnosis:
    seen = [found[check] for check in [*trouble.signs, *trouble.passing] if check in found]
    signs = [found[check].status for check in trouble.signs if check in found]
    others = [found[check].status for check in trouble.passing if check in found]
    if Status.FAIL in others or (signs and all(status is Status.PASS for status in signs)):
        return Diagnosis(name, trouble, "no", seen)
    sure = Status.FAIL in signs and all(status is Status.PASS for status in others) and len(others) == len(trouble.passing)
    return Diagnosis(name, trouble, "yes" if sure else "unknown", seen)
