"""Each kind of check, made against what is in memory."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from runbook_lib import checks, closing
from runbook_lib.adapters.browser import ConsoleError, Media, MemoryBrowser, Visit
from runbook_lib.adapters.http import Answer, MemoryHttp
from runbook_lib.adapters.postgres.statements import Taken
from runbook_lib.checks.round import Round
from runbook_lib.context import Context
from runbook_lib.errors import AdapterError
from runbook_lib.plan import Plan
from runbook_lib.results import Result, Status
from runbook_lib.run import Run

SINCE = datetime(2025, 11, 3, 12, 0, tzinfo=UTC)
SITE = "http://frontend_url.test"
PICTURE = Media(f"{SITE}/media/1.png", rendered=True, natural_width=640)


class Known(Round):
    """A round in which each sample holds two items, one of them with a picture."""

    samples = ["7", "8"]  # type: ignore[assignment]

    @property
    def expected(self) -> dict[str, tuple[int, list[str]]]:  # type: ignore[override]
        return dict.fromkeys(self.samples, (2, ["/media/1.png"]))


@pytest.fixture
def around(context: Context) -> Round:
    return Known(context, "after", SINCE)


def check(around: Round, name: str) -> Result:
    (found,) = checks.run([name], around)
    return found


# --- services


@pytest.mark.parametrize(
    ("change", "status", "said"),
    [
        pytest.param(lambda w: None, "PASS", "runs 5eed", id="all run what is wanted"),
        pytest.param(lambda w: w.services.stop("worker"), "FAIL", "worker: does not run", id="one is stopped"),
        pytest.param(lambda w: w.versions.update(backend="0ld" * 10), "FAIL", "wanted 5eed5eed5eed", id="wrong version"),
        pytest.param(lambda w: w.versions.update(backend="5eed"), "FAIL", "runs 5eed, wanted", id="too short to tell"),
        pytest.param(lambda w: w.versions.update(backend=""), "UNKNOWN", "version is not known", id="no version told"),
        pytest.param(lambda w: w.services.lines["worker"].clear(), "UNKNOWN", "worker: runs, but", id="none in the log"),
        pytest.param(lambda w: setattr(w.services, "reachable", False), "UNKNOWN", "did not answer", id="no manager"),
    ],
)
def test_services(around: Round, world: Any, change: Callable[[Any], None], status: str, said: str) -> None:
    world.start_all()
    change(world)

    found = check(around, "services-running")

    assert (found.status, said in found.summary) == (status, True)


def test_one_stopped_service_counts_more_than_one_of_unknown_version(around: Round, world: Any) -> None:
    world.start_all()
    world.versions["backend"] = ""
    world.services.stop("worker")

    assert check(around, "services-running").status is Status.FAIL


# --- the API


def items(*rows: dict[str, Any]) -> Answer:
    return Answer.of(200, json.dumps({"messages": rows}))


def api(context: Context, first: Answer | type[OSError], second: Answer) -> None:
    def answer(url: str, token: str | None) -> Answer:
        found = {"7": first, "8": second}[url.split("/")[-2]]
        if not isinstance(found, Answer):
            raise found("refused")
        return found if token == "unit-bearer" else Answer.of(401, "{}")

    context.__dict__["http"] = MemoryHttp(answer)


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
        pytest.param(NOT_JSON, "FAIL", "", id="a sample is not JSON"),
        *UNANSWERED,
    ],
)
def test_api_present(around: Round, first: Any, status: str, said: str) -> None:
    api(around.context, first, SERVED)

    found = check(around, "api-media-url")

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
def test_a_field_may_be_a_path(around: Round, item: dict[str, Any], status: str) -> None:
    nested = around.context.plan.api.model_copy(update={"present": "media.url"})
    around.context.plan = around.context.plan.model_copy(update={"api": nested})
    api(around.context, items(item), items({"media": {"url": "/2.png"}}))

    assert check(around, "api-media-url").status == status


@pytest.mark.parametrize("everywhere", [ALL_NULL, items(), NOT_JSON], ids=["all null", "empty lists", "no JSON"])
def test_api_present_fails_where_no_sample_has_a_value(around: Round, everywhere: Answer) -> None:
    api(around.context, everywhere, everywhere)

    assert check(around, "api-media-url").status is Status.FAIL


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
def test_api_absent(around: Round, first: Any, status: str, said: str) -> None:
    api(around.context, first, SERVED)

    found = check(around, "api-attachments-gone")

    assert (found.status, said in found.summary) == (status, True)


@pytest.mark.parametrize("everywhere", [items(), NOT_JSON], ids=["empty lists", "no JSON"])
def test_api_absent_is_unknown_where_nothing_was_served(around: Round, everywhere: Answer) -> None:
    api(around.context, everywhere, everywhere)

    assert check(around, "api-attachments-gone").status is Status.UNKNOWN


# --- the page


def page(**changed: Any) -> Callable[[str], Visit]:
    seen = {"ready_state": "true", "text": "hello", "items": 2, "media": [PICTURE], "errors": [], "screenshot": b"png"}
    return lambda url: Visit(url=url, **(seen | changed))


@pytest.mark.parametrize(
    ("name", "changed", "status", "said"),
    [
        ("frontend-displays-media", {}, "PASS", "all 1 media are shown"),
        ("frontend-displays-media", {"media": []}, "FAIL", "1 of 1 media are not shown, such as /media/1.png"),
        ("frontend-displays-media", {"text": "Content unavailable"}, "FAIL", "“Content unavailable” stands on it 1 times"),
        ("no-console-errors", {}, "PASS", "no error"),
        ("no-console-errors", {"errors": [ConsoleError("HTTP 404", f"{SITE}/x.js")]}, "FAIL", f"HTTP 404 ({SITE}/x.js)"),
        ("thread-loads", {}, "PASS", "2 items shown"),
        ("thread-loads", {"ready_state": ""}, "PASS", "2 items shown"),
        ("thread-loads", {"items": 1}, "FAIL", "1 items of 2"),
        ("thread-loads", {"ready_state": None}, "FAIL", "did not get ready (no sign of it)"),
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
def test_page(around: Round, name: str, changed: dict[str, Any], status: str, said: str) -> None:
    around.context.__dict__["browser"] = MemoryBrowser(page(**changed))

    found = check(around, name)

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
    around: Round, served: list[dict[str, Any]], changed: dict[str, Any], status: str, said: str
) -> None:
    api(around.context, items(*served), SERVED)
    around.context.__dict__["browser"] = MemoryBrowser(page(**changed))

    found = check(around, "frontend-shows-served")

    assert (found.status, said in found.summary) == (status, True)


@pytest.mark.parametrize("code", [401, 503])
def test_a_page_is_not_blamed_for_an_api_that_does_not_answer(around: Round, code: int) -> None:
    api(around.context, Answer.of(code, "{}"), SERVED)
    around.context.__dict__["browser"] = MemoryBrowser(page())

    assert check(around, "frontend-shows-served").status is Status.UNKNOWN


PAGE_CHECKS = ["frontend-displays-media", "no-console-errors", "thread-loads", "media-renders"]


@pytest.mark.parametrize("name", PAGE_CHECKS)
def test_a_page_that_cannot_be_looked_at_is_unknown(around: Round, name: str) -> None:
    def refused(url: str) -> Visit:
        raise ConnectionRefusedError("refused")

    around.context.__dict__["browser"] = MemoryBrowser(refused)

    assert check(around, name).status is Status.UNKNOWN


def test_a_round_opens_each_page_once_and_keeps_its_screenshot(around: Round) -> None:
    opened: list[str] = []
    around.context.__dict__["browser"] = MemoryBrowser(lambda url: (opened.append(url), page()(url))[1])

    found = checks.run(PAGE_CHECKS, around)

    assert opened == [f"{SITE}/conversations/7", f"{SITE}/"]
    assert [(around.context.folder.path / f).read_bytes() for f in found[0].evidence["screenshots"]] == [b"png"]
    assert found[1].evidence["screenshots"] == ["evidence/page-7-after.png", "evidence/page-root-after.png"]


@pytest.mark.parametrize(
    ("name", "changed"),
    [
        ("no-console-errors", {"errors": [ConsoleError("HTTP 404", f"{SITE}/x.js")]}),
        ("thread-loads", {"ready_state": "error"}),
        ("media-renders", {"media": [Media("/broken.png", False, 0)]}),
    ],
)
def test_another_page_of_the_plan_counts_too(around: Round, name: str, changed: dict[str, Any]) -> None:
    around.context.__dict__["browser"] = MemoryBrowser(
        lambda url: page()(url) if "conversations" in url else page(**changed)(url)
    )

    found = check(around, name)

    assert (found.status, f"{SITE}/: " in found.summary) == ("FAIL", True)


def test_another_page_needs_no_pictures_and_no_items(around: Round) -> None:
    around.context.__dict__["browser"] = MemoryBrowser(
        lambda url: page()(url) if "conversations" in url else page(media=[], items=0)(url)
    )

    assert {check(around, name).status for name in PAGE_CHECKS} == {Status.PASS}


# --- logs


@pytest.mark.parametrize(
    ("lines", "status", "said"),
    [
        pytest.param(["2025-11-03T12:00:01Z INFO up"], "PASS", "1 lines of backend", id="no error"),
        pytest.param(["2025-11-03T12:00:01Z ERROR lost"], "FAIL", "backend: 2025-11-03T12:00:01Z ERROR lost", id="error"),
        pytest.param(["2025-11-03T12:00:01Z INFO x", "Traceback (most recent call last):"], "FAIL", "1 errors", id="trace"),
        pytest.param(["2025-11-03T12:00:01Z INFO 0 ERRORS"], "PASS", "no error", id="a longer word"),
        pytest.param(
            ["2025-11-03T11:00:00Z ERROR old", "2025-11-03T12:00:01Z INFO up"], "PASS", "no error", id="an older error"
        ),
        pytest.param([], "UNKNOWN", "nothing was logged since 2025-11-03T12:00:00+00:00 by backend", id="nothing"),
        pytest.param(["2025-11-03T11:00:00Z INFO up"], "UNKNOWN", "nothing was logged", id="nothing since then"),
    ],
)
def test_logs(around: Round, world: Any, lines: list[str], status: str, said: str) -> None:
    world.services.lines.update(worker=["2025-11-03T12:00:02Z INFO up"], backend=lines)

    found = check(around, "no-backend-errors")

    assert (found.status, said in found.summary) == (status, True)


def test_the_lines_with_errors_are_kept_all_of_them(around: Round, world: Any) -> None:
    lines = [f"2025-11-03T12:00:0{n}Z ERROR number {n}" for n in range(1, 4)]
    world.services.lines.update(worker=["2025-11-03T12:00:02Z INFO up"], backend=lines)

    found = check(around, "no-backend-errors")

    kept = (around.context.folder.path / found.evidence["text"]).read_text()
    assert kept.splitlines() == [f"backend: {line}" for line in lines]


def test_a_service_that_this_run_started_is_judged_from_its_own_start(around: Round, world: Any) -> None:
    world.services.lines.update(worker=["2025-11-03T12:00:02Z INFO up"], backend=["2025-11-03T12:00:01Z ERROR lost"])
    world.services.lines["backend"] += ["2025-11-03T12:00:05Z INFO up again"]
    around.started = {"backend": datetime(2025, 11, 3, 12, 0, 4, tzinfo=UTC)}

    assert check(around, "no-backend-errors").status is Status.PASS


def test_logs_that_cannot_be_read_are_unknown(around: Round, world: Any) -> None:
    world.services.reachable = False

    assert check(around, "no-backend-errors").status is Status.UNKNOWN


# --- latency


@pytest.mark.parametrize(
    ("slow", "status"),
    [
        pytest.param(0, "PASS", id="all fast"),
        pytest.param(2, "PASS", id="5 of 100 slow"),
        pytest.param(3, "FAIL", id="more than 5 of 100 slow"),
        pytest.param(40, "FAIL", id="all slow"),
    ],
)
def test_latency(around: Round, slow: int, status: str) -> None:
    seconds = iter([1.0] * slow + [0.01] * (40 - slow))
    around.context.__dict__["http"] = MemoryHttp(lambda url, token: Answer.of(200, "{}", next(seconds)))

    assert check(around, "latency-normal").status == status


@pytest.mark.parametrize(("slow", "asked"), [(0, 40), (2, 40), (40, 10)])
def test_no_more_is_asked_of_an_api_once_it_is_too_slow_for_certain(around: Round, slow: int, asked: int) -> None:
    seconds = iter([1.0] * slow + [0.01] * (40 - slow))
    around.context.__dict__["http"] = MemoryHttp(lambda url, token: Answer.of(200, "{}", next(seconds)))

    found = check(around, "latency-normal")

    assert len(found.evidence["milliseconds"]) == asked
    assert (around.context.folder.path / found.evidence["plot"]).read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("code", [401, 500])
def test_the_speed_of_requests_that_were_not_served_is_unknown(around: Round, code: int) -> None:
    codes = iter([code] + [200] * 39)
    around.context.__dict__["http"] = MemoryHttp(lambda url, token: Answer.of(next(codes), "{}", 0.01))

    found = check(around, "latency-normal")

    assert (found.status, found.summary) == ("UNKNOWN", f"1 of 40 requests were not served ({code})")


# --- the proof that a step made


def proven(*statuses: Status) -> dict[str, list[Result]]:
    return {"clear-backfill": [Result("clear-backfill: proof", "Proof", status, "seen") for status in statuses]}


@pytest.mark.parametrize(
    ("verified", "status"),
    [
        pytest.param({}, "UNKNOWN", id="no proof in this run"),
        pytest.param({"stop-services": proven(Status.PASS)["clear-backfill"]}, "UNKNOWN", id="another step's"),
        pytest.param(proven(Status.PASS, Status.PASS), "PASS", id="proven"),
        pytest.param(proven(Status.PASS, Status.UNKNOWN), "UNKNOWN", id="not told"),
        pytest.param(proven(Status.UNKNOWN, Status.FAIL), "FAIL", id="disproven"),
    ],
)
def test_proof(context: Context, verified: dict[str, list[Result]], status: str) -> None:
    assert check(Round(context, "after", SINCE, verified), "only-intended-rows").status == status


# --- what was visible before


def test_without_an_old_api_in_the_target_nothing_is_known_by_it(around: Round, plan: Plan) -> None:
    by_api = plan.checks["media-as-in-backup"].model_copy(update={"reference": "api", "where": "source"})
    around.context.plan = plan.model_copy(update={"checks": {"media-as-in-old-api": by_api}})

    found = check(around, "media-as-in-old-api")

    assert (found.status, "the target names no reference_api" in found.summary) == (Status.UNKNOWN, True)


# --- statements


class Measured(Known):
    """A round in which statements are measured, and nothing was run before."""

    statements: Any = {}


@pytest.mark.parametrize(
    ("ran", "status", "said"),
    [
        pytest.param([("SELECT 1", 10, 20.0)], "PASS", "0 of 1 statements", id="fast"),
        pytest.param(
            [("SELECT 1", 10, 20.0), ("SELECT 2", 2, 600.0)], "FAIL", "slowest 300.0 ms, 2 times: SELECT 2", id="one"
        ),
        pytest.param([], "UNKNOWN", "ran no statement", id="none was run"),
    ],
)
def test_statements(
    context: Context, monkeypatch: pytest.MonkeyPatch, ran: list[tuple[str, int, float]], status: str, said: str
) -> None:
    after = {query: Taken(query, calls, milliseconds) for query, calls, milliseconds in ran}
    monkeypatch.setattr("runbook_lib.checks.statements.taken", lambda postgres, role: after)

    found = check(Measured(context, "after", SINCE), "no-slow-queries")

    assert (found.status, said in found.summary) == (status, True)


def test_statements_that_nobody_measures_are_unknown(context: Context) -> None:
    around = Measured(context, "after", SINCE)
    around.statements = None

    found = check(around, "no-slow-queries")

    assert (found.status, "pg_stat_statements is not on this server" in found.summary) == ("UNKNOWN", True)


@pytest.mark.parametrize(
    ("measured", "made"),
    [
        pytest.param(None, False, id="nobody measures"),
        pytest.param({}, True, id="somebody does"),
        pytest.param(AdapterError("Our role does not see them."), True, id="it cannot be told"),
    ],
)
def test_statements_are_left_out_of_the_final_list_only_where_nobody_measures_them(
    run: Run, monkeypatch: pytest.MonkeyPatch, measured: Any, made: bool
) -> None:
    def taken(*_: object) -> Any:
        if isinstance(measured, AdapterError):
            raise measured
        return measured

    monkeypatch.setattr("runbook_lib.checks.statements.taken", taken)
    monkeypatch.setattr(run, "observe", lambda round_name, names: names)

    assert ("no-slow-queries" in closing.verify(run), "no-slow-queries" not in run.state.left_out) == (made, made)  # type: ignore[comparison-overlap]


# --- whatever the kind


class Gone:
    """A database that cannot be reached."""

    def __init__(self) -> None:
        self.asked = 0

    def connect(self, database: str | None = None) -> None:
        self.asked += 1
        raise AdapterError("The database cannot be reached.")


def test_what_cannot_be_looked_at_is_never_passed(context: Context, plan: Plan) -> None:
    def refused(*_: object) -> Any:
        raise ConnectionRefusedError("refused")

    context.services.reachable = False  # type: ignore[attr-defined]
    context.__dict__.update(http=MemoryHttp(refused), browser=MemoryBrowser(refused), postgres=Gone())

    found = checks.run(plan.checks, Round(context, "after", SINCE))

    assert {result.name: result.status for result in found} == dict.fromkeys(plan.checks, Status.UNKNOWN)


def test_a_database_that_does_not_answer_is_waited_for_once_by_all_checks_that_need_samples(
    context: Context, plan: Plan
) -> None:
    context.__dict__["postgres"] = database = Gone()

    found = checks.run([n for n in plan.checks if plan.checks[n].kind.startswith("api")], Round(context, "after", SINCE))

    assert (len(found) > 1, {result.status for result in found}, database.asked) == (True, {Status.UNKNOWN}, 1)


def test_a_result_bears_the_name_and_the_title_of_the_plan(around: Round, plan: Plan) -> None:
    found = check(around, "services-running")

    assert (found.name, found.title) == ("services-running", plan.checks["services-running"].title)
