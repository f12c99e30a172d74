"""Which steps have to be undone first, by what each kind declares."""

from typing import Literal

import pytest

from runbook_lib.config.plan import Plan, StepSpec
from runbook_lib.config.plan.steps import DatabaseStep
from runbook_lib.run.recovery_path import conflict, to_be_undone_first
from runbook_lib.steps import kinds


@pytest.mark.parametrize(
    ("option", "name", "standing", "first"),
    [
        ("C", "swap-database", ["let-application-in"], ["let-application-in"]),
        (
            "C",
            "swap-database",
            ["let-application-in", "start-services", "revert-backend"],
            ["start-services", "let-application-in"],
        ),
        ("C", "restore-staging", ["fence-application", "swap-database"], ["swap-database"]),
        ("C", "fence-application", ["swap-database", "let-application-in"], ["let-application-in", "swap-database"]),
        ("B", "fence-application", ["back-up"], []),
        ("B", "remove-columns", ["start-services", "build-backend", "back-up"], []),
        ("A", "clear-backfill", ["revert-backend", "start-services", "build-frontend"], []),
        ("A", "revert-backend", ["build-backend", "build-frontend"], ["build-backend"]),
        ("A", "stop-services", ["start-services"], ["start-services"]),
        ("A", "start-services", ["stop-services"], []),
        ("C", "swap-database", [], []),
        ("A", "clear-backfill", ["start-services", "push-backend", "purge-cache", "release"], []),
        ("A", "build-backend", ["push-backend"], []),
        ("A", "revert-backend", ["build-backend", "push-backend", "push-frontend"], ["push-backend", "build-backend"]),
        ("A", "freeze", ["clear-backfill", "release"], ["release"]),
        ("B", "stop-services", ["fence-application", "back-up"], ["fence-application"]),
        ("B", "let-application-in", ["start-services", "release"], ["start-services"]),
    ],
)
def test_a_later_change_of_the_same_thing_is_undone_first(
    plan: Plan, option: str, name: str, standing: list[str], first: list[str]
) -> None:
    order = {step: plan.steps[step] for step in plan.steps_of("full", option)}

    assert to_be_undone_first(order, name, standing) == first


# kind -> the kinds that, done later on the same repository and the same service, must be undone before it
SERVICES, ACCESS, DATA = (
    ("stop", "start", "restart"),
    ("fence", "let_in"),
    ("clear_backfill", "remove_columns", "restore_part", "take_back"),
)
FIRST: dict[str, set[str]] = {
    **{key: {*SERVICES, *ACCESS} for key in SERVICES},
    **{key: {*ACCESS, *SERVICES, *DATA, "swap_database"} for key in ACCESS},
    **{key: {*DATA, *ACCESS, "swap_database"} for key in DATA},
    "swap_database": {*DATA, *ACCESS, "swap_database", "restore_staging"},
    "restore_staging": {"restore_staging", "swap_database"},
    **{key: {"freeze", "release"} for key in ("freeze", "release")},
    "revert": {"revert", "build", "rebuild", "push"},
    "push": {"push", "revert"},
    **{key: {"revert"} for key in ("build", "rebuild")},
    **{key: set() for key in ("backup", "end_sessions", "purge_cache")},
}


def of_kind(plan: Plan, kind: str) -> StepSpec:
    """A step of that kind, on the one service or repository that all here work on."""
    spec = next(spec for spec in plan.steps.values() if spec.kind == kind)
    here = {"services": ["backend"], "repository": "backend"}
    return spec.model_copy(update={name: value for name, value in here.items() if hasattr(spec, name)})


@pytest.mark.parametrize("later", kinds())
@pytest.mark.parametrize("kind", kinds())
def test_what_must_be_undone_first_by_every_pair_of_kinds(plan: Plan, kind: str, later: str) -> None:
    assert conflict(of_kind(plan, kind), of_kind(plan, later)) is (later in FIRST[kind])


def test_steps_on_other_services_and_repositories_are_undone_in_any_order(plan: Plan) -> None:
    pairs = [("restart-frontend", "purge-cache"), ("revert-backend", "push-frontend"), ("push-backend", "push-frontend")]

    assert not any(conflict(plan.steps[one], plan.steps[other]) for one, other in pairs)


def test_a_kind_that_leaves_out_what_it_has_to_say_cannot_be_defined() -> None:
    with pytest.raises(TypeError, match="Vacuum does not declare touches, after, about"):

        class Vacuum(DatabaseStep):
            kind: Literal["vacuum"]
