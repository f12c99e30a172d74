"""One run per target: locks the target while a step acts, takes it over, and releases it.

A target is locked twice: on this host, in its checkouts, and in its database. A type that does not touch the database
relies on the lock on this host if the database does not answer.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from runbook_lib.config.plan.steps import ACCESS
from runbook_lib.errors import AdapterError, JournalError, PreconditionError
from runbook_lib.journal import Journal
from runbook_lib.journal.event import Event
from runbook_lib.journal.state import replay
from runbook_lib.postgres import mirror
from runbook_lib.postgres.lease import Holder
from runbook_lib.results import Result, Status
from runbook_lib.run import TAKEN_OVER, Run
from runbook_lib.run.approval import require_reason
from runbook_lib.steps import step_named
from runbook_lib.system import temporary


def adopt(run: Run) -> None:
    """Adopt the pending cleanup of each run taken over, once. Changes this run's journal only.

    Raises:
        UnknownOutcome: The journal of such a run cannot be found, and nobody waived that.
    """
    adopted = {event.data["run"] for event in run.journal.events() if event.kind == "adopted"}
    for taken in run.state.takeovers:
        if (name := taken.get("run")) and name not in adopted:  # older versions did not record the run
            _adopt(run, name, Path(taken.get("folder") or run.folder.path.parent / name))
    run.require([result for result in run.recorded("prerequisites") if result.name == TAKEN_OVER])


def _adopt(run: Run, name: str, folder: Path) -> None:
    steps = run.context.plan.steps
    events = max(_in_folder(folder), _in_database(run, name), key=len)
    pending = replay(events).pending if events else {}
    for item, data in pending.items():
        if data["step"] in steps:
            step_named(run.context, data["step"]).adopt(item, data["text"], name)
        else:
            adopted = {"debt": f"{item} of {name}", "step": data["step"], "of": name, "its": item}
            run.journal.append("owed", **adopted, text=f"{data['text']} (left by run {name}, of another plan)")
    for step in [step for step, spec in steps.items() if ACCESS in spec.touches().changes]:
        with suppress(AdapterError):  # without the database, the other run's journal decides
            step_named(run.context, step).adopt_existing()
    found = f"{len(pending)} items of pending cleanup were adopted: {', '.join(pending) or 'none'}"
    unknown = f"the journal of run {name} is neither in {folder} nor in the target's database: search for it by hand"
    result = Result(
        TAKEN_OVER,
        "The freezes and kept data of the run taken over are known",
        Status.PASS if events else Status.UNKNOWN,
        found if events else unknown,
    )
    run.record("prerequisites", [result])
    run.journal.append("adopted", run=name, debts=list(pending), moves=_moves(events, datetime.now(UTC).isoformat()))


def _moves(events: Sequence[Event], until: str) -> list[dict[str, str]]:
    """Return the checkout moves that a run began and did not end: checkout, commits and times. Pure."""
    state = replay(events) if events else None
    approved = state.previews.get(state.approved, {}) if state else {}
    began = {event.data["step"]: event.at for event in events if event.kind == "started"}
    return [
        {name: facts[name] for name in ("repository", "head", "commit")} | {"began": began[step], "until": until}
        for step, facts in ((step, approval["facts"]) for step, approval in approved.items())
        if {"repository", "head", "commit"} <= facts.keys() and state and state.step(step).status in ("started", "failed")
    ]


def _in_folder(folder: Path) -> Sequence[Event]:
    path = folder / "journal.jsonl"
    with suppress(JournalError, OSError):
        return Journal(path).events()
    return []


def _in_database(run: Run, name: str) -> Sequence[Event]:
    """Return the events copied to the target's database, if it answers; the last second may be missing."""
    with suppress(AdapterError, JournalError), run.context.adapters.postgres.connect() as connection:
        lines = mirror.received(connection, name)
        with temporary.directory() as directory:
            path = directory / "journal.jsonl"
            path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
            return Journal(path).events()
    return []


WITHOUT = "The database's lease could not be taken, so a run from another machine would not be noticed"


@contextmanager
def leased(run: Run) -> Iterator[None]:
    """Lock the run's target while the block runs, and adopt the pending cleanup of a run taken over.

    The lease outlasts the block if a step of this run has an effect, or the target was taken over.
    Changes the target's lease only.

    Raises:
        PreconditionError: Another run acts on the target, was abandoned or waits; this run was resumed elsewhere; or a
            pooler is in between.
        AdapterError: The server cannot be reached, and the type needs it.
    """
    run.refresh()
    if not run.context.type:
        yield
        return
    with ExitStack() as held:
        held.enter_context(run.context.host_lease.held())
        try:
            if _database_is_held(run, held):
                _require_newest(run)
            adopt(run)
            yield
        finally:
            if not (_acted(run) or run.state.takeovers) or _over(run):
                with suppress(AdapterError):  # the block's own error counts, not this one; the row stays this run's
                    _release(run)


def take_over(run: Run, reason: str) -> None:
    """Take the target over from an abandoned run, for a reason that the journal keeps.

    This run adopts its pending cleanup. Does nothing if no other run has the target.
    Changes the target's lease only.

    Raises:
        ParametersError: The reason is too short.
        PreconditionError: That run acts at this moment.
        AdapterError: The server cannot be reached, and the type needs it.
    """
    require_reason(reason, "The reason for taking the target over", "Nothing was taken over.")

    def journal(before: Holder, epoch: int) -> None:
        if before.run not in [event.get("run") for event in run.state.takeovers]:
            about = {"before": str(before), "run": before.run, "folder": getattr(before, "folder", ""), "epoch": epoch}
            run.journal.append("taken-over", reason=reason, by=run.context.operator, **about)

    run.refresh()
    with run.folder.lock():
        try:
            run.context.adapters.lease.take_over(journal)
        except AdapterError:
            if _needs_database(run):
                raise
        run.context.host_lease.take_over(journal)
        adopt(run)


def let_go(run: Run) -> None:
    """Release the target if nothing of this run is left to finish; an unverified run keeps it.

    Changes the target's lease only.
    """
    run.refresh()
    if not run.context.type or (_acted(run) and not _over(run)):
        return
    try:
        if _release(run):
            run.journal.append("released", database=run.context.adapters.postgres.database)
    except AdapterError as error:
        run.journal.append("noted", text=f"The lease in the target's database could not be released: {error.what}")


def give_back(run: Run) -> bool:
    """Release the target whatever this run left there; returns whether it had it. Changes the target's lease only.

    Raises:
        PreconditionError: A process acts on the target now.
        AdapterError: The server cannot be reached, and the type needs it.
    """
    run.refresh()
    if not run.context.type:
        return False
    on_host = run.context.host_lease.end()
    try:
        return run.context.adapters.lease.end() or on_host
    except AdapterError:
        if _needs_database(run):
            raise
        return on_host


def _release(run: Run) -> bool:
    """Release the target without checks; returns whether this run had it. Changes the target's lease only.

    Raises:
        AdapterError: The server cannot be reached: the lock on this host is released in any case.
    """
    on_host = run.context.host_lease.release()
    return run.context.adapters.lease.release() or on_host


def _database_is_held(run: Run, held: ExitStack) -> bool:
    """Lock the database until `held` ends; False if it does not answer and the type does not need it."""
    if not _needs_database(run) and run.context.adapters.prepared.get(WITHOUT):
        return False
    try:
        held.enter_context(run.context.adapters.lease.held(acted=_acted(run)))
    except AdapterError as error:
        if _needs_database(run):
            raise
        run.context.adapters.prepared[WITHOUT] = True  # a network that drops packets would cost each step a time-out
        run.journal.append("noted", text=f"{WITHOUT}: {error.what}")
        return False
    return True


def _needs_database(run: Run) -> bool:
    return run.context.touches_database or not run.context.host_lease.directories


def _require_newest(run: Run) -> None:
    if run.context.adapters.lease.is_outdated(run.journal.events()):
        raise PreconditionError(
            "This run was resumed on another machine: the target's database has journal events that this folder lacks.",
            where=str(run.folder.path),
            state="Nothing was begun by this process.",
            safe_next="See it with `runbook status --from-target`; continue there, or resume it here in another folder.",
        )


def _acted(run: Run) -> bool:
    """Check whether a step of this run has an effect, done or half done. Read-only."""
    return any(step.begun_here for step in run.state.steps.values())


def _over(run: Run) -> bool:
    """Check whether the run's last outcome leaves nothing to finish. Read-only."""
    last = [event for event in run.journal.events() if event.kind in ("started", "outcome")][-1:]
    return any(event.data.get("status") in ("verified", "waived", "undone", "ended") for event in last)
