"""What the engine records and verifies of a step, and what a waiver changes."""

import signal
from collections.abc import Callable
from typing import Any

import pytest

from runbook_lib.errors import Declined, PreconditionError, StepFailed
from runbook_lib.journal.folder import RunFolder
from runbook_lib.results import Status
from runbook_lib.run import Run, engine
from runbook_lib.steps import Effect

from ...support.tiny import BROKEN, FIRST, SECOND, Tiny, kinds_of, raising, result


def test_the_start_is_on_record_before_the_step_is_applied(approved: Run, step: Tiny) -> None:
    seen: list[list[str]] = []
    step.action = lambda: seen.append(kinds_of(approved))

    done = engine.apply(approved, FIRST)

    assert (seen, kinds_of(approved)) == ([["started"]], ["started", "applied"])
    assert (done.how, done.outcome, approved.context.state.step(FIRST).outcome) == ("done", {"rows": 3}, {"rows": 3})


@pytest.mark.parametrize("error", [BROKEN, OSError("disk full")], ids=["of the runbook", "of the system"])
def test_an_error_is_recorded_and_shown_with_state_and_remedy(approved: Run, step: Tiny, error: Exception) -> None:
    step.action = raising(error)

    with pytest.raises(StepFailed) as failed:
        engine.apply(approved, FIRST)

    assert (kinds_of(approved), approved.state.step(FIRST).status) == (["started", "failed"], "failed")
    assert all((failed.value.what, failed.value.where, failed.value.state, failed.value.safe_next))


def test_the_state_and_remedy_of_the_error_itself_are_kept(approved: Run, step: Tiny) -> None:
    step.action = raising(BROKEN)

    with pytest.raises(StepFailed, match="The tool broke") as failed:
        engine.apply(approved, FIRST)

    told_so = failed.value
    assert (told_so.where, told_so.state, told_so.safe_next) == ("the tool", "Half of it is there.", "Mend it.")


def test_an_interrupt_is_recorded_and_propagates(approved: Run, step: Tiny) -> None:
    step.action = raising(KeyboardInterrupt())

    with pytest.raises(KeyboardInterrupt):
        engine.apply(approved, FIRST)

    assert kinds_of(approved) == ["started", "failed"]
    assert "KeyboardInterrupt" in approved.state.step(FIRST).error


def test_an_interrupt_that_the_kernel_only_notes_reaches_a_step(approved: Run, step: Tiny) -> None:
    noted: list[int] = []
    step.action = lambda: signal.raise_signal(signal.SIGINT)
    before = signal.signal(signal.SIGINT, lambda number, _: noted.append(number))
    try:
        with pytest.raises(KeyboardInterrupt):
            engine.apply(approved, FIRST)
        signal.raise_signal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)

    assert noted == [signal.SIGINT]  # the kernel's own handler is back


# --- verification


@pytest.mark.parametrize("status", [Status.FAIL, Status.UNKNOWN])
def test_a_step_whose_verification_does_not_pass_stops_the_run(approved: Run, step: Tiny, status: Status) -> None:
    step.found = status

    with pytest.raises(StepFailed, match=f"its verification found: It is there: {status}"):
        engine.apply(approved, FIRST)

    assert (kinds_of(approved), approved.state.step(FIRST).is_done) == (["started", "applied", "failed"], False)


def test_what_is_found_done_is_verified_too(approved: Run, step: Tiny) -> None:
    step.effect, step.found = Effect.DONE, Status.FAIL

    with pytest.raises(StepFailed, match="verification"):
        engine.apply(approved, FIRST)

    assert approved.state.step(FIRST).is_done is False


# --- steps that build on one another


def test_a_done_step_is_not_repeated_once_a_later_one_was_begun(approved: Run, steps: dict[str, Tiny]) -> None:
    engine.apply(approved, FIRST)
    engine.apply(approved, SECOND)
    steps[FIRST].effect = Effect.NOT_DONE  # as services that were stopped run again
    steps[FIRST].calls.clear()

    done = engine.apply(approved, FIRST)

    assert ("later steps build on it" in done.how, steps[FIRST].calls) == (True, [])


def test_a_done_step_is_probed_again_as_long_as_no_later_one_was_begun(approved: Run, step: Tiny) -> None:
    engine.apply(approved, FIRST)
    step.effect = Effect.NOT_DONE
    step.calls.clear()

    engine.apply(approved, FIRST)

    assert step.calls == ["probe", "apply", "verify"]


def test_a_done_step_is_probed_again_once_the_later_one_was_undone(approved: Run, steps: dict[str, Tiny]) -> None:
    engine.apply(approved, FIRST)
    engine.apply(approved, SECOND)
    engine.undo(approved, SECOND)
    steps[FIRST].effect = Effect.NOT_DONE
    steps[FIRST].calls.clear()

    engine.apply(approved, FIRST)

    assert steps[FIRST].calls == ["probe", "apply", "verify"]


def test_a_failed_step_is_tried_again_though_a_later_one_was_begun(approved: Run, steps: dict[str, Tiny]) -> None:
    steps[FIRST].action = raising(BROKEN)
    with pytest.raises(StepFailed):
        engine.apply(approved, FIRST)
    engine.apply(approved, SECOND)
    steps[FIRST].action = lambda: None

    assert engine.apply(approved, FIRST).how == "done"


# --- waivers


def test_a_waived_step_that_fails_lets_the_run_continue_and_is_not_done(approved: Run, step: Tiny) -> None:
    approved.waive(FIRST, "the frontend host is gone")
    step.action = raising(BROKEN)

    done = engine.apply(approved, FIRST)

    assert (done.how, done.results) == ("failed, and waived: the frontend host is gone", [])
    assert (approved.state.step(FIRST).status, approved.state.step(FIRST).is_done) == ("failed", False)


def test_a_waiver_is_no_approval(run: Run, step: Tiny) -> None:
    run.waive(FIRST, "the frontend host is gone")

    with pytest.raises(Declined):
        engine.apply(run, FIRST)


def test_a_waiver_of_one_step_is_none_of_another(approved: Run, steps: dict[str, Tiny]) -> None:
    approved.waive(FIRST, "the frontend host is gone")
    steps[SECOND].action = raising(BROKEN)

    with pytest.raises(StepFailed):
        engine.apply(approved, SECOND)


# --- two at once


@pytest.mark.parametrize("act", [engine.apply, engine.undo])
def test_only_one_process_acts_in_a_run(approved: Run, step: Tiny, act: Callable[[Run, str], Any]) -> None:
    with (
        RunFolder.open(approved.folder.path).lock(),
        pytest.raises(PreconditionError, match=r"Another process is acting in this run: pid \d+"),
    ):
        act(approved, FIRST)

    assert (step.calls, kinds_of(approved)) == ([], [])


def test_what_another_process_has_done_meanwhile_is_taken_in(approved: Run, step: Tiny) -> None:
    other = Run(RunFolder.open(approved.folder.path), approved.context)
    engine.apply(other, FIRST)
    engine.apply(other, SECOND)
    step.calls.clear()

    engine.apply(approved, FIRST)

    assert step.calls == []


# --- what a recovery path must not repeat


@pytest.mark.parametrize(
    ("error", "failing"),
    [
        (BROKEN, {("apply", FIRST)}),
        (Declined("It was aborted."), set()),
        (KeyboardInterrupt(), set()),
    ],
    ids=["failed", "aborted by a person", "interrupted"],
)
def test_what_failed_is_failing_and_what_a_person_ended_is_not(
    approved: Run, step: Tiny, error: BaseException, failing: set[tuple[str, str]]
) -> None:
    step.action = raising(error)

    with pytest.raises((StepFailed, KeyboardInterrupt)):
        engine.apply(approved, FIRST)

    assert approved.state.failing.keys() == failing


def test_a_failed_undo_and_a_refused_step_are_failing_until_they_succeed(approved: Run, step: Tiny) -> None:
    step.wanted = [result(Status.FAIL)]
    with pytest.raises(PreconditionError):
        engine.apply(approved, FIRST)
    assert approved.state.failing.keys() == {("apply", FIRST)}
    step.wanted = []
    engine.apply(approved, FIRST)
    step.action = raising(BROKEN)
    with pytest.raises(StepFailed):
        engine.undo(approved, FIRST)

    assert approved.state.failing.keys() == {("undo", FIRST)}
