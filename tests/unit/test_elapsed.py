"""Elapsed time where the clock is set while a run is under way."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runbook_lib.journal import Journal, elapsed
from runbook_lib.journal.event import Event, clock
from runbook_lib.report.facts import Duration

BEGAN = datetime(2026, 1, 1, 12, tzinfo=UTC)


def event(seq: int, after: float, kind: str = "noted", **data: Any) -> Event:
    return Event(seq, (BEGAN + timedelta(seconds=after)).isoformat(), kind, data, "", "")


@given(st.lists(st.tuples(st.floats(0, 5000), st.floats(-90_000, 90_000)), min_size=2, max_size=20))
def test_the_true_duration_is_reported_however_the_clock_is_set(moves: list[tuple[float, float]]) -> None:
    events, true, ahead = [event(0, 0)], 0.0, 0.0
    for passed, jump in moves:
        true, ahead = true + passed, ahead + jump
        events.append(event(len(events), true + ahead, elapsed.CHANGED, seconds=jump))
        events.append(event(len(events), true + ahead))

    steady = elapsed.steady(events)

    assert elapsed.seconds(steady, steady[0], steady[-1]) == pytest.approx(true, abs=0.01)
    now = elapsed.steady_now(events, BEGAN + timedelta(seconds=true + ahead + 7))
    assert elapsed.seconds(steady, steady[0], now) == pytest.approx(true + 7, abs=0.01)


@pytest.mark.parametrize("after", [-10_000, 20_000], ids=["ends before it began", "went back in between"])
def test_a_step_back_that_no_record_explains_is_not_known(after: float) -> None:
    events = [event(0, 0), event(1, 300), event(2, -10_500), event(3, after)]

    assert elapsed.seconds(events, events[0], events[3]) is None
    assert clock(None) == "not known: the clock was set back"
    assert str(Duration(None, 600)) == "not known: the clock was set back"


def test_a_change_of_the_clock_is_journaled_before_the_next_event_and_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal(tmp_path / "journal.jsonl")
    journal.append("opened", type="full", option="A", clock=elapsed.here())
    journal.append("noted", text="before")
    real = elapsed.time.time
    monkeypatch.setattr(elapsed.time, "time", lambda: real() - 10_800)

    present = elapsed.present(journal.events())  # the change is not on record yet
    journal.append("noted", text="after")
    journal.append("noted", text="later")

    events = journal.events()
    assert [e.kind for e in events] == ["opened", "noted", "clock-changed", "noted", "noted"]
    assert events[2].data["seconds"] == pytest.approx(-10_800, abs=1)
    assert events[2].text.startswith("the clock was set back by 3 h 00 min")
    for now in (present, elapsed.present(events)):
        assert abs((now - events[1].time).total_seconds()) < 60


def test_another_machine_is_no_change_of_the_clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(tmp_path / "journal.jsonl")
    journal.append("opened", type="full", option="A", clock={**elapsed.here(), "boot": "another", "ahead": 0})

    journal.append("noted", text="here")

    changed = journal.events()[1]
    assert (changed.kind, changed.data["seconds"]) == ("clock-changed", None)
    assert changed.text == "the run continues on another clock"
