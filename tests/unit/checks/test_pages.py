"""The checks of an API and of the pages that show it, made against fakes in memory."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from runbook_lib import checks
from runbook_lib.browser import ConsoleError, Media, MemoryBrowser, Visit
from runbook_lib.checks import CheckContext
from runbook_lib.config.plan import Rows
from runbook_lib.postgres.sampled_rows import SampledRows
from runbook_lib.results import Status
from runbook_lib.system.http import Answer, MemoryHttp

from ...support.checking import api, check, given

SITE = "http://frontend_url.test"
PICTURE = Media(f"{SITE}/media/1.png", rendered=True, natural_width=640)


def items(*rows: dict[str, Any]) -> Answer:
    return Answer.of(200, json.dumps({"messages": rows}))


SERVED = items({"mediaUrl": "/media/1.png", "attachments": []}, {"mediaUrl": None})
NO_FIELD = items({"mediaUrl": "/media/1.png"}, {"text": "hello"})
ALL_NULL = items({"mediaUrl": None}, {"mediaUrl": None})
ALL_EMPTY = items({"mediaUrl": ""})
NOT_JSON = Answer.of(200, "<html>")
UNANSWERED = [
    pytest.param(Answer.of(401, "{}"), "UNKNOWN", "refused the token", id="401 says nothing of the data"),
    pytest.param(Answer.of(403, "{}"), "UNKNOWN", "refused the token", id="403 says nothing of the data"),
    pytest.param(Answer.of(503, "{}"), "UNKNOWN", "could not answer", id="503"),
    pytest.param(Answer.of(404, "{}"), "FAIL", "does not serve", id="404"),
    pytest.param(ConnectionRefusedError, "UNKNOWN", "could not be checked", id="no answer"),
]


@pytest.mark.parametrize(
    ("first", "status", "said"),
    [
        pytest.param(SERVED, "PASS", "4 items of 2 samples: 0 without", id="served"),
        pytest.param(NO_FIELD, "FAIL", "1 without mediaUrl", id="one item without the field"),
        pytest.param(ALL_NULL, "FAIL", "", id="a sample with media has none"),
        pytest.param(ALL_EMPTY, "FAIL", "", id="an empty text is no value"),
        pytest.param(items(), "FAIL", "", id="a sample with rows is served empty"),
        pytest.param(NOT_JSON, "UNKNOWN", "7: the answer is HTML, not JSON", id="a sample is not JSON"),
        *UNANSWERED,
    ],
)
def test_api_present(checked: CheckContext, first: Any, status: str, said: str) -> None:
    api(checked.context, first, SERVED)

    found = check(checked, "api-media-url")

    assert (found.status, said in found.summary) == (status, True)


@pytest.mark.parametrize(
    ("item", "status"),
    [
        ({"media": {"url": "/1.png"}}, "PASS"),
        ({"media": {}}, "FAIL"),
        ({"media": None}, "FAIL"),
        ({"media.url": "/1"}, "FAIL"),
    ],
)
def test_a_field_may_be_a_path(checked: CheckContext, item: dict[str, Any], status: str) -> None:
    nested = checked.context.plan.api.model_copy(update={"present": "media.url"})
    checked.context.plan = checked.context.plan.model_copy(update={"api": nested})
    api(checked.context, items(item), items({"media": {"url": "/2.png"}}))

    assert check(checked, "api-media-url").status == status


@pytest.mark.parametrize("everywhere", [ALL_NULL, items()], ids=["all null", "empty lists"])
def test_api_present_fails_where_no_sample_has_a_value(checked: CheckContext, everywhere: Answer) -> None:
    api(checked.context, everywhere, everywhere)

    assert check(checked, "api-media-url").status is Status.FAIL


@pytest.mark.parametrize(
    ("first", "status", "said"),
    [
        pytest.param(items({"text": "hello"}), "PASS", "0 of 3", id="absent"),
        pytest.param(items({"attachments": []}), "PASS", "0 of 3", id="empty"),
        pytest.param(items({"attachments": None}), "PASS", "0 of 3", id="null"),
        pytest.param(items({"attachments": [{"url": "x"}]}), "FAIL", "1 of 3", id="filled"),
        pytest.param(items(), "UNKNOWN", "", id="a sample with rows is served empty"),
        pytest.param(NOT_JSON, "UNKNOWN", "", id="a sample is not JSON"),
        *UNANSWERED,
    ],
)
def test_api_absent(checked: CheckContext, first: Any, status: str, said: str) -> None:
    api(checked.context, first, SERVED)

    found = check(checked, "api-attachments-gone")

    assert (found.status, said in found.summary) == (status, True)


@pytest.mark.parametrize("everywhere", [items(), NOT_JSON], ids=["empty lists", "no JSON"])
def test_api_absent_is_unknown_where_nothing_was_served(checked: CheckContext, everywhere: Answer) -> None:
    api(checked.context, everywhere, everywhere)

    assert check(checked, "api-attachments-gone").status is Status.UNKNOWN


# --- the page


def page(**changed: Any) -> Callable[[str], Visit]:
    seen = {"ready_state": "true", "text": "hello", "items": 2, "media": [PICTURE], "errors": [], "screenshot": b"png"}
    return lambda url: Visit(url=url, **(seen | changed))


@pytest.mark.parametrize(
    ("name", "changed", "status", "said"),
    [
        ("frontend-displays-media", {}, "PASS", "all 1 media are shown"),
        ("frontend-displays-media", {"media": []}, "FAIL", "1 of 1 media are not shown, such as /media/1.png"),
        ("frontend-displays-media", {"text": "Content unavailable"}, "FAIL", "it has “Content unavailable” 1 times"),
        ("no-console-errors", {}, "PASS", "no error"),
        ("no-console-errors", {"errors": [ConsoleError("HTTP 404", f"{SITE}/x.js")]}, "FAIL", f"HTTP 404 ({SITE}/x.js)"),
        ("thread-loads", {}, "PASS", "2 items shown"),
        ("thread-loads", {"ready_state": ""}, "PASS", "2 items shown"),
        ("thread-loads", {"items": 1}, "FAIL", "1 items of 2"),
        ("thread-loads", {"ready_state": None}, "FAIL", "did not get ready (no sign of readiness)"),
        ("thread-loads", {"ready_state": "error"}, "FAIL", "did not get ready (error)"),
        ("media-renders", {}, "PASS", "1 of 1 rendered"),
        (
            "media-renders",
            {"media": [Media("/broken.png", False, 0), PICTURE]},
            "FAIL",
            "1 of 2 do not render, such as /bro",
        ),
        ("media-renders", {"media": []}, "FAIL", "no picture or video"),
    ],
)
def test_page(checked: CheckContext, name: str, changed: dict[str, Any], status: str, said: str) -> None:
    given(checked.context, browser=MemoryBrowser(page(**changed)))

    found = check(checked, name)

    assert (found.status, said in found.summary) == (status, True)


BOTH = {"mediaUrl": "/media/1.png", "attachments": [{"url": "/media/1.png"}, {"url": "/media/2.png"}]}
OTHER = Media(f"{SITE}/media/2.png", rendered=True, natural_width=640)


@pytest.mark.parametrize(
    ("served", "changed", "status", "said"),
    [
        pytest.param([BOTH, {}], {"media": [PICTURE]}, "PASS", "2 items and all media", id="what older clients read"),
        pytest.param([BOTH, {}], {"media": [PICTURE, OTHER]}, "PASS", "all media", id="what the feature's page reads"),
        pytest.param([BOTH, {}], {"media": [OTHER]}, "FAIL", "1 media that the API serves are not", id="neither whole"),
        pytest.param([BOTH, {}], {"media": []}, "FAIL", "1 media that the API serves are not shown", id="none is shown"),
        pytest.param([{"mediaUrl": None}, {}], {"media": []}, "PASS", "", id="none is served: not the page's fault"),
        pytest.param([BOTH], {"media": [PICTURE]}, "FAIL", "2 items of 1", id="another number of items"),
        pytest.param([BOTH, {}], {"ready_state": "error"}, "FAIL", "did not get ready (error)", id="not ready"),
    ],
)
def test_page_against_what_is_served(
    checked: CheckContext, served: list[dict[str, Any]], changed: dict[str, Any], status: str, said: str
) -> None:
    api(checked.context, items(*served), SERVED)
    given(checked.context, browser=MemoryBrowser(page(**changed)))

    found = check(checked, "frontend-shows-served")

    assert (found.status, said in found.summary) == (status, True)


@pytest.mark.parametrize("code", [401, 503])
def test_a_page_is_not_blamed_for_an_api_that_does_not_answer(checked: CheckContext, code: int) -> None:
    api(checked.context, Answer.of(code, "{}"), SERVED)
    given(checked.context, browser=MemoryBrowser(page()))

    assert check(checked, "frontend-shows-served").status is Status.UNKNOWN


PAGE_CHECKS = ["frontend-displays-media", "no-console-errors", "thread-loads", "media-renders"]


@pytest.mark.parametrize("name", PAGE_CHECKS)
def test_a_page_that_cannot_be_visited_is_unknown(checked: CheckContext, name: str) -> None:
    def refused(url: str) -> Visit:
        raise ConnectionRefusedError("refused")

    given(checked.context, browser=MemoryBrowser(refused))

    assert check(checked, name).status is Status.UNKNOWN


def test_a_round_opens_each_page_once_and_keeps_its_screenshot(checked: CheckContext) -> None:
    opened: list[str] = []
    given(checked.context, browser=MemoryBrowser(lambda url: (opened.append(url), page()(url))[1]))

    found = checks.run(PAGE_CHECKS, checked)

    assert opened == [f"{SITE}/conversations/7", f"{SITE}/"]
    assert [(checked.context.folder.path / f).read_bytes() for f in found[0].evidence["screenshots"]] == [b"png"]
    assert found[1].evidence["screenshots"] == ["evidence/page-7-after.png", "evidence/page-root-after.png"]


@pytest.mark.parametrize(
    ("name", "changed"),
    [
        ("no-console-errors", {"errors": [ConsoleError("HTTP 404", f"{SITE}/x.js")]}),
        ("thread-loads", {"ready_state": "error"}),
        ("media-renders", {"media": [Media("/broken.png", False, 0)]}),
    ],
)
def test_another_page_of_the_plan_counts_too(checked: CheckContext, name: str, changed: dict[str, Any]) -> None:
    opened = MemoryBrowser(lambda url: page()(url) if "conversations" in url else page(**changed)(url))
    given(checked.context, browser=opened)

    found = check(checked, name)

    assert (found.status, f"{SITE}/: " in found.summary) == ("FAIL", True)


def test_another_page_needs_no_pictures_and_no_items(checked: CheckContext) -> None:
    opened = MemoryBrowser(lambda url: page()(url) if "conversations" in url else page(media=[], items=0)(url))
    given(checked.context, browser=opened)

    assert {check(checked, name).status for name in PAGE_CHECKS} == {Status.PASS}


# --- which rows are shown


class Paginated(CheckContext):
    """A round in which a sample holds 25 rows, of which 5 have a picture."""

    samples = ["7"]  # type: ignore[assignment]

    def rows_of(self, column: str, shown: Any) -> Any:
        return dict.fromkeys(shown, SampledRows(25, [f"/media/{n}.png" for n in range(5)]))


@pytest.fixture
def paginated(checked: CheckContext) -> CheckContext:
    return Paginated(checked.context, "after", checked.since)


def said(checked: CheckContext, **keys: Any) -> None:
    """Have the plan say nothing of rows and rules but what a test says."""
    plan = checked.context.plan
    of_api = plan.api.model_copy(update={"rows": keys.pop("api_rows", None), "omitted": "empty"})
    of_page = plan.page.model_copy(update={"rows": None, "media_rules": None, **keys})
    checked.context.plan = plan.model_copy(update={"api": of_api, "page": of_page})


def shown(*numbers: int, of: int, path: str = "/media") -> dict[str, Any]:
    return {"media": [Media(f"{SITE}{path}/{n}.png", True, 64) for n in numbers], "items": of}


def serves(checked: CheckContext, *numbers: int, of: int, **more: Any) -> None:
    rows = [{"id": n, "mediaUrl": f"/media/{n}.png" if n in numbers else None} for n in range(of)]
    given(checked.context, http=MemoryHttp(lambda url, token: Answer.of(200, json.dumps({"messages": rows, **more}))))


LAST_20 = Rows(where="deleted_at IS NULL", order="id DESC", limit=20)


@pytest.mark.parametrize(
    ("name", "seen", "status"),
    [
        ("thread-loads", shown(0, of=25), "PASS"),
        ("thread-loads", shown(0, of=20), "UNKNOWN"),
        ("thread-loads", shown(0, of=26), "UNKNOWN"),
        ("thread-loads", shown(of=0), "FAIL"),
        ("frontend-displays-media", shown(*range(5), of=20), "PASS"),
        ("frontend-displays-media", shown(*range(4), of=20), "UNKNOWN"),
        ("frontend-displays-media", shown(*range(4), of=25), "FAIL"),
        ("frontend-displays-media", shown(*range(2), of=23), "FAIL"),  # only two of its rows are not shown
        ("frontend-displays-media", shown(of=0), "FAIL"),
        ("frontend-shows-served", shown(*range(5), of=25), "PASS"),
        ("frontend-shows-served", shown(*range(5), of=10), "UNKNOWN"),
        ("frontend-shows-served", shown(*range(3), of=10), "UNKNOWN"),
        ("frontend-shows-served", shown(*range(3), of=25), "FAIL"),
        ("frontend-shows-served", shown(*range(5), of=26), "FAIL"),
        ("frontend-shows-served", shown(of=0), "FAIL"),
        ("media-renders", shown(of=20), "UNKNOWN"),
        ("media-renders", shown(of=22), "FAIL"),
    ],
)
def test_where_the_plan_does_not_say_which_rows_are_shown(
    paginated: CheckContext, name: str, seen: dict[str, Any], status: str
) -> None:
    said(paginated)
    serves(paginated, *range(5), of=25)
    given(paginated.context, browser=MemoryBrowser(page(**seen)))

    assert check(paginated, name).status == status


@pytest.mark.parametrize("rows", ["all", LAST_20])
@pytest.mark.parametrize("where", ["rows", "api_rows"])
@pytest.mark.parametrize(
    ("name", "seen", "status"),
    [
        ("thread-loads", shown(0, of=25), "PASS"),
        ("thread-loads", shown(0, of=20), "FAIL"),
        ("frontend-displays-media", shown(*range(4), of=20), "FAIL"),
    ],
)
def test_the_rows_that_the_plan_names_are_those_that_are_looked_for(
    paginated: CheckContext, rows: Any, where: str, name: str, seen: dict[str, Any], status: str
) -> None:
    said(paginated, **{where: rows})
    given(paginated.context, browser=MemoryBrowser(page(**seen)))

    assert check(paginated, name).status == status


@pytest.mark.parametrize(
    ("name", "seen", "status"),
    [
        ("thread-loads", shown(0, of=20), "PASS"),
        ("thread-loads", shown(0, of=25), "FAIL"),
        ("frontend-displays-media", shown(1, 2, of=20), "PASS"),
        ("frontend-displays-media", shown(1, of=20), "FAIL"),
        ("frontend-shows-served", shown(1, 2, of=20), "PASS"),
    ],
)
def test_a_page_may_be_compared_with_what_the_api_serves(
    paginated: CheckContext, name: str, seen: dict[str, Any], status: str
) -> None:
    said(paginated, rows="served")
    serves(paginated, 1, 2, of=20)
    given(paginated.context, browser=MemoryBrowser(page(**seen)))

    assert check(paginated, name).status == status


def test_a_page_may_continue_with_what_the_api_serves_next(paginated: CheckContext) -> None:
    said(paginated, rows="served")
    serves(paginated, 1, 2, of=20, nextCursor="x")
    given(paginated.context, browser=MemoryBrowser(page(**shown(1, 2, of=25))))

    assert check(paginated, "thread-loads").status == "PASS"


@pytest.mark.parametrize("name", ["thread-loads", "frontend-displays-media", "frontend-shows-served"])
@pytest.mark.parametrize("answer", [Answer.of(503, ""), NOT_JSON, Answer.of(200, '{"errors": [1], "messages": []}')])
def test_what_the_api_does_not_serve_is_unknown_of_the_page_too(paginated: CheckContext, name: str, answer: Answer) -> None:
    said(paginated, rows="served")
    given(paginated.context, http=MemoryHttp(lambda url, token: answer), browser=MemoryBrowser(page(**shown(1, of=20))))

    assert check(paginated, name).status == "UNKNOWN"


@pytest.mark.parametrize("name", ["thread-loads", "frontend-displays-media", "media-renders"])
def test_a_page_of_rows_that_users_deleted_is_unknown_and_not_empty(paginated: CheckContext, name: str) -> None:
    said(paginated)
    serves(paginated, of=0)
    given(paginated.context, browser=MemoryBrowser(page(**shown(of=0))))

    assert check(paginated, name).status == "UNKNOWN"


@pytest.mark.parametrize(
    ("api_rows", "of", "status"), [(None, 20, "UNKNOWN"), (None, 25, "FAIL"), ("all", 20, "FAIL"), (LAST_20, 20, "FAIL")]
)
def test_an_api_that_serves_no_picture_of_some_rows(paginated: CheckContext, api_rows: Any, of: int, status: str) -> None:
    said(paginated, api_rows=api_rows)
    serves(paginated, of=of)

    assert check(paginated, "api-media-url").status == status


def test_a_healthy_page_under_other_addresses_is_never_failed(paginated: CheckContext) -> None:
    said(paginated, rows="all")
    serves(paginated, *range(5), of=25)
    given(paginated.context, browser=MemoryBrowser(page(**shown(*range(5), of=25, path="/_next/image?url=%2Fmedia"))))

    found = [check(paginated, name) for name in ("frontend-displays-media", "frontend-shows-served")]

    assert [(each.status, "page.media_rules" in each.summary) for each in found] == [("UNKNOWN", True)] * 2


@pytest.mark.parametrize("code", [301, 302, 307])
def test_an_api_that_sends_to_a_login_says_nothing_of_the_data(checked: CheckContext, code: int) -> None:
    api(checked.context, Answer.of(code, ""), SERVED)

    assert check(checked, "api-media-url").status is Status.UNKNOWN
