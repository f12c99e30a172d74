from typing import Any

import pytest

from runbook_lib.errors import JournalError
from runbook_lib.journal.event import Event
from runbook_lib.journal.state import RunState, replay

OPENED = ("opened", {"type": "full", "option": "A", "target": "here"})
STARTED = ("started", {"step": "stop", "title": "Stop"})
APPLIED = ("applied", {"step": "stop", "seconds": 1.5, "outcome": {"services": 3}})
FAILED = ("failed", {"step": "stop", "error": "no answer"})


def after(*history: tuple[str, dict[str, Any]]) -> RunState:
    return replay(Event(n, "2025-11-03T12:00:00+00:00", kind, data, "", "") for n, (kind, data) in enumerate(history, 1))


@pytest.mark.parametrize(
    ("history", "status", "done"),
    [
        ([], "pending", False),
        ([STARTED], "started", False),
        ([STARTED, APPLIED], "done", True),
        ([STARTED, FAILED], "failed", False),
        ([STARTED, FAILED, STARTED], "started", False),
        ([STARTED, FAILED, STARTED, APPLIED], "done", True),
        ([STARTED, APPLIED, FAILED], "failed", False),
        ([("found", {"step": "stop", "title": "Stop", "outcome": {}})], "found done", True),
        ([STARTED, APPLIED, STARTED, ("undone", {"step": "stop", "seconds": 1, "outcome": {}})], "undone", False),
    ],
)
def test_a_step_is_what_was_last_said_of_it(history: list[tuple[str, dict[str, Any]]], status: str, done: bool) -> None:
    step = after(OPENED, *history).step("stop")
    assert (step.status, step.is_done) == (status, done)


def test_a_step_that_succeeds_at_last_keeps_no_error() -> None:
    step = after(OPENED, STARTED, FAILED, APPLIED).step("stop")
    assert (step.error, step.seconds, step.outcome) == ("", 1.5, {"services": 3})


def test_the_latest_result_of_a_check_in_a_round_counts() -> None:
    first = {"name": "api", "round": "after", "status": "FAIL"}
    state = after(
        OPENED, ("checked", first), ("checked", first | {"status": "PASS"}), ("checked", first | {"round": "before"})
    )
    assert [state.checks[round]["api"]["status"] for round in ("after", "before")] == ["PASS", "FAIL"]


def test_a_choice_of_the_type_changes_the_type() -> None:
    assert after(OPENED, ("chosen", {"name": "TYPE", "value": "frontend", "by": "operator"})).type == "frontend"


def test_an_escalation_changes_the_type_and_keeps_the_steps() -> None:
    state = after(OPENED, STARTED, APPLIED, ("escalated", {"from": "full", "to": "restore", "because": "not enough"}))
    assert (state.type, state.step("stop").is_done) == ("restore", True)


def test_what_was_begun_before_an_escalation_is_not_begun_since() -> None:
    escalated = ("escalated", {"from": "full", "to": "restore", "because": "not enough"})
    other = ("found", {"step": "start", "title": "Start", "outcome": {}})

    assert after(OPENED, STARTED, APPLIED, escalated).begun_since == ()
    assert after(OPENED, STARTED, APPLIED, escalated, other, STARTED, other).begun_since == ("start", "stop")


def test_the_latest_approval_counts() -> None:
    state = after(OPENED, ("approved", {"digest": "1", "by": "a"}), ("approved", {"digest": "2", "by": "b"}))
    assert (state.approved, state.approved_by) == ("2", "b")


def test_evidence_of_the_same_file_is_kept_once() -> None:
    first = {"title": "old", "file": "evidence/x.json", "kind": "table"}
    assert after(OPENED, ("evidence", first), ("evidence", first | {"title": "new"})).evidence == (first | {"title": "new"},)


def test_a_run_without_an_outcome_has_none() -> None:
    assert after(OPENED, STARTED, APPLIED).outcome is None


def test_an_unknown_kind_of_event_changes_nothing() -> None:
    assert after(OPENED, ("something-new", {"x": 1})) == after(OPENED)


@pytest.mark.parametrize("history", [[], [STARTED]], ids=["empty", "begins in the middle"])
def test_a_journal_that_opens_no_run_is_an_error(history: list[tuple[str, dict[str, Any]]]) -> None:
    with pytest.raises(JournalError, match="opening"):
        after(*history)


def test_the_preview_seen_last_comes_last() -> None:
    first, second = (("previewed", {"digest": digest, "steps": {}}) for digest in ("one", "two"))

    assert list(after(OPENED, first, second, first).previews) == ["two", "one"]


# --- what is failing


def acted(action: str, step: str = "back-up") -> tuple[str, dict[str, Any]]:
    return "started", {"step": step, "title": "t", "action": action}


FULL = ("failed", {"step": "back-up", "error": "It is full."})
DONE = ("applied", {"step": "back-up", "seconds": 1, "outcome": {}})
UNDONE = ("undone", {"step": "back-up", "seconds": 1, "outcome": {}})
REFUSED = ("refused", {"step": "back-up", "action": "apply", "error": "It is locked."})


@pytest.mark.parametrize(
    ("events", "failing"),
    [
        pytest.param([acted("apply"), FULL], {("apply", "back-up"): "It is full."}, id="failed"),
        pytest.param([acted("undo"), FULL], {("undo", "back-up"): "It is full."}, id="an undo failed"),
        pytest.param([REFUSED], {("apply", "back-up"): "It is locked."}, id="refused"),
        pytest.param([acted("apply"), FULL, acted("apply"), DONE], {}, id="done since"),
        pytest.param([REFUSED, ("found", {"step": "back-up", "title": "t", "outcome": {}})], {}, id="found done since"),
        pytest.param(
            [acted("apply"), FULL, acted("undo"), UNDONE], {("apply", "back-up"): "It is full."}, id="undone, not repaired"
        ),
        pytest.param([acted("apply"), (FULL[0], {**FULL[1], "on_request": True})], {}, id="aborted by a person"),
        pytest.param([acted("apply")], {}, id="killed"),
        pytest.param(
            [("started", {"step": "back-up", "title": "t"}), FULL], {("apply", "back-up"): "It is full."}, id="older version"
        ),
    ],
)
def test_what_failed_when_it_was_tried_last(events: list[tuple[str, dict[str, Any]]], failing: dict[Any, str]) -> None:
    assert after(OPENED, *events).failing == failing


def test_a_run_is_undone_once_a_whole_undo_has_undone_its_last_step() -> None:
    whole = ("undo-approved", {"digest": "u", "steps": ["back-up"], "whole": True, "by": ""})
    one = ("undo-approved", {**whole[1], "whole": False})
    begun = [acted("apply"), DONE]

    assert after(OPENED, *begun, whole, acted("undo"), UNDONE).is_undone
    assert not after(OPENED, *begun, one, acted("undo"), UNDONE).is_undone
    assert not after(OPENED, *begun, acted("apply", "freeze"), whole, acted("undo"), UNDONE).is_undone
    assert not after(OPENED, *begun, whole, acted("undo"), UNDONE, acted("apply")).is_undone
