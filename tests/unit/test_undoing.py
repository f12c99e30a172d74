"""Which steps have to be undone first."""

import pytest

from runbook_lib.plan import Plan
from runbook_lib.undoing import to_be_undone_first


@pytest.mark.parametrize(
    ("option", "name", "standing", "first"),
    [
        ("C", "swap-database", ["let-application-in"], ["let-application-in"]),
        ("C", "swap-database", ["let-application-in", "start-backend", "revert-backend"], ["let-application-in"]),
        ("C", "restore-aside", ["fence-application", "swap-database"], ["swap-database"]),
        ("C", "fence-application", ["swap-database", "let-application-in"], ["let-application-in", "swap-database"]),
        ("B", "fence-application", ["back-up"], []),
        ("B", "remove-columns", ["start-backend", "build-backend", "back-up"], []),
        ("A", "clear-backfill", ["revert-backend", "start-backend", "build-frontend"], []),
        ("A", "revert-backend", ["build-backend", "build-frontend"], ["build-backend"]),
        ("A", "stop-services", ["start-frontend", "start-backend"], ["start-frontend", "start-backend"]),
        ("A", "start-frontend", ["stop-services", "start-backend"], []),
        ("C", "swap-database", [], []),
    ],
)
def test_what_stands_later_on_the_same_thing_goes_first(
    plan: Plan, option: str, name: str, standing: list[str], first: list[str]
) -> None:
    order = {step: plan.steps[step] for step in plan.steps_of("full", option)}

    assert to_be_undone_first(order, name, standing) == first
