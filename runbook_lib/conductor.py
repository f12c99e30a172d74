"""Runs the notebooks of a run without a person, one after another, until the run has an outcome."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from runbook_lib import closing
from runbook_lib.closing import Outcome
from runbook_lib.errors import ParametersError, RunbookError
from runbook_lib.journal import Journal
from runbook_lib.opening import open_existing
from runbook_lib.parameters import ROOT
from runbook_lib.progress import Told, followed
from runbook_lib.run import Run

if TYPE_CHECKING:
    from jupyter_client.manager import AsyncKernelManager

NOTEBOOKS = ROOT / "notebooks"

Approve = Callable[[Run], str]  # a run whose previews are wanted -> the digest approved, "" for none


def execute(folder: Path, notebook: str, parameters: Mapping[str, str], tell: Told) -> Outcome | None:
    """Execute one notebook into the run folder with papermill; returns the outcome where it did not end well.

    Changes the target by what the notebook's cells do.

    Raises:
        ParametersError: There is no such notebook.
    """
    source = NOTEBOOKS / f"{notebook}.ipynb"
    if not source.exists():
        raise ParametersError(
            f"There is no notebook {source}.", state="Nothing was touched.", safe_next="Mend the plan's types."
        )
    from runbook_lib import kernel_start

    with kernel_start.started() as kernel:  # first, so that it loads while this process does
        run = open_existing(folder)
        output = run.folder.next_name(notebook, ".ipynb")
        with followed(run.folder.journal_path, tell):
            run.journal.append("notebook-started", notebook=notebook, output=output)
            saved = f"runbook://{folder.resolve() / output}"
            problem = _papermill(source, saved, {**parameters, "RUN": str(folder)}, kernel)
            status = "failed" if problem else "completed"
            run.journal.append("notebook-ended", notebook=notebook, output=output, status=status)
    closing.write_archive(run)
    return _ended_badly(run, problem) if problem else None


def carry_out(folder: Path, approve: Approve, parameters: Mapping[str, str], tell: Told) -> Outcome:
    """Walk the notebooks of the run's type, and of those it escalates to, until there is an outcome.

    Changes the target by what the approved steps do.
    """
    refused = ""  # the digest that did not hold to the end
    while True:
        run = open_existing(folder)
        type_name = run.context.type
        try:
            with followed(run.folder.journal_path, tell):
                digest = approve(run)
        finally:
            run.close_adapters()
        if not digest or digest == refused:
            return _declined(run)
        notebook, options = run.context.plan.types[type_name].notebook, run.context.plan.types[type_name].options
        assert notebook is not None
        try:
            chosen = {"OPTION": run.context.option} if options else {}
            problem = execute(folder, notebook, {"APPROVE": digest, **chosen, **parameters}, tell)
        except KeyboardInterrupt:
            _closed(run, Outcome("unknown", "Interrupted; the same command goes on from here."))
            raise
        if problem and problem.status == "declined" and run.state.approved == digest and run.drifted(digest):
            refused = digest  # the steps done since have changed what there is to approve: ask again
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
    """Execute a notebook in that kernel; returns what went wrong, "" for nothing."""
    import papermill

    engine = {"engine_name": "runbook", "kernel_name": "python3", "kernel": kernel}
    try:
        papermill.execute_notebook(str(source), output, dict(parameters), progress_bar=False, **engine)
    except RunbookError as error:
        return error.what
    return ""


def _ended_badly(run: Run, problem: str) -> Outcome:
    """The outcome of a notebook that failed: what its last cell said of itself, else unknown."""
    events = Journal(run.folder.journal_path).events()
    started = max(e.seq for e in events if e.kind == "notebook-started")
    said = [e for e in events if e.seq > started and e.kind in ("stopped", "outcome")]
    for event in reversed(said):
        if event.kind == "outcome":
            return Outcome(event.data["status"], event.data["summary"])
        status = {1: "declined", 4: "unknown"}.get(event.data["exit_code"], "failed")
        return Outcome(status, event.data["error"].splitlines()[0])
    return Outcome("unknown", f"The notebook did not end by itself: {problem}")


def _declined(run: Run) -> Outcome:
    """What an approval refused makes of a run: an outcome it has already stands."""
    declined = Outcome("declined", "The previews were not approved.")
    return declined if run.state.outcome else _closed(run, declined)


def _closed(run: Run, outcome: Outcome) -> Outcome:
    recorded = run.state.outcome
    if recorded and (recorded["status"], recorded["summary"]) == (outcome.status, outcome.summary):
        return outcome
    closing.close(run, outcome)
    closing.write_archive(run)
    return outcome
