"""What steps make ready before the first of them, while users are still served."""

import pytest

from runbook_lib.errors import PreconditionError
from runbook_lib.run import Run, engine
from runbook_lib.steps import Effect

from ...support.tiny import FIRST, SECOND, Tiny, kinds_of


class Ready(Tiny):
    """A step that makes something ready."""

    def make_ready(self) -> None:
        self.calls.append("make ready")


@pytest.fixture
def second(steps: dict[str, Tiny], run: Run) -> Ready:
    ready = Ready(SECOND, run)
    steps[SECOND] = ready
    return ready


def test_a_later_step_makes_ready_before_the_first_is_begun_and_once(second: Ready, step: Tiny, approved: Run) -> None:
    before: list[list[str]] = []
    step.action = lambda: before.append(list(second.calls))

    engine.apply(approved, FIRST)
    step.effect = Effect.NOT_DONE
    engine.apply(approved, FIRST)
    engine.apply(approved, SECOND)

    assert before[0] == ["make ready"]
    assert second.calls.count("make ready") == 1


def test_what_has_drifted_by_then_stops_before_the_first_step(second: Ready, approved: Run) -> None:
    second.facts = {"database": "another"}

    with pytest.raises(PreconditionError, match=f"“{second.title}” has drifted since its approval: database"):
        engine.apply(approved, FIRST)

    assert (second.calls, kinds_of(approved)) == ([], [])


@pytest.mark.parametrize("process", ["the same", "another"])
def test_what_was_made_ready_is_compared_once_by_each_process(second: Ready, approved: Run, process: str) -> None:
    engine.apply(approved, FIRST)
    second.facts = {"database": "another"}
    run = approved if process == "the same" else Run(approved.folder, approved.context)

    if process == "the same":
        engine.apply(run, SECOND)
        second.effect = Effect.NOT_DONE
    with pytest.raises(PreconditionError, match="has drifted"):
        engine.apply(run, SECOND)


def test_what_cannot_be_made_ready_stops_before_the_first_step(
    second: Ready, approved: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full() -> None:
        raise PreconditionError("The disk is full.", where="here", state="Nothing was touched.", safe_next="Make room.")

    monkeypatch.setattr(second, "make_ready", full)
    with pytest.raises(PreconditionError, match="disk is full"):
        engine.apply(approved, FIRST)

    assert (kinds_of(approved), kinds_of(approved, SECOND)) == ([], ["refused"])
