"""Each kind of check of services, speed and databases, made against fakes in memory."""

from collections.abc import Callable
from typing import Any

import pytest

from runbook_lib import checks
from runbook_lib.browser import MemoryBrowser
from runbook_lib.checks import CheckContext
from runbook_lib.config.plan import Plan
from runbook_lib.context import Context
from runbook_lib.errors import AdapterError
from runbook_lib.postgres.sessions import Taken
from runbook_lib.results import Result, Status
from runbook_lib.run import Run, lifecycle
from runbook_lib.system.http import Answer, MemoryHttp

from ...support.checking import SINCE, Known, check, given


@pytest.mark.parametrize(
    ("change", "status", "said"),
    [
        pytest.param(lambda w: None, "PASS", "runs 5eed", id="all run what is wanted"),
        pytest.param(lambda w: w.services.stop("worker"), "FAIL", "worker: does not run", id="one is stopped"),
        pytest.param(lambda w: w.versions.update(backend="0ld" * 10), "FAIL", "expected 5eed5eed5eed", id="wrong version"),
        pytest.param(lambda w: w.versions.update(backend="5eed"), "FAIL", "runs 5eed, expected", id="too short to tell"),
        pytest.param(lambda w: w.versions.update(backend=""), "UNKNOWN", "version is unknown", id="no version told"),
        pytest.param(lambda w: w.services.lines["worker"].clear(), "UNKNOWN", "worker: runs, but", id="none in the log"),
        pytest.param(lambda w: setattr(w.services, "reachable", False), "UNKNOWN", "did not answer", id="no manager"),
    ],
)
def test_services(checked: CheckContext, world: Any, change: Callable[[Any], None], status: str, said: str) -> None:
    world.start_all()
    change(world)

    found = check(checked, "services-running")

    assert (found.status, said in found.summary) == (status, True)


def test_one_stopped_service_counts_more_than_one_of_unknown_version(checked: CheckContext, world: Any) -> None:
    world.start_all()
    world.versions["backend"] = ""
    world.services.stop("worker")

    assert check(checked, "services-running").status is Status.FAIL


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
def test_latency(checked: CheckContext, slow: int, status: str) -> None:
    seconds = iter([1.0] * slow + [0.01] * (40 - slow))
    given(checked.context, http=MemoryHttp(lambda url, token: Answer.of(200, "{}", next(seconds))))

    assert check(checked, "latency-normal").status == status


@pytest.mark.parametrize(("slow", "asked"), [(0, 40), (2, 40), (40, 10)])
def test_no_more_is_asked_of_an_api_once_it_is_too_slow_for_certain(checked: CheckContext, slow: int, asked: int) -> None:
    seconds = iter([1.0] * slow + [0.01] * (40 - slow))
    given(checked.context, http=MemoryHttp(lambda url, token: Answer.of(200, "{}", next(seconds))))

    found = check(checked, "latency-normal")

    assert len(found.evidence["milliseconds"]) == asked
    assert (checked.context.folder.path / found.evidence["plot"]).read_bytes().startswith(b"<svg")


@pytest.mark.parametrize("code", [401, 500])
def test_the_speed_of_requests_that_were_not_served_is_unknown(checked: CheckContext, code: int) -> None:
    codes = iter([code] + [200] * 39)
    given(checked.context, http=MemoryHttp(lambda url, token: Answer.of(next(codes), "{}", 0.01)))

    found = check(checked, "latency-normal")

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
        pytest.param(proven(Status.PASS, Status.UNKNOWN), "UNKNOWN", id="not known"),
        pytest.param(proven(Status.UNKNOWN, Status.FAIL), "FAIL", id="disproven"),
    ],
)
def test_proof(context: Context, verified: dict[str, list[Result]], status: str) -> None:
    assert check(CheckContext(context, "after", SINCE, verified), "only-intended-rows").status == status


# --- what was visible before


def test_without_an_old_api_in_the_target_nothing_is_known_by_it(checked: CheckContext, plan: Plan) -> None:
    by_api = plan.checks["media-as-in-backup"].model_copy(update={"reference": "api", "where": "source"})
    checked.context.plan = plan.model_copy(update={"checks": {"media-as-in-old-api": by_api}})

    found = check(checked, "media-as-in-old-api")

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
    monkeypatch.setattr("runbook_lib.checks.database.taken", lambda postgres, role: after)

    found = check(Measured(context, "after", SINCE), "no-slow-queries")

    assert (found.status, said in found.summary) == (status, True)


def test_statements_that_nobody_measures_are_unknown(context: Context) -> None:
    checked = Measured(context, "after", SINCE)
    checked.statements = None

    found = check(checked, "no-slow-queries")

    assert (found.status, "this server has no pg_stat_statements" in found.summary) == ("UNKNOWN", True)


@pytest.mark.parametrize(
    ("measured", "made"),
    [
        pytest.param(None, False, id="nobody measures"),
        pytest.param({}, True, id="somebody does"),
        pytest.param(AdapterError("Our role does not see them."), True, id="it cannot be determined"),
    ],
)
def test_only_unmeasured_statements_are_left_out_of_the_final_list(
    run: Run, monkeypatch: pytest.MonkeyPatch, measured: Any, made: bool
) -> None:
    def taken(*_: object) -> Any:
        if isinstance(measured, AdapterError):
            raise measured
        return measured

    monkeypatch.setattr("runbook_lib.checks.database.taken", taken)
    monkeypatch.setattr(run, "observe", lambda round_name, names: names)

    assert ("no-slow-queries" in lifecycle.verify(run), "no-slow-queries" not in run.state.left_out) == (made, made)  # type: ignore[comparison-overlap]


# --- whatever the kind


class Gone:
    """A database that cannot be reached."""

    def __init__(self) -> None:
        self.asked = 0

    def connect(self, database: str | None = None) -> None:
        self.asked += 1
        raise AdapterError("The database cannot be reached.")


def test_a_check_that_cannot_run_never_passes(context: Context, plan: Plan) -> None:
    def refused(*_: object) -> Any:
        raise ConnectionRefusedError("refused")

    context.adapters.services.reachable = False  # type: ignore[attr-defined]
    given(context, http=MemoryHttp(refused), browser=MemoryBrowser(refused), postgres=Gone())

    found = checks.run(plan.checks, CheckContext(context, "after", SINCE))

    assert {result.name: result.status for result in found} == dict.fromkeys(plan.checks, Status.UNKNOWN)


def test_a_silent_database_is_waited_for_once_by_all_checks(context: Context, plan: Plan) -> None:
    database = Gone()
    given(context, postgres=database)

    found = checks.run(
        [n for n in plan.checks if plan.checks[n].kind.startswith("api")], CheckContext(context, "after", SINCE)
    )

    assert (len(found) > 1, {result.status for result in found}, database.asked) == (True, {Status.UNKNOWN}, 1)


def test_a_result_has_the_name_and_the_title_of_the_plan(checked: CheckContext, plan: Plan) -> None:
    found = check(checked, "services-running")

    assert (found.name, found.title) == ("services-running", plan.checks["services-running"].title)
