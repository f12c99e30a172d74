"""The step loop, on a step whose effect is a word in memory."""

import signal
from collections.abc import Callable
from typing import Any

import pytest

from runbook_lib import loop
from runbook_lib import run as run_module
from runbook_lib.approval import bound
from runbook_lib.errors import AdapterError, Declined, PreconditionError, RunbookError, StepFailed, UnknownOutcome
from runbook_lib.folder import RunFolder
from runbook_lib.results import Result, Status
from runbook_lib.run import Run
from runbook_lib.steps.base import Effect, Facts, Preview, Probe, Step

FIRST, SECOND = "revert-frontend", "build-frontend"
BROKEN = AdapterError("The tool broke.", where="the tool", state="Half of it is there.", safe_next="Mend it.")


class Tiny(Step):
    """A step that writes down what is asked of it."""

    def __init__(self, name: str, run: Run) -> None:
        super().__init__(name, run.context)
        self.effect = Effect.NOT_DONE
        self.facts = {"database": "d"}
        self.needs: list[Result] = []
        self.found = Status.PASS
        self.action: Callable[[], Any] = lambda: None
        self.calls: list[str] = []

    def preview(self) -> Preview:
        return Preview(self.name, self.title, would=["do it"], facts=self.facts)

    def probe(self) -> Probe:
        self.calls.append("probe")
        return Probe(self.effect, "looked")

    def preconditions(self) -> list[Result]:
        return self.needs

    def apply(self) -> Facts:
        self.calls.append("apply")
        self.action()
        self.effect = Effect.DONE
        return {"rows": 3}

    def verify(self) -> list[Result]:
        self.calls.append("verify")
        return [self.result("there", "It is there", self.found, "seen")]

    def undo(self) -> Facts:
        self.calls.append("undo")
        left = dict(self.context.outcomes.get(self.name, {}))
        self.action()
        self.effect = Effect.NOT_DONE
        return {"put back": left.get("rows")}


@pytest.fixture
def steps(run: Run, monkeypatch: pytest.MonkeyPatch) -> dict[str, Tiny]:
    made = {name: Tiny(name, run) for name in (FIRST, SECOND)}
    monkeypatch.setattr(run_module, "steps_of", lambda context: made)
    run.journal.append("chosen", name="TYPE", value="frontend", by="parameter")
    run.refresh()
    return made


@pytest.fixture
def step(steps: dict[str, Tiny]) -> Tiny:
    return steps[FIRST]


@pytest.fixture
def approved(run: Run, steps: dict[str, Tiny]) -> Run:
    digest, _ = run.previews()
    run.approve(digest, "Dana")
    return run


def told(run: Run, name: str = FIRST) -> list[str]:
    """What the journal says of a step."""
    return [event.kind for event in run.journal.events() if event.data.get("step") == name]


def raising(error: BaseException) -> Callable[[], None]:
    def action() -> None:
        raise error

    return action


def result(status: Status) -> Result:
    return Result("needed", "What is needed", status, "seen")


# --- probe


def test_what_is_done_is_found_and_left_alone(approved: Run, step: Tiny) -> None:
    step.effect = Effect.DONE

    done = loop.apply(approved, FIRST)

    assert (done.how, step.calls, told(approved)) == ("already done: looked", ["probe", "verify"], ["found"])


def test_what_is_found_done_needs_no_approval(run: Run, step: Tiny) -> None:
    step.effect = Effect.DONE

    assert loop.apply(run, FIRST).how == "already done: looked"


def test_a_step_that_cannot_be_told_is_not_begun(approved: Run, step: Tiny) -> None:
    step.effect = Effect.UNKNOWN

    with pytest.raises(UnknownOutcome, match="cannot be told: looked"):
        loop.apply(approved, FIRST)

    assert (step.calls, told(approved)) == (["probe"], [])


def test_a_step_that_cannot_be_probed_is_not_begun(approved: Run, step: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(step, "probe", raising(BROKEN))

    with pytest.raises(RunbookError, match="The tool broke"):
        loop.apply(approved, FIRST)

    assert (step.calls, told(approved)) == ([], [])


@pytest.mark.parametrize(
    ("effect", "calls", "status"),
    [
        (Effect.DONE, ["probe", "verify"], "found done"),
        (Effect.NOT_DONE, ["probe", "apply", "verify"], "done"),
        (Effect.HALF_DONE, ["probe", "apply", "verify"], "done"),
    ],
)
def test_a_step_begun_without_an_outcome_is_probed_first(
    approved: Run, step: Tiny, effect: Effect, calls: list[str], status: str
) -> None:
    approved.journal.append("started", step=FIRST, title=step.title)
    step.effect = effect

    loop.apply(approved, FIRST)

    assert (step.calls, approved.state.step(FIRST).status) == (calls, status)


def test_a_step_begun_without_an_outcome_that_cannot_be_told_stays_unknown(approved: Run, step: Tiny) -> None:
    approved.journal.append("started", step=FIRST, title=step.title)
    step.effect = Effect.UNKNOWN

    with pytest.raises(UnknownOutcome):
        loop.apply(approved, FIRST)

    assert (step.calls, approved.state.step(FIRST).status) == (["probe"], "started")


# --- approval and preconditions


def test_without_an_approval_nothing_is_applied(run: Run, step: Tiny) -> None:
    run.previews()

    with pytest.raises(Declined, match="has no approval"):
        loop.apply(run, FIRST)

    assert (step.calls, told(run)) == (["probe"], [])


def test_what_has_drifted_since_the_preview_is_not_approved(run: Run, step: Tiny) -> None:
    digest, _ = run.previews()
    step.facts = {"database": "another"}

    with pytest.raises(Declined, match="has drifted: database was 'd', is 'another'"):
        run.approve(digest, "Dana")

    assert run.state.approved == ""


def test_only_the_digest_of_a_preview_can_be_approved(run: Run, step: Tiny) -> None:
    run.previews()

    with pytest.raises(Declined, match="No preview of this run has the digest"):
        run.approve("0000", "Dana")


def test_what_has_drifted_since_the_approval_is_not_applied(approved: Run, step: Tiny) -> None:
    step.facts = {"database": "another"}

    with pytest.raises(PreconditionError, match="has drifted: database was 'd', is 'another'"):
        loop.apply(approved, FIRST)

    assert (step.calls, told(approved)) == (["probe"], [])


def test_a_half_done_step_goes_on_though_its_own_work_shows_in_the_preview(approved: Run, step: Tiny) -> None:
    step.effect, step.facts = Effect.HALF_DONE, {"database": "another"}

    assert loop.apply(approved, FIRST).how == "gone on with and done"


@pytest.mark.parametrize(("status", "error"), [(Status.FAIL, PreconditionError), (Status.UNKNOWN, UnknownOutcome)], ids=str)
def test_a_precondition_that_is_not_positively_verified_stops(
    approved: Run, step: Tiny, status: Status, error: type[RunbookError]
) -> None:
    step.needs = [result(Status.PASS), result(status)]

    with pytest.raises(error, match="Not positively verified"):
        loop.apply(approved, FIRST)

    assert (step.calls, told(approved)) == (["probe"], [])


def test_what_was_looked_at_before_a_step_is_no_proof_of_what_it_did(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    step = Tiny("clear-backfill", run)
    step.needs, step.action = [result(Status.PASS)], raising(BROKEN)
    monkeypatch.setattr(run_module, "steps_of", lambda context: {step.name: step})
    run.journal.append("previewed", digest="d1", steps=bound([step.preview()]), shown=[])
    run.journal.append("approved", digest="d1", by="Dana")
    run.journal.append("found", step="stop-services", title="Stop the services", outcome={"found": "stopped"})
    with pytest.raises(StepFailed):
        loop.apply(run, step.name)

    (found,) = run.observe("after", ["only-intended-rows"])

    assert (found.status, found.summary) == (Status.UNKNOWN, "no proof was made in this run")


def test_a_step_of_another_type_is_declined(approved: Run) -> None:
    with pytest.raises(Declined, match="has no step 'stop-services'"):
        loop.apply(approved, "stop-services")


def test_a_step_that_would_leave_a_running_service_outside_the_table_is_refused(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = Tiny("clear-backfill", run)
    monkeypatch.setattr(run_module, "steps_of", lambda context: {step.name: step})
    run.journal.append("previewed", digest="d1", steps=bound([step.preview()]), shown=[])
    run.journal.append("approved", digest="d1", by="Dana")

    with pytest.raises(PreconditionError, match=r"refused by the plan's compatibility table: .*feature's code.*data from"):
        loop.apply(run, step.name)

    assert (step.calls, told(run, step.name)) == (["probe"], [])


def test_an_undo_that_would_leave_a_running_service_outside_the_table_is_refused(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = {name: Tiny(name, run) for name in ("stop-services", "clear-backfill")}
    monkeypatch.setattr(run_module, "steps_of", lambda context: made)
    for name in made:
        run.journal.append("started", step=name, title=name)
        run.journal.append("applied", step=name, seconds=0.1, outcome={})

    with pytest.raises(PreconditionError, match=r"Undoing .* is refused by the plan's compatibility table"):
        loop.undo(run, "stop-services")

    assert made["stop-services"].calls == []


# --- the record


def test_the_start_is_on_record_before_the_step_is_applied(approved: Run, step: Tiny) -> None:
    seen: list[list[str]] = []
    step.action = lambda: seen.append(told(approved))

    done = loop.apply(approved, FIRST)

    assert (seen, told(approved)) == ([["started"]], ["started", "applied"])
    assert (done.how, done.outcome, approved.context.outcomes[FIRST]) == ("done", {"rows": 3}, {"rows": 3})


@pytest.mark.parametrize("error", [BROKEN, OSError("disk full")], ids=["of the runbook", "of the system"])
def test_an_error_is_on_record_and_told_with_state_and_remedy(approved: Run, step: Tiny, error: Exception) -> None:
    step.action = raising(error)

    with pytest.raises(StepFailed) as failed:
        loop.apply(approved, FIRST)

    assert (told(approved), approved.state.step(FIRST).status) == (["started", "failed"], "failed")
    assert all((failed.value.what, failed.value.where, failed.value.state, failed.value.safe_next))


def test_the_state_and_remedy_of_the_error_itself_are_kept(approved: Run, step: Tiny) -> None:
    step.action = raising(BROKEN)

    with pytest.raises(StepFailed, match="The tool broke") as failed:
        loop.apply(approved, FIRST)

    told_so = failed.value
    assert (told_so.where, told_so.state, told_so.safe_next) == ("the tool", "Half of it is there.", "Mend it.")


def test_an_interrupt_is_on_record_and_goes_on(approved: Run, step: Tiny) -> None:
    step.action = raising(KeyboardInterrupt())

    with pytest.raises(KeyboardInterrupt):
        loop.apply(approved, FIRST)

    assert told(approved) == ["started", "failed"]
    assert "KeyboardInterrupt" in approved.state.step(FIRST).error


def test_an_interrupt_reaches_a_step_though_the_kernel_only_takes_note_of_it(approved: Run, step: Tiny) -> None:
    noted: list[int] = []
    step.action = lambda: signal.raise_signal(signal.SIGINT)
    before = signal.signal(signal.SIGINT, lambda number, _: noted.append(number))
    try:
        with pytest.raises(KeyboardInterrupt):
            loop.apply(approved, FIRST)
        signal.raise_signal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)

    assert noted == [signal.SIGINT]  # the kernel's own handler is back


# --- verification


@pytest.mark.parametrize("status", [Status.FAIL, Status.UNKNOWN])
def test_a_step_whose_verification_does_not_pass_stops_the_run(approved: Run, step: Tiny, status: Status) -> None:
    step.found = status

    with pytest.raises(StepFailed, match=f"its verification says: It is there: {status}"):
        loop.apply(approved, FIRST)

    assert (told(approved), approved.state.step(FIRST).is_done) == (["started", "applied", "failed"], False)


def test_what_is_found_done_is_verified_too(approved: Run, step: Tiny) -> None:
    step.effect, step.found = Effect.DONE, Status.FAIL

    with pytest.raises(StepFailed, match="verification"):
        loop.apply(approved, FIRST)

    assert approved.state.step(FIRST).is_done is False


# --- steps that build on one another


def test_a_done_step_is_not_repeated_once_a_later_one_was_begun(approved: Run, steps: dict[str, Tiny]) -> None:
    loop.apply(approved, FIRST)
    loop.apply(approved, SECOND)
    steps[FIRST].effect = Effect.NOT_DONE  # as services that were stopped run again
    steps[FIRST].calls.clear()

    done = loop.apply(approved, FIRST)

    assert ("later steps build on it" in done.how, steps[FIRST].calls) == (True, [])


def test_a_done_step_is_probed_again_as_long_as_no_later_one_was_begun(approved: Run, step: Tiny) -> None:
    loop.apply(approved, FIRST)
    step.effect = Effect.NOT_DONE
    step.calls.clear()

    loop.apply(approved, FIRST)

    assert step.calls == ["probe", "apply", "verify"]


def test_a_done_step_is_probed_again_once_the_later_one_was_undone(approved: Run, steps: dict[str, Tiny]) -> None:
    loop.apply(approved, FIRST)
    loop.apply(approved, SECOND)
    loop.undo(approved, SECOND)
    steps[FIRST].effect = Effect.NOT_DONE
    steps[FIRST].calls.clear()

    loop.apply(approved, FIRST)

    assert steps[FIRST].calls == ["probe", "apply", "verify"]


def test_a_failed_step_is_tried_again_though_a_later_one_was_begun(approved: Run, steps: dict[str, Tiny]) -> None:
    steps[FIRST].action = raising(BROKEN)
    with pytest.raises(StepFailed):
        loop.apply(approved, FIRST)
    loop.apply(approved, SECOND)
    steps[FIRST].action = lambda: None

    assert loop.apply(approved, FIRST).how == "done"


# --- waivers


def test_a_waived_step_that_fails_lets_the_run_go_on_and_is_not_done(approved: Run, step: Tiny) -> None:
    approved.waive(FIRST, "the frontend host is gone")
    step.action = raising(BROKEN)

    done = loop.apply(approved, FIRST)

    assert (done.how, done.results) == ("failed, and waived: the frontend host is gone", [])
    assert (approved.state.step(FIRST).status, approved.state.step(FIRST).is_done) == ("failed", False)


def test_a_waiver_is_no_approval(run: Run, step: Tiny) -> None:
    run.waive(FIRST, "the frontend host is gone")

    with pytest.raises(Declined):
        loop.apply(run, FIRST)


def test_a_waiver_of_one_step_is_none_of_another(approved: Run, steps: dict[str, Tiny]) -> None:
    approved.waive(FIRST, "the frontend host is gone")
    steps[SECOND].action = raising(BROKEN)

    with pytest.raises(StepFailed):
        loop.apply(approved, SECOND)


# --- undo


def test_undo_puts_back_what_the_step_left(approved: Run, step: Tiny) -> None:
    loop.apply(approved, FIRST)

    done = loop.undo(approved, FIRST)

    assert (done.how, done.outcome, step.effect) == ("undone", {"put back": 3}, Effect.NOT_DONE)
    assert (told(approved), approved.state.step(FIRST).status) == (["started", "applied", "started", "undone"], "undone")


def test_what_was_undone_can_be_applied_again(approved: Run) -> None:
    loop.apply(approved, FIRST)
    loop.undo(approved, FIRST)

    assert loop.apply(approved, FIRST).how == "done"


@pytest.mark.parametrize("effect", [Effect.NOT_DONE, Effect.DONE], ids=["never begun", "found done by somebody else"])
def test_what_this_run_did_not_do_is_not_undone(approved: Run, step: Tiny, effect: Effect) -> None:
    step.effect = effect
    if effect is Effect.DONE:
        loop.apply(approved, FIRST)

    with pytest.raises(Declined, match="was not done in this run"):
        loop.undo(approved, FIRST)

    assert "undo" not in step.calls


def test_what_was_undone_is_not_undone_twice(approved: Run, step: Tiny) -> None:
    loop.apply(approved, FIRST)
    loop.undo(approved, FIRST)

    with pytest.raises(Declined):
        loop.undo(approved, FIRST)


def test_an_undo_that_failed_can_be_tried_again_with_what_the_step_left(approved: Run, step: Tiny) -> None:
    loop.apply(approved, FIRST)
    step.action = raising(BROKEN)
    with pytest.raises(StepFailed):
        loop.undo(approved, FIRST)
    step.action = lambda: None

    assert loop.undo(approved, FIRST).outcome == {"put back": 3}


def test_what_this_run_did_can_be_undone_though_only_a_second_look_verified_it(approved: Run, step: Tiny) -> None:
    step.found = Status.UNKNOWN
    with pytest.raises(StepFailed):
        loop.apply(approved, FIRST)
    step.found = Status.PASS
    loop.apply(approved, FIRST)

    assert loop.undo(approved, FIRST).outcome == {"put back": 3}


@pytest.mark.parametrize("effect", [Effect.DONE, Effect.HALF_DONE, Effect.UNKNOWN])
def test_what_a_later_step_stands_on_is_not_undone_before_that(
    approved: Run, step: Tiny, steps: dict[str, Tiny], effect: Effect
) -> None:
    loop.apply(approved, FIRST)
    steps[SECOND].action = raising(BROKEN)
    with pytest.raises(StepFailed):
        loop.apply(approved, SECOND)
    steps[SECOND].effect = effect

    with pytest.raises(Declined, match="cannot be undone while later steps stand") as declined:
        loop.undo(approved, FIRST)

    assert f"({SECOND})" in declined.value.safe_next
    assert "undo" not in step.calls


def test_a_later_step_that_changed_nothing_or_is_undone_is_in_no_ones_way(approved: Run, steps: dict[str, Tiny]) -> None:
    loop.apply(approved, FIRST)
    steps[SECOND].action = raising(BROKEN)
    with pytest.raises(StepFailed):
        loop.apply(approved, SECOND)

    assert loop.undo(approved, FIRST).how == "undone"


def test_what_a_crash_left_done_can_be_undone(approved: Run, step: Tiny) -> None:
    approved.journal.append("started", step=FIRST, title=step.title)
    step.effect = Effect.DONE
    loop.apply(approved, FIRST)

    loop.undo(approved, FIRST)

    assert step.calls[-1] == "undo"


# --- two at once


@pytest.mark.parametrize("act", [loop.apply, loop.undo])
def test_only_one_process_acts_in_a_run(approved: Run, step: Tiny, act: Callable[[Run, str], Any]) -> None:
    with (
        RunFolder.open(approved.folder.path).lock(),
        pytest.raises(PreconditionError, match=r"Another process is acting in this run: pid \d+"),
    ):
        act(approved, FIRST)

    assert (step.calls, told(approved)) == ([], [])


def test_what_another_process_has_done_meanwhile_is_taken_in(approved: Run, step: Tiny) -> None:
    other = Run(RunFolder.open(approved.folder.path), approved.context)
    loop.apply(other, FIRST)
    loop.apply(other, SECOND)
    step.calls.clear()

    loop.apply(approved, FIRST)

    assert step.calls == []
