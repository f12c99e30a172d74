"""The decision matrix, scored."""

import pytest

from runbook_lib.config.plan import Plan
from runbook_lib.results import Result, Status
from runbook_lib.triage.decision_matrix import checks_needed, recommend

GOOD = {
    "api-media-url": "PASS",
    "frontend-shows-served": "PASS",
    "frontend-displays-media": "PASS",
    "no-console-errors": "PASS",
    "media-as-in-backup": "PASS",
    "no-backend-errors": "PASS",
    "latency-normal": "PASS",
    "no-slow-queries": "PASS",
    "backfill-intact": "PASS",
}


def results(**changed: str) -> list[Result]:
    statuses = GOOD | {name.replace("_", "-"): status for name, status in changed.items()}
    return [Result(name, name, Status(status), "seen") for name, status in statuses.items()]


@pytest.mark.parametrize(
    ("found", "type_name"),
    [
        (results(), ""),
        (results(frontend_shows_served="FAIL"), "frontend"),
        (results(frontend_shows_served="FAIL", api_media_url="FAIL"), "full"),
        (results(api_media_url="FAIL"), "full"),
        (results(backfill_intact="FAIL"), "restore"),
        (results(no_backend_errors="FAIL"), "backend-and-database"),
        (results(no_backend_errors="FAIL", backfill_intact="FAIL"), "restore"),
        (results(media_as_in_backup="FAIL", frontend_shows_served="FAIL"), "frontend"),
        (results(frontend_shows_served="UNKNOWN", api_media_url="UNKNOWN"), ""),
    ],
)
def test_recommendation(plan: Plan, found: list[Result], type_name: str) -> None:
    assert recommend(plan, found).type == type_name


def test_what_could_not_be_checked_leaves_a_row_unknown(plan: Plan) -> None:
    rows = recommend(plan, results(latency_normal="UNKNOWN")).rows

    assert [r.row.symptom for r in rows if r.matches == "unknown"] == ["Performance issues"]


def test_every_check_of_the_matrix_is_made(plan: Plan) -> None:
    assert set(checks_needed(plan)) == set(GOOD)
