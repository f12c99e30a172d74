"""The remaining time by earlier runs, and the progress of a run in time."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from runbook_lib.config.plan import Plan
from runbook_lib.journal.event import Event
from runbook_lib.journal.past import Past, past, read
from runbook_lib.journal.state import replay
from runbook_lib.ui import estimates
from runbook_lib.ui.estimates import estimate

KEY = ("F", "full", "A")
BEGIN = datetime(2025, 11, 3, 12, 0, tzinfo=UTC)


def runs(*seconds: float, rows: int = 100) -> list[Past]:
    return [Past(KEY, {"stop": 10.0, "clear": one}, rows) for one in seconds]


def events(*journal: tuple[float, str, dict[str, Any]]) -> list[Event]:
    opened = {
        "plan": "F", "type": "full", "option": "A", "operator": "Dana", "incident": "", "reason": "", "target": "t",
        "environment": "rehearsal",
    }  # fmt: skip
    return [
        Event(n, (BEGIN + timedelta(seconds=at)).isoformat(), kind, data, "", "")
        for n, (at, kind, data) in enumerate([(0.0, "opened", opened), *journal], 1)
    ]


def test_four_runs_give_no_estimate() -> None:
    assert estimate(runs(1, 2, 3, 4), KEY, {"clear": True}, 100) is None


def test_five_runs_give_a_median_and_a_p90() -> None:
    found = estimate(runs(1, 2, 3, 4, 50), KEY, {"clear": True}, 100)

    assert found is not None
    assert (found.median, found.p90, found.runs, list(found.errors)) == (3, 50, 5, [])


def test_runs_of_another_type_or_option_do_not_count() -> None:
    others = [Past(("F", "full", "B"), run.steps, run.rows) for run in runs(1, 2, 3)]

    assert estimate([*runs(1, 2), *others], KEY, {"clear": True}, 100) is None


def test_only_what_grows_with_the_rows_is_scaled() -> None:
    found = estimate(runs(2, 2, 2, 2, 2), KEY, {"stop": False, "clear": True}, 1000)

    assert found is not None
    assert found.median == 10 + 20


def test_the_time_of_the_present_step_is_subtracted_and_never_below_zero() -> None:
    known = runs(2, 2, 2, 2, 2)

    assert [getattr(estimate(known, KEY, {"clear": True}, 100, spent), "median", None) for spent in (1.5, 9)] == [0.5, 0]


def test_the_errors_of_the_estimate_are_shown_once_it_could_be_tested() -> None:
    found = estimate(runs(10, 10, 10, 10, 10, 20), KEY, {"clear": True}, 100)

    assert found is not None
    assert sorted(found.errors) == [0, 0, 0, 0, 0, 0.5]
    assert "50% at worst" in str(found)


@pytest.mark.parametrize(
    ("last", "teaches"),
    [({"status": "verified"}, True), ({"status": "failed"}, False)],
)
def test_only_a_verified_run_teaches(last: dict[str, Any], teaches: bool) -> None:
    journal = [
        {"kind": "opened", "data": {"plan": "F", "type": "", "option": "A"}},
        {"kind": "chosen", "data": {"name": "TYPE", "value": "full"}},
        {"kind": "previewed", "data": {"steps": {"clear": {"volumes": {"rows": 7}}, "stop": {}}}},
        {"kind": "applied", "data": {"step": "clear", "seconds": 3.5}},
        {"kind": "outcome", "data": last},
    ]

    assert past(journal) == (Past(KEY, {"clear": 3.5}, 7) if teaches else None)


def test_a_broken_journal_of_another_run_teaches_nothing_and_stops_nothing(tmp_path: Any) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "journal.jsonl").write_text('{"kind": "opened"}\nhalf a li')

    assert read(tmp_path) == []


def test_the_time_that_people_take_is_counted_apart_and_once() -> None:
    journal = events(
        (1, "cell-ended", {}), (11, "cell-started", {}), (12, "asked", {}), (15, "answered", {}), (16, "asked", {})
    )

    assert estimates.waited(journal, BEGIN + timedelta(seconds=18)) == 10 + 3 + 2


def test_nobody_is_waited_for_after_the_outcome() -> None:
    journal = events((1, "outcome", {"status": "verified"}), (2, "cell-ended", {}))

    assert estimates.waited(journal, BEGIN + timedelta(hours=9)) == 0


def test_an_outcome_before_a_later_step_ends_neither_clock_nor_waiting(plan: Plan) -> None:
    step = {"step": plan.steps_of("full", "A")[0], "title": "Freeze"}
    journal = events(
        (0, "started", step), (1, "outcome", {"status": "service-back"}), (10, "started", step), (20, "asked", {})
    )

    assert estimates.waited(journal, BEGIN + timedelta(seconds=25)) == 5
    assert (
        "elapsed 25 s since the first step"
        in estimates.lines(plan, replay(journal), journal, [], BEGIN + timedelta(seconds=25))[0]
    )


def test_the_clock_names_the_step_the_budget_and_what_remains(plan: Plan) -> None:
    first = plan.steps_of("full", "A")[0]
    journal = events((5, "started", {"step": first, "title": "Freeze"}))

    shown = estimates.lines(plan, replay(journal), journal, [], BEGIN + timedelta(seconds=705))

    assert f"step 1 of {len(plan.steps_of('full', 'A'))}: {plan.steps[first].title}" in shown[0]
    assert "elapsed 11 min 40 s since the first step, OVER the budget of 10 min" in shown[0]
    assert "no estimate" in shown[2]


def test_before_five_runs_the_newest_of_this_size_says_what_remains(plan: Plan) -> None:
    names = plan.steps_of("full", "A")
    journal = events((5, "started", {"step": names[0], "title": "Freeze"}))
    last = Past(("F", "full", "A"), dict.fromkeys(names, 2.0))

    shown = estimates.lines(plan, replay(journal), journal, [last], BEGIN + timedelta(seconds=6))

    assert f"{2 * len(names) - 1} s, as in the last run or rehearsal of this size" in shown[2]
