"""What the engine looks at before it applies a step: the probe, the approval and the preconditions."""

import pytest

from runbook_lib import run as run_module
from runbook_lib.errors import Declined, PreconditionError, RunbookError, StepFailed, UnknownOutcome
from runbook_lib.results import Status
from runbook_lib.run import Run, engine
from runbook_lib.run.approval import bound
from runbook_lib.steps import Effect

from ...support.tiny import BROKEN, FIRST, Tiny, kinds_of, raising, result


def test_what_is_done_is_found_and_left_alone(approved: Run, step: Tiny) -> None:
    step.effect = Effect.DONE

    done = engine.apply(approved, FIRST)

    assert (done.how, step.calls, kinds_of(approved)) == ("already done: looked", ["probe", "verify"], ["found"])


def test_what_is_found_done_needs_no_approval(run: Run, step: Tiny) -> None:
    step.effect = Effect.DONE

    assert engine.apply(run, FIRST).how == "already done: looked"


def test_a_step_whose_state_is_unknown_is_not_begun(approved: Run, step: Tiny) -> None:
    step.effect = Effect.UNKNOWN

    with pytest.raises(UnknownOutcome, match="is unknown: looked"):
        engine.apply(approved, FIRST)

    assert (step.calls, kinds_of(approved)) == (["probe"], ["refused"])


def test_a_step_that_cannot_be_probed_is_not_begun(approved: Run, step: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(step, "probe", raising(BROKEN))

    with pytest.raises(RunbookError, match="The tool broke"):
        engine.apply(approved, FIRST)

    assert (step.calls, kinds_of(approved)) == ([], ["refused"])


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

    engine.apply(approved, FIRST)

    assert (step.calls, approved.state.step(FIRST).status) == (calls, status)


def test_a_begun_step_whose_outcome_cannot_be_determined_stays_unknown(approved: Run, step: Tiny) -> None:
    approved.journal.append("started", step=FIRST, title=step.title)
    step.effect = Effect.UNKNOWN

    with pytest.raises(UnknownOutcome):
        engine.apply(approved, FIRST)

    assert (step.calls, approved.state.step(FIRST).status) == (["probe"], "started")


# --- approval and preconditions


def test_without_an_approval_nothing_is_applied(run: Run, step: Tiny) -> None:
    run.previews()

    with pytest.raises(Declined, match="has no approval"):
        engine.apply(run, FIRST)

    assert (step.calls, kinds_of(run)) == (["probe"], [])


def test_what_has_drifted_since_the_preview_is_not_approved(run: Run, step: Tiny) -> None:
    digest, _ = run.previews()
    step.facts = {"database": "another"}

    with pytest.raises(Declined, match="has drifted since its preview: database was 'd', is 'another'"):
        run.approve(digest, "Dana")

    assert run.state.approved == ""


def test_only_the_digest_of_a_preview_can_be_approved(run: Run, step: Tiny) -> None:
    run.previews()

    with pytest.raises(Declined, match="No preview of this run has the digest"):
        run.approve("0000", "Dana")


def test_what_has_drifted_since_the_approval_is_not_applied(approved: Run, step: Tiny) -> None:
    step.facts = {"database": "another"}

    with pytest.raises(PreconditionError, match="has drifted since its approval: database was 'd', is 'another'"):
        engine.apply(approved, FIRST)

    assert (step.calls, kinds_of(approved)) == (["probe"], [])


def test_a_half_done_step_resumes_though_the_preview_shows_its_own_work(approved: Run, step: Tiny) -> None:
    step.effect, step.facts = Effect.HALF_DONE, {"database": "another"}

    assert engine.apply(approved, FIRST).how == "resumed and completed"


@pytest.mark.parametrize(("status", "error"), [(Status.FAIL, PreconditionError), (Status.UNKNOWN, UnknownOutcome)], ids=str)
def test_a_precondition_that_is_not_positively_verified_stops(
    approved: Run, step: Tiny, status: Status, error: type[RunbookError]
) -> None:
    step.wanted = [result(Status.PASS), result(status)]

    with pytest.raises(error, match="Not positively verified"):
        engine.apply(approved, FIRST)

    assert (step.calls, kinds_of(approved)) == (["probe"], ["refused"])


def test_a_check_from_before_a_step_does_not_prove_the_step(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    step = Tiny("clear-backfill", run)
    step.wanted, step.action = [result(Status.PASS)], raising(BROKEN)
    monkeypatch.setattr(run_module, "steps_of", lambda context: {step.name: step})
    run.journal.append("previewed", digest="d1", steps=bound([step.preview()]), shown=[])
    run.journal.append("approved", digest="d1", by="Dana")
    run.journal.append("found", step="stop-services", title="Stop the services", outcome={"found": "stopped"})
    with pytest.raises(StepFailed):
        engine.apply(run, step.name)

    (found,) = run.observe("after", ["only-intended-rows"])

    assert (found.status, found.summary) == (Status.UNKNOWN, "no proof was made in this run")


def test_a_step_of_another_type_is_declined(approved: Run) -> None:
    with pytest.raises(Declined, match="has no step 'stop-services'"):
        engine.apply(approved, "stop-services")


def test_a_step_that_would_leave_a_service_outside_the_table_is_refused(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    step = Tiny("clear-backfill", run)
    monkeypatch.setattr(run_module, "steps_of", lambda context: {step.name: step})
    run.journal.append("previewed", digest="d1", steps=bound([step.preview()]), shown=[])
    run.journal.append("approved", digest="d1", by="Dana")

    with pytest.raises(PreconditionError, match=r"refused by the plan's compatibility table: .*feature's code.*data from"):
        engine.apply(run, step.name)

    assert (step.calls, kinds_of(run, step.name)) == (["probe"], [])


def test_an_undo_that_would_leave_a_service_outside_the_table_is_refused(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    made = {name: Tiny(name, run) for name in ("stop-services", "clear-backfill")}
    monkeypatch.setattr(run_module, "steps_of", lambda context: made)
    for name in made:
        run.journal.append("started", step=name, title=name)
        run.journal.append("applied", step=name, seconds=0.1, outcome={})

    with pytest.raises(PreconditionError, match=r"Undoing .* is refused by the plan's compatibility table"):
        engine.undo(run, "stop-services")

    assert made["stop-services"].calls == []
