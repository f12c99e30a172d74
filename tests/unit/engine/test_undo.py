"""The undo of a step."""

import pytest

from runbook_lib.errors import Declined, StepFailed
from runbook_lib.results import Status
from runbook_lib.run import Run, engine
from runbook_lib.steps import Effect

from ...support.tiny import BROKEN, FIRST, SECOND, Tiny, kinds_of, raising


def test_undo_puts_back_what_the_step_left(approved: Run, step: Tiny) -> None:
    engine.apply(approved, FIRST)

    done = engine.undo(approved, FIRST)

    assert (done.how, done.outcome, step.effect) == ("undone", {"put back": 3}, Effect.NOT_DONE)
    assert (kinds_of(approved), approved.state.step(FIRST).status) == (["started", "applied", "started", "undone"], "undone")


def test_what_was_undone_can_be_applied_again(approved: Run) -> None:
    engine.apply(approved, FIRST)
    engine.undo(approved, FIRST)

    assert engine.apply(approved, FIRST).how == "done"


@pytest.mark.parametrize("effect", [Effect.NOT_DONE, Effect.DONE], ids=["never begun", "found done by somebody else"])
def test_what_this_run_did_not_do_is_not_undone(approved: Run, step: Tiny, effect: Effect) -> None:
    step.effect = effect
    if effect is Effect.DONE:
        engine.apply(approved, FIRST)

    with pytest.raises(Declined, match="was not done in this run"):
        engine.undo(approved, FIRST)

    assert "undo" not in step.calls


def test_what_was_undone_is_not_undone_twice(approved: Run, step: Tiny) -> None:
    engine.apply(approved, FIRST)
    engine.undo(approved, FIRST)

    with pytest.raises(Declined):
        engine.undo(approved, FIRST)


def test_an_undo_that_failed_can_be_tried_again_with_what_the_step_left(approved: Run, step: Tiny) -> None:
    engine.apply(approved, FIRST)
    step.action = raising(BROKEN)
    with pytest.raises(StepFailed):
        engine.undo(approved, FIRST)
    step.action = lambda: None

    assert engine.undo(approved, FIRST).outcome == {"put back": 3}


def test_what_this_run_did_can_be_undone_though_verified_only_later(approved: Run, step: Tiny) -> None:
    step.found = Status.UNKNOWN
    with pytest.raises(StepFailed):
        engine.apply(approved, FIRST)
    step.found = Status.PASS
    engine.apply(approved, FIRST)

    assert engine.undo(approved, FIRST).outcome == {"put back": 3}


@pytest.mark.parametrize("effect", [Effect.DONE, Effect.HALF_DONE, Effect.UNKNOWN])
def test_a_step_that_a_later_one_needs_is_not_undone_before_that(
    approved: Run, step: Tiny, steps: dict[str, Tiny], effect: Effect
) -> None:
    engine.apply(approved, FIRST)
    steps[SECOND].action = raising(BROKEN)
    with pytest.raises(StepFailed):
        engine.apply(approved, SECOND)
    steps[SECOND].effect = effect

    with pytest.raises(Declined, match="cannot be undone while later steps depend") as declined:
        engine.undo(approved, FIRST)

    assert f"({SECOND})" in declined.value.safe_next
    assert "undo" not in step.calls


def test_a_later_step_that_changed_nothing_or_is_undone_is_in_no_ones_way(approved: Run, steps: dict[str, Tiny]) -> None:
    engine.apply(approved, FIRST)
    steps[SECOND].action = raising(BROKEN)
    with pytest.raises(StepFailed):
        engine.apply(approved, SECOND)

    assert engine.undo(approved, FIRST).how == "undone"


def test_what_a_crash_left_done_can_be_undone(approved: Run, step: Tiny) -> None:
    approved.journal.append("started", step=FIRST, title=step.title)
    step.effect = Effect.DONE
    engine.apply(approved, FIRST)

    engine.undo(approved, FIRST)

    assert step.calls[-1] == "undo"
