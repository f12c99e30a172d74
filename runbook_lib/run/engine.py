"""The step loop: probe, check, journal, act, journal, verify. The only caller of a step's `apply` and `undo`."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from time import monotonic
from typing import Literal

from runbook_lib.errors import AdapterError, Declined, PreconditionError, RunbookError, StepFailed, UnknownOutcome
from runbook_lib.journal.state import RunState
from runbook_lib.results import Result, not_passed
from runbook_lib.run import Run, approval, explain, recovery_path
from runbook_lib.run.lease import leased
from runbook_lib.run.recovery_path import to_be_undone_first
from runbook_lib.steps import Effect, Facts, Step, step_named


@dataclass(frozen=True)
class Done:
    """The result of a step: how it was reached, what it left, and its verification."""

    step: str
    title: str
    how: str
    seconds: float
    estimate: int
    outcome: Facts
    results: list[Result]


def apply(run: Run, name: str) -> Done:
    """Apply or resume a step, unless its effect exists already. Changes the target.

    Raises:
        Declined: No approval covers the step.
        PreconditionError: A precondition fails, or the live facts have drifted from the approved ones.
        UnknownOutcome: Whether the step was done is unknown.
        StepFailed: It was begun and failed.
    """
    with run.folder.lock():
        state = run.refresh()
        run.require_open()
        step = _step(run, name)
        if _built_upon(run, state, name):
            return _done(
                run, step, "already done (by the journal); later steps build on it", state.step(name).seconds or 0, []
            )
        with leased(run), step.sessions():
            return _carried_out(run, state, step)


def undo(run: Run, name: str) -> Done:
    """Undo a step. Changes the target.

    Raises:
        Declined: The step was not done in this run, or a later one depends on its change.
        PreconditionError: It would leave services running in a combination that the plan does not allow.
        StepFailed: It could not be undone.
    """
    with run.folder.lock():
        state = run.refresh()
        step = _begun(run, state).get(name) or _step(run, name)
        if not state.step(name).begun_here:
            raise Declined(
                f"“{step.title}” was not done in this run, so there is nothing to undo.",
                where=str(run.folder.path),
                state="Nothing was changed.",
                safe_next="See `runbook status`.",
            )
        _require_last(run, state, step)
        _require_allowed(run, state, step, undo=True)
        with leased(run):
            seconds = _act(run, step, "undo", step.undo)
        return _done(run, step, "undone", seconds, [])


def _carried_out(run: Run, state: RunState, step: Step) -> Done:
    with _refusals_journaled(run, step), _cannot_be_told(run, step):
        step.await_target()
        probe = step.probe()
        if probe.effect is Effect.UNKNOWN:
            raise UnknownOutcome(
                f"Whether “{step.title}” was done is unknown: {probe.detail}.",
                where=run.context.target.name,
                state="Nothing was begun.",
                safe_next="Inspect the target by hand; then run the step again, or undo it.",
            )
    if probe.effect is Effect.DONE:
        if not state.step(step.name).is_done:
            run.journal.append("found", step=step.name, title=step.title, outcome={"found": probe.detail})
        step.adopt_existing()
        return _done(run, step, f"already done: {probe.detail}", 0, _verified(run, step))
    compared = run.made_ready & {(state.approved, step.name)}
    run.made_ready -= compared
    _require_approval(run, state, step, fresh=probe.effect is Effect.NOT_DONE and not compared)
    with _refusals_journaled(run, step):
        run.require(run.record(f"before:{step.name}", step.preconditions()))
    _require_allowed(run, state, step)
    _make_ready(run, state, step.name)
    _do_first(run, state, step)
    try:
        seconds = _act(run, step, "apply", step.apply)
    except StepFailed:
        if step.name not in state.waivers:
            raise
        return _done(run, step, f"failed, and waived: {state.waivers[step.name]['reason']}", 0, [])
    return _done(
        run, step, "done" if probe.effect is Effect.NOT_DONE else "resumed and completed", seconds, _verified(run, step)
    )


def _make_ready(run: Run, state: RunState, first: str) -> None:
    """Before the first step, make all remaining steps ready. Changes the target, but nothing users see.

    It compares them with their approval here, not again while users wait; each step checks what it acts on itself.
    """
    if not state.begun_since:
        ready = [step for step in run.steps.values() if type(step).make_ready is not Step.make_ready]
        for step in ready:
            _require_approval(run, state, step, fresh=True)
        for step in ready:
            with _refusals_journaled(run, step):
                step.make_ready()
        run.made_ready = {(state.approved, step.name) for step in ready if step.name != first}
        run.refresh()


def _do_first(run: Run, state: RunState, step: Step) -> None:
    """If users wait from this step on, apply the steps first that need not run during the outage. Changes the target."""
    if step.BEGINS_OUTAGE:
        for other in run.steps.values():
            if other.goes_first and not state.step(other.name).is_done:
                _carried_out(run, state, other)


@contextmanager
def _refusals_journaled(run: Run, step: Step) -> Iterator[None]:
    """Journal why a step was not begun, so that no recovery path offers it while that is its last result."""
    try:
        yield
    except (PreconditionError, UnknownOutcome) as error:
        run.journal.append("refused", step=step.name, action="apply", error=explain(error))
        raise


@contextmanager
def _cannot_be_told(run: Run, step: Step) -> Iterator[None]:
    """Turn an unreachable target into an unknown effect of the step. Read-only."""
    try:
        yield
    except AdapterError as error:
        raise UnknownOutcome(
            f"Whether “{step.title}” was done is unknown: {error.what}",
            where=error.where or run.context.target.name,
            state="Nothing was begun.",
            safe_next=error.safe_next or "Fix the cause; then run the step again.",
        ) from error


def _step(run: Run, name: str) -> Step:
    steps = run.steps
    if name not in steps:
        raise Declined(
            f"The rollback type {run.context.type} has no step {name!r}.",
            where=str(run.folder.path),
            state="Nothing was changed.",
            safe_next=f"Its steps are: {', '.join(steps)}.",
        )
    return steps[name]


def _built_upon(run: Run, state: RunState, name: str) -> bool:
    order, begun = list(run.steps), state.begun_since  # steps of an earlier type are probed again
    if not state.step(name).is_done or name not in begun:
        return False
    later = order[order.index(name) + 1 :]
    return any(other in later and state.step(other).status != "undone" for other in begun[begun.index(name) + 1 :])


def _require_last(run: Run, state: RunState, step: Step) -> None:
    """Raise if a later step must be undone first."""
    begun = _begun(run, state)
    standing = {name for name, other in begun.items() if _stands(state, other)}
    if first := to_be_undone_first({name: other.spec for name, other in begun.items()}, step.name, standing):
        titles = ", then ".join(f"“{begun[name].title}” ({name})" for name in first)
        raise Declined(
            f"“{step.title}” cannot be undone while later steps depend on its change.",
            where=str(run.folder.path),
            state="Nothing was changed.",
            safe_next=f"First undo {titles}; then this one.",
        )


def _begun(run: Run, state: RunState) -> dict[str, Step]:
    """Return the steps that this run began, in order, including those of a type before an escalation."""
    steps = run.steps
    return {name: steps.get(name) or step_named(run.context, name) for name in state.steps}


def _stands(state: RunState, step: Step) -> bool:
    """Check whether a step of this run has an effect, full or partial; one that cannot be looked at counts. Read-only."""
    known = state.step(step.name)
    if not known.begun_here or known.is_done:
        return known.begun_here
    try:
        return step.probe().effect is not Effect.NOT_DONE
    except RunbookError:
        return True


def _require_approval(run: Run, state: RunState, step: Step, *, fresh: bool) -> None:
    approved = state.previews.get(state.approved, {}).get(step.name)
    if approved is None:
        raise Declined(
            f"“{step.title}” has no approval.",
            where=str(run.folder.path),
            state="Nothing was changed.",
            safe_next="Run the preview cell, read it, and approve its digest.",
        )
    if lacking := step.approval_gap(approved):
        raise Declined(
            f"“{step.title}” cannot be executed under this approval: {lacking}.",
            where=run.context.target.name,
            state="This step was not begun.",
            safe_next="Preview again, read the preview, and approve it.",
        )
    if fresh and (lines := approval.drift(approved, step.preview(), run.context.plan.drift_tolerance)):
        raise PreconditionError(
            f"“{step.title}” has drifted since its approval: {'; '.join(lines)}.",
            where=run.context.target.name,
            state="This step was not begun.",
            safe_next="Preview again, read the preview, and approve it.",
        )


def _require_allowed(run: Run, state: RunState, step: Step, *, undo: bool = False) -> None:
    """Raise if the step would leave a running service in a combination outside the plan's compatibility table."""
    found = recovery_path.refused(recovery_path.rules_of(run.context), recovery_path.effects_of(state), step.name, undo=undo)
    if found:
        raise PreconditionError(
            f"{'Undoing ' if undo else ''}“{step.title}” is refused by the plan's compatibility table: {found}.",
            where=run.context.target.name,
            state="This step was not begun.",
            safe_next="Keep to the order of the plan's steps; `runbook service-back RUN` shows the nearest recovery path to "
            "services that run in an allowed combination.",
        )


def _act(run: Run, step: Step, action: Literal["apply", "undo"], act: Callable[[], Facts]) -> float:
    run.journal.append("started", step=step.name, title=step.title, action=action)
    begun = monotonic()
    try:
        with _interruptible(), step.acting():
            outcome = act()
    except BaseException as error:
        on_request = isinstance(error, Declined) or not isinstance(error, Exception)  # aborted or interrupted
        run.journal.append("failed", step=step.name, error=explain(error), on_request=on_request)
        if not isinstance(error, Exception):
            raise
        known = error if isinstance(error, RunbookError) else RunbookError(explain(error))
        raise StepFailed(
            f"“{step.title}” failed: {known.what}",
            where=known.where or run.context.target.name,
            state=known.state or "It may be half done.",
            safe_next=known.safe_next or "Run the cell again: the step is probed before it resumes. Or undo it.",
            offers=known.offers,
        ) from error
    seconds = round(monotonic() - begun, 3)
    ended = {"apply": "applied", "undo": "undone"}[action]
    run.journal.append(ended, step=step.name, seconds=seconds, outcome=dict(outcome))
    run.refresh()
    return seconds


def _verified(run: Run, step: Step) -> list[Result]:
    step.await_target()
    results = run.record(f"step:{step.name}", step.verify())
    if bad := not_passed(results):
        run.journal.append("failed", step=step.name, error="; ".join(f"{r.status}: {r.summary}" for r in bad))
        raise StepFailed(
            f"“{step.title}” was executed, but its verification found: "
            + "; ".join(f"{r.title}: {r.status}, {r.summary}" for r in bad),
            where=run.context.target.name,
            state="The step's effect exists, but is not as expected.",
            safe_next="Do not continue. Undo the step; or fix the cause, and repeat the command or run the cell again.",
        )
    return results


def _done(run: Run, step: Step, how: str, seconds: float, results: list[Result]) -> Done:
    outcome = run.context.state.step(step.name).outcome
    return Done(step.name, step.title, how, seconds, step.spec.estimate, outcome, results)


@contextmanager
def _interruptible() -> Iterator[None]:
    """Let an interrupt end the step immediately; a kernel in an awaiting cell would only record it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
