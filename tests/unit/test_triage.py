"""The decision matrix, scored."""

import pytest
from pydantic import ValidationError

from runbook_lib.config.plan import Plan
from runbook_lib.config.plan.shown import KnownBefore
from runbook_lib.documents import plan_model
from runbook_lib.results import Result, Status
from runbook_lib.triage.decision_matrix import Word, checks_needed, recommend

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


def test_what_is_unknown_is_to_be_investigated_and_recommends_nothing(plan: Plan) -> None:
    unknown = recommend(plan, results(api_media_url="UNKNOWN", latency_normal="UNKNOWN"))
    graver = recommend(plan, results(api_media_url="UNKNOWN", frontend_shows_served="PASS", no_backend_errors="FAIL"))

    assert unknown.type == ""
    assert "to be investigated before any rollback: All media missing (api-media-url UNKNOWN)" in unknown.reason
    assert (graver.type, "All media missing (api-media-url UNKNOWN)" in graver.reason) == ("backend-and-database", True)


def found(*findings: str, check: str = "api-media-url") -> list[Result]:
    others = [result for result in results() if result.name != check]
    evidence = {"findings": list(findings)} if len(findings) > 1 else {}
    return [*others, Result(check, check, Status.FAIL, "; ".join(findings), evidence)]


def known(plan: Plan, says: str, check: str = "api-media-url") -> Plan:
    return plan.model_copy(update={"known_before": [KnownBefore(check=check, says=says, because="ticket 7")]})


@pytest.mark.parametrize(
    ("findings", "type_name"),
    [
        (["75 items: 3 without mediaUrl"], ""),
        (["75 items: 3 without mediaUrl; none at all in 7"], "full"),
        (["75 items: 3 without mediaUrl", "9 items: 3 without mediaUrl"], ""),
        (["75 items: 3 without mediaUrl", "none at all in 7"], "full"),
    ],
    ids=["all of it", "and more", "each finding", "and another finding"],
)
def test_what_was_wrong_before_the_release_recommends_no_rollback(plan: Plan, findings: list[str], type_name: str) -> None:
    advice = recommend(known(plan, r"\d+ items: 3 without mediaUrl"), found(*findings))

    assert advice.type == type_name
    assert ("as before the release: ticket 7" in next(r.because for r in advice.rows if r.row.type == "full")) != bool(
        type_name
    )


def test_where_what_must_pass_was_wrong_before_the_row_is_unknown(plan: Plan) -> None:
    page = [r for r in found("3 items") if r.name != "frontend-shows-served"]
    page.append(Result("frontend-shows-served", "", Status.FAIL, "seen"))

    advice = recommend(known(plan, "3 items"), page)

    assert (advice.type, advice.rows[0].matches) == ("", "unknown")
    assert "ticket 7" in advice.reason


def test_a_person_may_still_say_that_it_is_the_symptom(plan: Plan) -> None:
    word = Word("yes", "Dana")

    assert recommend(known(plan, "3 items"), found("3 items"), {"All media missing": word}).type == "full"


def test_a_check_that_the_plan_does_not_have_cannot_be_known(plan: Plan) -> None:
    data = plan.model_dump(by_alias=True) | {"known_before": [{"check": "no-such", "says": "x", "because": "y"}]}

    with pytest.raises(ValidationError, match="known_before names 'no-such'"):
        plan_model().model_validate(data)


def test_every_check_of_the_matrix_is_made(plan: Plan) -> None:
    assert set(checks_needed(plan)) == set(GOOD)
