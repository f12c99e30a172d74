"""Steers long work that another process of the run does: it pauses, goes on, or ends."""

from runbook_lib.errors import PreconditionError
from runbook_lib.parts import Wanted
from runbook_lib.run import Run
from runbook_lib.steps import step_named


def steer(run: Run, wanted: Wanted) -> str:
    """Have the step that acts now pause, go on or abort, before its next part or where it is; returns its title.

    Changes the run folder; for a clearing, the runbook's own tables in the target.

    Raises:
        PreconditionError: Nothing of the run acts now, or what acts does not work in batches.
        AdapterError: The server cannot be reached.
    """
    acting = [name for name, step in run.state.steps.items() if step.status == "started"] if run.folder.held_by() else []
    if not acting:
        raise PreconditionError(
            "No step of this run acts now.",
            where=str(run.folder.path),
            state="Nothing was changed.",
            safe_next=f"Look at `runbook status {run.folder.path}`; to go on with the run: `runbook run {run.folder.path}`.",
        )
    step = step_named(run.context, acting[-1])
    if not step.steer(wanted):
        raise PreconditionError(
            f"“{step.title}” acts now, and is not at work in batches.",
            where=str(run.folder.path),
            state="Nothing was changed; the step goes on.",
            safe_next="Wait for it, or try again once it tells of its first batch.",
        )
    run.journal.append("steered", step=step.name, wanted=wanted, by=run.context.operator)
    return step.title
