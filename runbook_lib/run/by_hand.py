"""Records of steps that people did by hand in place of the runbook."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from runbook_lib.errors import ParametersError, RunbookError
from runbook_lib.journal import Journal
from runbook_lib.journal.state import RunState, replay
from runbook_lib.results import not_passed
from runbook_lib.run import Run, lifecycle
from runbook_lib.steps import Effect

NOTHING = "Nothing was recorded."
CLOCKS = 60  # seconds by which the clocks of two machines may differ


def record(path: Path, step: str, result: Literal["done", "failed"], note: str, operator: str, at: str = "") -> RunState:
    """Record what a person did in place of a step, and return the run's state. Changes the run folder.

    The record does not mark the step as done: the step looks at the target itself, and the checks decide.

    Args:
        path: The run folder.
        step: The step, by its name in the plan.
        result: The result, as the person reports it.
        note: What was done and seen.
        operator: Who did it.
        at: When, as ISO 8601 with its offset; empty for now.

    Raises:
        ParametersError: The run has no such step, the time or a text is not usable, or the run was ended.
    """
    folder, plan, state = lifecycle.read(path)
    journal = Journal(folder.journal_path)
    steps = dict.fromkeys([*(plan.steps_of(state.type, state.option) if state.type else []), *state.steps])
    if step not in steps:
        raise _wrong(f"The run has no step {step!r}.", path, f"Name one of: {', '.join(steps) or 'none, before its type'}.")
    for name, text in (("--note", note), ("--operator", operator)):
        if not text.strip():
            raise _wrong(f"{name} is empty.", path, "Say who did it, what was done, and what was seen.")
    if state.ended:
        raise _wrong("This run was ended permanently.", path, "Record it in the run that replaces it.")
    from runbook_lib import report

    when, is_sealed = _moment(at, state, path), not report.verify(folder.path)
    title = plan.steps[step].title
    journal.append("by-hand", step=step, title=title, result=result, note=note.strip(), by=operator.strip(), when=when)
    if is_sealed and not folder.held_by():
        lifecycle.archive(folder, plan)
    return replay(journal.events())


def look(run: Run) -> None:
    """Look at the steps that people recorded as done; those with an effect and passing checks are found done.

    Reads the target; changes the journal only.
    """
    state = run.state
    for name in state.said_done:
        step = run.steps.get(name)
        if step is None or state.step(name).is_done:
            continue
        try:
            probe = step.probe()
            passed = probe.effect is Effect.DONE and not not_passed(run.record(f"step:{name}", step.verify()))
        except RunbookError as error:
            run.journal.append("noted", text=f"{step.title}, recorded as done by hand, could not be looked at: {error.what}")
            continue
        if passed:
            run.journal.append("found", step=name, title=step.title, outcome={"found": f"{probe.detail}, done by hand"})
    run.refresh()


def _moment(at: str, state: RunState, path: Path) -> str:
    """Parse the time and format it for the journal."""
    now = datetime.now(UTC)
    try:
        moment = datetime.fromisoformat(at) if at else now
    except ValueError:
        raise _wrong(f"--at is {at!r}, which is not a time.", path, "Write it as 2026-05-01T03:20:00+02:00.") from None
    if moment.tzinfo is None:
        raise _wrong(f"--at is {at!r}, without its offset.", path, "Write it as 2026-05-01T03:20:00+02:00.")
    if moment.timestamp() > now.timestamp() + CLOCKS:
        raise _wrong(f"--at is {at!r}, which is in the future.", path, "Give the time at which it was done.")
    if moment.timestamp() < state.began.timestamp() - CLOCKS:
        raise _wrong(f"--at is {at!r}, before the run began.", path, "Give the time at which it was done.")
    return moment.astimezone(UTC).isoformat(timespec="seconds")


def _wrong(what: str, path: Path, safe_next: str) -> ParametersError:
    return ParametersError(what, where=str(path), state=NOTHING, safe_next=safe_next)
