"""Which errors of a page count: not those that the plan names, not a third party's, not those of before."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given as generated
from hypothesis import settings
from hypothesis import strategies as st
from pydantic import ValidationError

from runbook_lib.browser import ConsoleError, MemoryBrowser, Visit
from runbook_lib.checks import CheckContext
from runbook_lib.checks.console import judged
from runbook_lib.config.plan.shown import Errors, IgnoredError
from runbook_lib.results import Result

from ...support.checking import SINCE, Known, check, given

SITE = "https://shop.test"
OWN = [f"{SITE}/threads/7"]
SESSION = ConsoleError("HTTP 401 Unauthorized", f"{SITE}/api/session?at=7")
ADS = ConsoleError("net::ERR_NAME_NOT_RESOLVED", "https://ads.test/pixel.js?id=1")
BROKEN = ConsoleError("TypeError: Cannot read properties of undefined (reading 'url')", f"{SITE}/assets/app.3f2a9c1bd4.js")
EXPECTED = IgnoredError(url="/api/session", status=401, because="a visitor is not signed in")


def status(
    *errors: ConsoleError, before: Sequence[ConsoleError] | None = None, symptom: bool = True, **rules: Any
) -> tuple[str, str]:
    found, text = judged(errors, before, OWN, Errors(**rules), may_be_symptom=symptom)
    return str(found), text


@pytest.mark.parametrize(
    ("errors", "rules", "found"),
    [
        pytest.param([], {}, "PASS", id="none"),
        pytest.param([BROKEN], {}, "FAIL", id="of the page"),
        pytest.param([replace(BROKEN, url="")], {}, "FAIL", id="of nobody named"),
        pytest.param([ADS], {}, "UNKNOWN", id="of a third party"),
        pytest.param([ADS], {"third_parties": "ignore"}, "PASS", id="of a third party, which the plan ignores"),
        pytest.param([ADS, BROKEN], {"third_parties": "ignore"}, "FAIL", id="and one of the page"),
        pytest.param([ADS, BROKEN], {}, "FAIL", id="both"),
        pytest.param([SESSION], {}, "FAIL", id="a 401"),
        pytest.param([SESSION], {"ignore": [EXPECTED]}, "PASS", id="the expected 401"),
        pytest.param([replace(SESSION, text="HTTP 500 Oops")], {"ignore": [EXPECTED]}, "FAIL", id="another status there"),
        pytest.param([replace(SESSION, url=f"{SITE}/api/cart")], {"ignore": [EXPECTED]}, "FAIL", id="a 401 elsewhere"),
        pytest.param([replace(BROKEN, url="https://cdn.test/a.js")], {"own": ["https://cdn.test"]}, "FAIL", id="of our CDN"),
    ],
)
def test_what_counts(errors: list[ConsoleError], rules: dict[str, Any], found: str) -> None:
    assert status(*errors, **rules)[0] == found


def test_what_does_not_count_is_listed_with_its_reason() -> None:
    found, text = status(SESSION, ADS, ignore=[EXPECTED], third_parties="ignore")

    assert (found, "a visitor is not signed in" in text, ADS.url in text) == ("PASS", True, True)


@pytest.mark.parametrize(
    ("error", "symptom", "found"),
    [
        pytest.param(ADS, True, "PASS", id="of a third party"),
        pytest.param(BROKEN, False, "PASS", id="of the page, where something else was wrong"),
        pytest.param(BROKEN, True, "UNKNOWN", id="of the page, where it may be what was wrong"),
    ],
)
def test_what_was_there_before_the_rollback(error: ConsoleError, symptom: bool, found: str) -> None:
    later = replace(error, url=error.url.replace("3f2a9c1bd4", "0b1c2d3e4f").replace("id=1", "id=2"))

    assert status(later, before=[error], symptom=symptom)[0] == found
    assert status(later, before=[], symptom=symptom)[0] == ("UNKNOWN" if error is ADS else "FAIL")


@pytest.mark.parametrize(
    "wrong",
    [
        {"because": "so"},
        {"status": 401, "because": "so"},
        {"url": "x"},
        {"url": "(", "because": "so"},
        {"url": ".*", "because": "so"},
        {"url": "x", "status": 200, "because": "so"},
    ],
)
def test_what_would_hide_too_much_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        IgnoredError(**wrong)


KNOWN = [SESSION, ADS, BROKEN, replace(BROKEN, text="boom"), ConsoleError("HTTP 500", f"{SITE}/x")]


@settings(max_examples=200, deadline=None)
@generated(
    errors=st.lists(st.sampled_from(KNOWN), max_size=4),
    before=st.none() | st.lists(st.sampled_from(KNOWN), max_size=4),
    symptom=st.booleans(),
    ignores=st.booleans(),
)
def test_truth_is_never_turned_round(
    errors: list[ConsoleError], before: list[ConsoleError] | None, symptom: bool, ignores: bool
) -> None:
    found, _ = status(*errors, before=before, symptom=symptom, ignore=[EXPECTED] if ignores else [])

    harmless = [e for e in errors if e is ADS or (e is SESSION and ignores)]
    new = [e for e in errors if e not in harmless and e not in (before or [])]
    if new:
        assert found == "FAIL"
    elif len(harmless) == len(errors):
        assert found != "FAIL"
    else:
        assert found == ("UNKNOWN" if symptom or (ADS in errors and ADS not in (before or [])) else "PASS")


# --- the rounds of a run

NAME = "no-console-errors"
HERE = "http://frontend_url.test"


def result_of(checked: CheckContext, round_name: str, *errors: ConsoleError) -> Result:
    context = checked.context
    seen = [replace(error, url=error.url.replace(SITE, HERE)) for error in errors]
    given(context, browser=MemoryBrowser(lambda url: Visit(url, "true", "", 2, [], seen, b"png")))
    found = check(Known(context, round_name, SINCE), NAME)
    made = {NAME: {"status": str(found.status), "evidence": dict(found.evidence)}}
    context.state = replace(context.state, checks={**context.state.checks, round_name: made})
    return found


def triaged(checked: CheckContext, **statuses: str) -> None:
    seen = {name.replace("_", "-"): {"status": status} for name, status in statuses.items()}
    checked.context.state = replace(checked.context.state, checks={"triage": seen})


@pytest.mark.parametrize(
    ("seen", "found"),
    [
        pytest.param({}, "UNKNOWN", id="nobody looked for symptoms"),
        pytest.param({"frontend_shows_served": "FAIL"}, "UNKNOWN", id="the frontend's errors are the symptom"),
        pytest.param({"latency_normal": "FAIL"}, "PASS", id="the symptom is another"),
    ],
)
def test_an_error_of_before_counts_by_what_the_triage_found(checked: CheckContext, seen: dict[str, str], found: str) -> None:
    triaged(checked, **seen)

    assert result_of(checked, "before", BROKEN).status == "FAIL"
    assert result_of(checked, "after", BROKEN).status == found
    assert result_of(checked, "after", BROKEN, replace(BROKEN, text="another")).status == "FAIL"
    assert result_of(checked, "after").status == "PASS"
