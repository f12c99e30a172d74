"""The plan's troubles, told by the checks."""

import pytest

from runbook_lib.config.plan import Plan
from runbook_lib.results import Result, Status
from runbook_lib.triage.decision_matrix import checks_of_troubles, diagnose

GOOD = dict.fromkeys(
    ["frontend-displays-media", "frontend-fresh", "api-media-url", "nobody-connected", "media-url-as-in-backup"], "PASS"
)


def there(plan: Plan, **changed: str) -> dict[str, str]:
    statuses = GOOD | {name.replace("_", "-"): status for name, status in changed.items()}
    found = diagnose(plan, [Result(name, name, Status(status), "seen") for name, status in statuses.items()])
    return {each.name: each.there for each in found}


@pytest.mark.parametrize(
    ("changed", "name", "answer"),
    [
        ({}, "frontend-stale", "no"),
        ({"frontend_displays_media": "FAIL"}, "frontend-stale", "yes"),
        ({"frontend_fresh": "FAIL"}, "frontend-stale", "yes"),
        ({"frontend_displays_media": "FAIL", "api_media_url": "FAIL"}, "frontend-stale", "no"),
        ({"frontend_displays_media": "FAIL", "api_media_url": "UNKNOWN"}, "frontend-stale", "unknown"),
        ({"frontend_displays_media": "UNKNOWN"}, "frontend-stale", "unknown"),
        ({"nobody_connected": "FAIL"}, "restore-blocked", "yes"),
        ({"nobody_connected": "UNKNOWN"}, "restore-blocked", "unknown"),
        ({"media_url_as_in_backup": "FAIL"}, "media-url-missing", "yes"),
    ],
)
def test_a_trouble_is_there_only_where_its_signs_say_so(plan: Plan, changed: dict[str, str], name: str, answer: str) -> None:
    assert there(plan, **changed)[name] == answer


def test_without_any_check_nothing_is_ruled_out(plan: Plan) -> None:
    assert {each.there for each in diagnose(plan, [])} == {"unknown"}


def test_every_check_of_the_troubles_is_made(plan: Plan) -> None:
    assert set(checks_of_troubles(plan)) == set(GOOD)


def test_a_type_that_only_fixes_a_trouble_is_not_offered_as_a_rollback(plan: Plan) -> None:
    assert {"rebuild-frontend", "end-sessions"}.isdisjoint(plan.rollbacks)
    assert {"frontend", "full", "restore"} <= plan.rollbacks.keys()
