"""Execute the notebooks of a run without a person, one after another, until the run has an outcome."""

from __future__ import annotations

import shlex
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runbook_lib.errors import ParametersError, PreconditionError, RunbookError, cause
from runbook_lib.headless import rendering
from runbook_lib.journal import Journal
from runbook_lib.journal.event import Event
from runbook_lib.redaction import redact
from runbook_lib.run import Run, cleanup, lifecycle, recovery
from runbook_lib.run.lifecycle import Outcome, open_existing
from runbook_lib.system import temporary
from runbook_lib.ui import display
from runbook_lib.ui.display import Shown
from runbook_lib.ui.progress import Report, followed

if TYPE_CHECKING:
    from jupyter_client.manager import AsyncKernelManager

Approve = Callable[[Run], str]  # a run -> the digest that is approved, "" for none


def execute(
    folder: Path, notebook: str, parameters: Mapping[str, str], report: Report, *, opens_page: bool = True
) -> Outcome | None:
    """Execute one notebook into the run folder with papermill; return the outcome if it failed.

    Changes the target by what the notebook's cells do.

    Raises:
        ParametersError: There is no such notebook.
    """
    from runbook_lib.headless.kernel import started

    with started(opens_page=opens_page) as kernel:  # first, so that it loads while this process does
        run = open_existing(folder)
        output = run.folder.next_name(notebook, ".ipynb")
        with followed(run.folder.journal_path, report), _source(run, notebook) as source:
            run.journal.append("notebook-started", notebook=notebook, output=output)
            saved = f"runbook://{folder.resolve() / output}"
            problem = _papermill(source, saved, {**parameters, "RUN": str(folder)}, kernel)
            status = "failed" if problem else "completed"
            run.journal.append("notebook-ended", notebook=notebook, output=output, status=status)
    lifecycle.write_archive(run)
    return _ended_badly(run, problem) if problem else None


@contextmanager
def _source(run: Run, notebook: str) -> Iterator[Path]:
    """Give the notebook of that name: a file for all plans, or the one rendered from the run's plan."""
    plan, type_name = run.context.plan, run.context.type
    if file := rendering.for_all_plans(notebook):
        yield file
    elif type_name and rendering.name_of(plan, type_name) == notebook:
        option = run.context.option if plan.types[type_name].options else ""
        with temporary.directory() as own:
            yield rendering.written(plan, type_name, option, run.state.opened["plan_file"], own)
    else:
        raise ParametersError(
            f"No notebook {notebook} exists, and the run's type has another name.",
            where=str(run.folder.path),
            state="Nothing was changed.",
            safe_next="Name a file of notebooks/, or correct the plan's types.",
        )


def carry_out(folder: Path, approve: Approve, parameters: Mapping[str, str], report: Report) -> Outcome:
    """Execute the notebooks of the run's type, and of types it escalates to, until an outcome exists.

    Changes the target by what the approved steps do.
    """
    refused = ""  # the digest whose preview drifted
    while True:
        run = open_existing(folder)
        run.require_open()
        type_name = run.context.type
        try:
            with followed(run.folder.journal_path, report):
                cleanup.clean_up_due(run)
                digest = approve(run)
        finally:
            run.close_adapters()
        if not digest or digest == refused:
            return _declined(run)
        plan = run.context.plan
        notebook, options = rendering.name_of(plan, type_name), plan.types[type_name].options
        opens_page = any(plan.checks[name].opens for name in plan.types[type_name].checks)
        try:
            chosen = {"OPTION": run.context.option} if options else {}
            given = {"APPROVE": digest, **chosen, **parameters}
            problem = execute(folder, notebook, given, report, opens_page=opens_page)
        except KeyboardInterrupt:
            _closed(run, Outcome("unknown", "Interrupted; repeat the command to resume."))
            raise
        if problem and problem.status == "declined" and run.drifted(digest):
            refused = digest  # the preview has drifted since: ask again
            run.close_adapters()
            continue
        if problem:
            return _closed(run, problem)
        outcome = run.state.outcome
        if outcome is None:
            return _closed(run, Outcome("unknown", "The notebook ended without recording an outcome."))
        if outcome["status"] != "escalated":
            return Outcome(outcome["status"], outcome["summary"])


def _papermill(source: Path, output: str, parameters: Mapping[str, str], kernel: AsyncKernelManager) -> str:
    """Execute a notebook in that kernel; return the error, "" for none."""
    import papermill

    from runbook_lib import report

    threading.Thread(target=report.load, name="report").start()  # while the cells run there is time for it
    engine = {"engine_name": "runbook", "kernel_name": "python3", "kernel": kernel}
    try:
        papermill.execute_notebook(str(source), output, dict(parameters), progress_bar=False, **engine)
    except RunbookError as error:
        return error.what
    return ""


def _ended_badly(run: Run, problem: str) -> Outcome:
    """Give the outcome of a failed notebook: the one its last cell recorded, else unknown."""
    events = Journal(run.folder.journal_path).events()
    started = max(e.seq for e in events if e.kind == "notebook-started")
    said = [e for e in events if e.seq > started and e.kind in ("stopped", "outcome")]
    for event in reversed(said):
        if event.kind == "outcome":
            return Outcome(event.data["status"], event.data["summary"])
        status = {1: "declined", 4: "unknown"}.get(event.data["exit_code"], "failed")
        return Outcome(status, cause(event.data["error"]))
    begun = [f"“{step.title}”" for step in run.state.steps.values() if step.status == "started"]
    doubt = f" It was in the step {', '.join(begun)}, whose result is unknown." if begun else ""
    return Outcome("unknown", f"The notebook did not end by itself. {cause(problem)}{doubt}")


def _is_last_word(events: Sequence[Event]) -> bool:
    """Whether the last notebook recorded an outcome. Pure."""
    last = {event.kind: event.seq for event in events}
    return last.get("outcome", 0) > last.get("notebook-started", 0)


def _declined(run: Run) -> Outcome:
    """Record that the approval was refused; an existing outcome stays."""
    latest = run.state.previewed
    declined = Outcome("declined", f"Preview {latest} is not approved." if latest else "There is no preview to approve.")
    return declined if run.state.outcome else _closed(run, declined)


def _closed(run: Run, outcome: Outcome) -> Outcome:
    events, state = run.journal.events(), run.state
    recorded = state.outcome if _is_last_word(events) else None
    if recorded and (recorded["status"], recorded["summary"]) == (outcome.status, outcome.summary):
        return outcome
    lifecycle.close(run, outcome)
    lifecycle.write_archive(run)
    return outcome


@dataclass(frozen=True)
class Ending:
    """Why a run stopped, whether services are down, and what comes next."""

    reason: str  # with where, state and safe next, a line each
    services: str = ""  # how they are, and the recovery path where some are down; "" where the run changed nothing
    next: str = ""  # the command that comes next, or what a person must do where none is left
    down: bool = False  # whether some services are down, or may be
    recovery: Shown | None = None  # the same as `services`, to be shown as a table

    def as_json(self) -> dict[str, Any]:
        """The same as plain values."""
        return {"error": self.reason, "services": self.services, "next": self.next}


def ending(run: Run, outcome: Outcome | None, error: RunbookError | None) -> Ending | None:
    """Explain why a run stopped and what comes next; None if it ended well. Reads the target.

    Its previews are journaled and sealed.
    """
    events, state = run.journal.events(), run.state
    if outcome and outcome.status in lifecycle.ENDED_WELL:
        return None
    reason = redact(str(error or _stopped(events) or (outcome.summary if outcome else "")))
    if not state.steps:
        return Ending(reason)
    if state.is_undone:
        return Ending(reason, next=run.planned_again())
    try:
        offered = recovery.offer(run)
    except PreconditionError as none_left:
        return Ending(reason, redact(none_left.what), redact(none_left.safe_next), down=True)
    except RunbookError as unknown:
        look = ["runbook", "service-back", str(run.folder.path)]
        return Ending(reason, redact(f"Which services run is unknown: {unknown.what}"), shlex.join(look), down=True)
    finally:
        if len(run.journal.events()) > len(events):
            lifecycle.write_archive(run)
    shown = display.recovery(offered.way, run.context.plan, state)
    approved = offered.digest if offered.way.moves else state.approved
    command = ["runbook", "service-back" if offered.way.moves else "run", str(run.folder.path)]
    next_command = shlex.join([*command, *(["--approve", approved] if approved else [])])
    return Ending(reason, redact(shown.text), next_command, down=bool(offered.way.moves), recovery=shown)


def _stopped(events: list[Event]) -> str:
    """The error that ended the last notebook, "" where none did."""
    started = max((event.seq for event in events if event.kind == "notebook-started"), default=0)
    errors = [event.data["error"] for event in events if event.kind == "stopped" and event.seq > started]
    return str(errors[-1]) if errors else ""
