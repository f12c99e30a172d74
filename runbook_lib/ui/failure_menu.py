"""What a person can do where a step has failed: try again, undo, go up the plan's ladder, look for the trouble, or stop."""

from __future__ import annotations

import asyncio

from IPython.display import display as show

from runbook_lib.errors import Declined, PreconditionError, RunbookError, StepFailed, UnknownOutcome
from runbook_lib.run import Run, engine, lifecycle, recovery
from runbook_lib.run.engine import Done
from runbook_lib.run.recovery_path import RecoveryPath
from runbook_lib.ui import display, estimates, next_notebook, step_runner
from runbook_lib.ui.display import Shown
from runbook_lib.ui.widgets import asked, attended, choice

TROUBLESHOOTING = "07-troubleshooting"


async def applied(run: Run, name: str) -> Done:
    """Apply a step; where that fails and a person sits there, ask what next and do it. Changes the target.

    Raises:
        Declined: The step was undone instead, so what follows it must not be run.
        RunbookError: The step failed, and was left so or handed up the ladder.
    """
    act: step_runner.Act = engine.apply
    while True:
        try:
            done = await step_runner.run_step(run, name, act)
        except (StepFailed, PreconditionError, UnknownOutcome) as error:
            if not attended():
                raise
            act = await _next(run, name, error)
            continue
        if act is engine.undo:
            raise Declined(
                f"“{done.title}” was undone after it had failed.",
                where=str(run.folder.path),
                state="What the step had changed is put back; what was done before it stands.",
                safe_next="Read what the banner says of the way back. To try the step again, run its cell again.",
            )
        return done


def choices_after(run: Run, name: str, offers: str = "") -> dict[str, str]:
    """What can be chosen after a failure, a choice that it offers (NAME=value) first: name -> description. Read-only."""
    up = next_level(run)
    choice_of, _, value = offers.partition("=")
    ways = {offers: f"go on so: {run.details()[choice_of][0][value]}"} if offers else {}
    ways |= {"retry": "try again; the step is probed first, and what is done is not done twice"}
    if run.state.step(name).begun_here:
        ways["undo"] = "put back what this step changed"
    if up:
        ways["escalate"] = f"go up the plan's ladder, to {_level(run, up)}"
    if run.context.plan.troubles:
        ways["troubleshoot"] = f"look for a known trouble, with the notebook {TROUBLESHOOTING}"
    ways["stop"] = "leave all as it is, and end this cell with the error"
    return ways


def consequences(run: Run, name: str) -> dict[str, str]:
    """What each choice after a failure means for the outage, in a line. Read-only."""
    plan = run.context.plan
    way = recovery.recover(run) if run.context.type else RecoveryPath()
    down = "Some services stay down meanwhile." if way.moves or way.blocked else display.ALL_RUN
    means = {
        "retry": f"{estimates.roughly(plan.steps[name].estimate).capitalize()} by the plan. {down}",
        "undo": f"What was done before this step stays. {down}",
        "troubleshoot": f"Changes nothing, and this question waits. {down}",
        "stop": display.recovery_in_short(way, plan),
    }
    if (up := next_level(run)) in plan.types:
        means["escalate"] = estimates.planned(*estimates.ways(plan, plan.carried_out(up)))
    return means


def next_level(run: Run) -> str:
    """What follows the run's type on the plan's ladder, "" at its end. Read-only."""
    ladder = run.context.plan.escalation
    above = ladder[ladder.index(run.context.type) + 1 :] if run.context.type in ladder else ladder[-1:]
    return above[0] if above else ""


def labelled(run: Run, name: str, error: RunbookError) -> Shown:
    """What happened, what state the system is in, and what is safe next. Read-only."""
    rows = [
        ["What happened", error.what],
        ["Where", error.where or run.context.target.name],
        ["State of the system", error.state or "It may be half done."],
        ["Safe next", error.safe_next or "Run the cell again: the step is probed before it goes on."],
        *([["Contacts", _contacts(run)]] if _contacts(run) else []),
    ]
    return display.table(f"✘ FAILED: {run.context.plan.steps[name].title}", ["", ""], rows)


def escalate(run: Run, name: str, error: RunbookError) -> Shown:
    """Hand the run to the next level of the plan's ladder, keeping what is done; journaled."""
    up, because = next_level(run), f"{run.context.plan.steps[name].title}: {error.what}"
    if up not in run.context.plan.types:
        run.journal.append("noted", text=f"Handed up to {up}: {because}")
        return display.line(f"Call {up} now. {_contacts(run)}")
    run.go_on_as(up, because)
    notebook = lifecycle.notebook_of(run.context.plan, up)
    said = display.line(f"This run goes on as {up}. Open {notebook}, RUN = {run.folder.label}. {_contacts(run)}")
    return display.side_by_side(said, next_notebook.opened(run))


async def _next(run: Run, name: str, error: RunbookError) -> step_runner.Act:
    """What the person chooses to be done now; an interrupt, or what ends the cell, raises the error."""
    show(labelled(run, name, error))
    while True:
        try:
            with asked(run, f"What next, after {name} failed?"):
                ways = choices_after(run, name, error.offers)
                means = consequences(run, name)
                question = f"“{run.context.plan.steps[name].title}” failed. {error.what}"
                chosen, by = await choice("WHAT NEXT", ways, error.offers, question=question, consequences=means)
        except asyncio.CancelledError:
            raise error from None
        run.journal.append("chosen-after-failure", step=name, value=chosen, by=by)
        match chosen:
            case error.offers if chosen:
                name_of, _, value = chosen.partition("=")
                run.choose(name_of, value, by)
                return engine.apply
            case "retry":
                return engine.apply
            case "undo":
                return engine.undo
            case "troubleshoot":
                show(display.line(f"Open {TROUBLESHOOTING} with RUN = {run.folder.label}; then choose here."))
                if next_notebook.is_served():
                    next_notebook.open_file(f"{TROUBLESHOOTING}.ipynb")
            case "escalate":
                show(escalate(run, name, error))
                raise error
            case _:
                raise error


def _level(run: Run, up: str) -> str:
    return run.context.plan.types[up].title if up in run.context.plan.types else f"{up} ({_contacts(run)})"


def _contacts(run: Run) -> str:
    return "; ".join(f"{role}: {contact}" for role, contact in run.context.target.contacts.items())
