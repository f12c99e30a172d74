"""One run per target: holds the target while a step of a run acts, takes it over, and lets go of it."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from runbook_lib.adapters.postgres.lease import Holder
from runbook_lib.errors import AdapterError, PreconditionError
from runbook_lib.plan import FenceStep
from runbook_lib.reasons import require_reason
from runbook_lib.run import Run
from runbook_lib.steps import step_named


@contextmanager
def leased(run: Run) -> Iterator[None]:
    """Hold the run's target while the block runs, where its rollback type touches the database at all.

    The lease outlasts the block where a step of this run stands, or the target was taken over.
    Changes the target's lease row only.

    Raises:
        PreconditionError: Another run acts on the target now, was left behind or waits, this run was taken up elsewhere, or
            a pooler stands in between.
        AdapterError: The server cannot be reached.
    """
    run.refresh()
    if not _concerned(run):
        yield
        return
    lease = run.context.lease
    with lease.held(acted=_acted(run)):
        _require_newest(run)
        try:
            yield
        finally:
            if not (_acted(run) or run.state.takeovers) or _verified(run):
                with suppress(AdapterError):  # what ended the block is told, not this; the row stays this run's
                    lease.release()


def take_over(run: Run, reason: str) -> None:
    """Take the target over from a run that was left behind, for a reason that the journal keeps.

    A fence that it left up is this run's debt from then on. Nothing happens where no other run has the target.
    Changes the target's lease row only.

    Raises:
        ParametersError: The reason says nothing.
        PreconditionError: That run acts at this moment.
        AdapterError: The server cannot be reached.
    """
    require_reason(reason, "The reason for taking the target over", "Nothing was taken over.")

    def journal(before: Holder, epoch: int) -> None:
        run.journal.append("taken-over", reason=reason, by=run.context.operator, before=str(before), epoch=epoch)

    with run.folder.lock():
        run.context.lease.take_over(journal)
        for name, spec in run.context.plan.steps.items():
            if run.state.takeovers and isinstance(spec, FenceStep):
                step_named(run.context, name).settle_found()


def let_go(run: Run) -> None:
    """Give the target back where nothing of this run is left to finish; what is not verified keeps it.

    Changes the target's lease row only.
    """
    run.refresh()
    if not _concerned(run) or (_acted(run) and not _verified(run)):
        return
    try:
        if run.context.lease.release():
            run.journal.append("released", database=run.context.postgres.database)
    except AdapterError as error:
        run.journal.append("noted", text=f"The target's lease could not be given back: {error.what}")


def _require_newest(run: Run) -> None:
    if run.context.lease.is_outdated(run.journal.events()):
        raise PreconditionError(
            "This run was taken up on another machine: the target's database holds a journal of it that this one has not.",
            where=str(run.folder.path),
            state="Nothing was begun by this process.",
            safe_next="Look at it with `runbook status --from-target`; go on there, or take it up here into another folder.",
        )


def _concerned(run: Run) -> bool:
    return bool(run.context.type) and run.touches_database


def _acted(run: Run) -> bool:
    """Whether a step of this run stands, done or half done. Read-only."""
    return any(step.begun_here for step in run.state.steps.values())


def _verified(run: Run) -> bool:
    """Whether the last word on the run is that it is verified, but for what was waived. Read-only."""
    last = [event for event in run.journal.events() if event.kind in ("started", "outcome")][-1:]
    return any(event.data.get("status") in ("verified", "waived") for event in last)
