"""Looking longer at a symptom: what confirms it, when a watch ends, and what it comes to."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from runbook_lib.config.plan import MatrixRow, Monitor, Plan
from runbook_lib.config.plan.shown import KnownBefore
from runbook_lib.errors import ParametersError
from runbook_lib.results import Result, Status
from runbook_lib.run import Run
from runbook_lib.triage import decision_matrix
from runbook_lib.triage.decision_matrix import Watch

P, F, U = Status.PASS, Status.FAIL, Status.UNKNOWN


def row(plan: Plan, action: str) -> MatrixRow:
    return next(row for row in plan.decision_matrix if row.action == action)


@pytest.mark.parametrize(
    ("statuses", "over", "comes_to"),
    [
        pytest.param([F], False, None, id="one failure is not enough"),
        pytest.param([F, F, P, F, F], False, None, id="a pass in between restarts the count"),
        pytest.param([P, F, F, F], False, "database", id="enough failures in a row end it"),
        pytest.param([P, P, P], False, None, id="passes do not end it early"),
        pytest.param([F, P, P, P], True, "", id="it recovered"),
        pytest.param([P, P, F], True, "database", id="the last one failed"),
        pytest.param([P, F, U], True, "database", id="a failure among the last counts more than what is unknown"),
        pytest.param([P, P, U], True, "", id="unknown at the end recommends nothing"),
        pytest.param([], True, "", id="no round at all recommends nothing"),
    ],
)
def test_a_watch(plan: Plan, statuses: Sequence[Status], over: bool, comes_to: str | None) -> None:
    found = decision_matrix.watched(row(plan, "monitor"), statuses, over=over)

    assert (found.type if found else None) == comes_to


@pytest.mark.parametrize(("last", "said"), [(P, "rounds passed"), (U, "unknown")])
def test_what_is_unknown_at_the_end_is_not_called_recovered(plan: Plan, last: Status, said: str) -> None:
    found = decision_matrix.watched(row(plan, "monitor"), [P, P, last], over=True)

    assert found is not None
    assert said in found.reason


@pytest.mark.parametrize(
    ("status", "type_name", "said"),
    [(P, "data", "confirmed"), (F, "", "not the remedy"), (U, "", "not confirmed"), (None, "", "not confirmed")],
)
def test_only_what_passed_confirms(plan: Plan, status: Status | None, type_name: str, said: str) -> None:
    found = [Result("media-url-as-in-backup", "Media", status, "seen")] if status else []

    verdict = decision_matrix.investigated(row(plan, "investigate first"), found)

    assert (verdict.type, said in verdict.reason) == (type_name, True)


class Time:
    """A clock that only pauses move."""

    def __init__(self) -> None:
        self.now, self.pauses = 100.0, list[float]()

    def clock(self) -> float:
        return self.now

    async def pause(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds


@pytest.fixture
def seen(run: Run, monkeypatch: pytest.MonkeyPatch) -> list[Status]:
    """The results of the watched check, round by round; the last one repeats."""
    statuses: list[Status] = []

    def observe(round_name: str, names: Sequence[str]) -> list[Result]:
        status = statuses.pop(0) if len(statuses) > 1 else statuses[0]
        value = {"p95_ms": 300.0 if status is F else 20.0, "limit_ms": 250.0}
        return run.record(round_name, [Result(name, name, status, "seen", value) for name in names])

    monkeypatch.setattr(run, "observe", observe)
    return statuses


def watching(run: Run, monitor: Monitor, time: Time) -> list[Watch]:
    async def go() -> list[Watch]:
        watched = row(run.context.plan, "monitor")
        return [watch async for watch in decision_matrix.watch(run, watched, monitor, time.clock, time.pause)]

    return asyncio.run(go())


def test_a_watch_repeats_at_its_interval_until_its_time_is_over(run: Run, seen: list[Status]) -> None:
    seen[:] = [F, P]
    time = Time()

    watches = watching(run, Monitor(every=60, lasts=300, failures=3), time)

    assert time.pauses == [60] * 5
    assert [s.status for s in watches[-1].samples] == [F, P, P, P, P, P]
    assert (run.folder.path / decision_matrix.FILE).read_bytes().startswith(b"<svg")
    assert run.journal.events()[-2].data["type"] == ""


def test_a_watch_ends_at_its_first_finding_and_journals_what_it_recommends(run: Run, seen: list[Status]) -> None:
    seen[:] = [F]
    time = Time()

    watching(run, Monitor(every=60, lasts=3600, failures=3), time)

    assert time.pauses == [60, 60]
    assert [e.data["type"] for e in run.journal.events() if e.kind == "recommended"] == ["database"]


def test_what_was_there_before_the_release_fails_no_round(run: Run, seen: list[Status]) -> None:
    seen[:] = [F]
    own = row(run.context.plan, "monitor").own
    known = KnownBefore(check=own, says="seen", because="ticket 7")
    run.context.plan = run.context.plan.model_copy(update={"known_before": [known]})

    watches = watching(run, Monitor(every=60, lasts=120, failures=1), Time())

    assert (watches[-1].samples[0].status, watches[-1].verdict and watches[-1].verdict.type) == (P, "")


def test_a_slow_round_shortens_the_next_pause_but_causes_no_rush(
    run: Run, seen: list[Status], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen[:] = [P]
    time, observe = Time(), run.observe

    def slowly(round_name: str, names: Sequence[str]) -> list[Result]:
        time.now += 50
        return observe(round_name, names)

    monkeypatch.setattr(run, "observe", slowly)

    watching(run, Monitor(every=60, lasts=120, failures=3), time)

    assert time.pauses == [10, 10]


@pytest.mark.parametrize(
    "changed", [{"EVERY": "0"}, {"EVERY": "1.5"}, {"EVERY": "-1"}, {"OFTEN": "1"}, {"LASTS": "an hour"}]
)
def test_an_invalid_watch_is_refused_before_it_begins(plan: Plan, changed: dict[str, str]) -> None:
    with pytest.raises(ParametersError, match="MONITOR"):
        decision_matrix.planned(row(plan, "monitor"), changed)


def test_a_watch_may_be_shortened(plan: Plan) -> None:
    assert decision_matrix.planned(row(plan, "monitor"), {"EVERY": "2"}) == Monitor(every=2, lasts=3600, failures=3)


@pytest.mark.parametrize(
    ("symptom", "action", "is_asked_for"),
    [
        ("Performance issues", "monitor", True),
        ("Performance issues", "investigate first", False),
        ("Some media missing", "investigate first", True),
        ("Frontend errors", "monitor", False),
        ("", "monitor", False),
    ],
)
def test_a_longer_look_is_taken_only_where_triage_asked_for_it(
    run: Run, symptom: str, action: str, is_asked_for: bool
) -> None:
    run.journal.append("recommended", type="", reason="seen", symptom=symptom)

    assert (decision_matrix.row_for(run, action) is not None) == is_asked_for


def test_a_verdict_does_not_hide_which_row_it_was_about(run: Run) -> None:
    run.journal.append("recommended", type="", reason="seen", symptom="Performance issues")
    decision_matrix.recommended(run, decision_matrix.Verdict("", "over"))

    found: Any = decision_matrix.row_for(run, "monitor")

    assert found.symptom == "Performance issues"
