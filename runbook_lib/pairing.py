"""Holds a plan against a target: of what the one names, the other says where and who it is."""

from collections.abc import Container, Iterable
from pathlib import Path

from runbook_lib.errors import ParametersError
from runbook_lib.parameters import NOTHING_TOUCHED
from runbook_lib.plan import Plan
from runbook_lib.target import Target


def lacking(plan: Plan, target: Target) -> list[str]:
    """The keys that the plan needs of a target and this one does not have. Read-only."""
    services = target.services
    needed: dict[str, tuple[Iterable[str], Container[str]]] = {
        "repositories": (plan.repositories, target.repositories),
        "services.versions": (plan.services, services.versions),
        "services.built_from": (plan.services, {**services.built_from, **services.pinned}),
        "endpoints": (dict.fromkeys([plan.api.service, plan.page.service]), target.endpoints),
        "contacts": (plan.contacts, target.contacts),
    }
    return [f"{key}.{name}" for key, (names, there) in needed.items() for name in names if name not in there]


def pair(plan: Plan, target: Target, target_file: Path) -> None:
    """Make sure that the target says all that the plan needs of it. Read-only.

    Raises:
        ParametersError: It does not.
    """
    if missing := lacking(plan, target):
        raise ParametersError(
            f"{target_file} lacks what the plan of {plan.feature} needs of a target: {', '.join(missing)}.",
            where=f"target {target.name}",
            state=NOTHING_TOUCHED,
            safe_next="Add each; the keys are described in docs/parameters.md (Target).",
        )
