"""The menu after a failed step: retry, undo, escalate, troubleshoot, or stop."""

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
    """Apply a step; if it fails in an attended kernel, ask what to do next and do it. Changes the target.

    Raises:
        Declined: The step was undone instead, so the following cells must not run.
        RunbookError: The step failed, and was left so or escalated.
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
                state="The step's changes are undone. Earlier steps stay done.",
                safe_next="To try the step again, run its cell again. The banner shows the recovery path.",
            )
        return done


def choices_after(run: Run, name: str, offers: str = "") -> dict[str, str]:
    """The choices after a failure, name -> description; one that the error offers (NAME=value) comes first. Read-only."""
    up = next_level(run)
    choice_of, _, value = offers.partition("=")
    ways = {offers: f"continue with: {run.details()[choice_of][0][value]}"} if offers else {}
    ways |= {"retry": "try again; the step is probed first, and finished work is not repeated"}
    if run.state.step(name).begun_here:
        ways["undo"] = "undo what this step changed"
    if up:
        ways["escalate"] = f"continue with the plan's next level: {_level(run, up)}"
    if run.context.plan.troubles:
        ways["troubleshoot"] = f"look for a known cause, with the notebook {TROUBLESHOOTING}"
    ways["stop"] = "leave everything as it is, and end this cell with the error"
    return ways


def consequences(run: Run, name: str) -> dict[str, str]:
    """The effect of each choice on the outage, in one line. Read-only."""
    plan = run.context.plan
    way = recovery.recover(run) if run.context.type else RecoveryPath()
    down = "Some services stay down until then." if way.moves or way.blocked else display.ALL_RUN
    means = {
        "retry": f"{estimates.roughly(plan.steps[name].estimate).capitalize()}, as planned. {down}",
        "undo": f"Earlier steps stay done. {down}",
        "troubleshoot": f"Changes nothing; this question waits. {down}",
        "stop": display.recovery_in_short(way, plan),
    }
    if (up := next_level(run)) in plan.types:
        means["escalate"] = estimates.planned(*estimates.ways(plan, plan.carried_out(up)))
    return means


def next_level(run: Run) -> str:
    """The next level of the plan's escalation after the run's type, "" after the last. Read-only."""
    ladder = run.context.plan.escalation
    above = ladder[ladder.index(run.context.type) + 1 :] if run.context.type in ladder else ladder[-1:]
    return above[0] if above else ""


def labelled(run: Run, name: str, error: RunbookError) -> Shown:
    """What happened, the state of the system, and the safe next action. Read-only."""
    rows = [
        ["What happened", error.what],
        ["Where", error.where or run.context.target.name],
        ["State of the system", error.state or "The step may be half done."],
        ["Safe next", error.safe_next or "Run the cell again: the step is probed before it continues."],
        *([["Contacts", _contacts(run)]] if _contacts(run) else []),
    ]
    return display.table(f"✘ FAILED: {run.context.plan.steps[name].title}", ["", ""], rows)


def escalate(run: Run, name: str, error: RunbookError) -> Shown:
    """Hand the run to the plan's next level, keeping finished steps; journaled."""
    up, because = next_level(run), f"{run.context.plan.steps[name].title}: {error.what}"
    if up not in run.context.plan.types:
        run.journal.append("noted", text=f"Escalated to {up}: {because}")
        return display.line(f"Call {up} now. {_contacts(run)}")
    run.go_on_as(up, because)
    notebook = lifecycle.notebook_of(run.context.plan, up)
    said = display.line(f"This run continues as {up}. Next: open {notebook}, RUN = {run.folder.label}. {_contacts(run)}")
    return display.side_by_side(said, next_notebook.opened(run))


async def _next(run: Run, name: str, error: RunbookError) -> step_runner.Act:
    """Ask what to do next; an interrupt, or a choice that ends the cell, raises the error."""
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
                show(display.line(f"Next: open {TROUBLESHOOTING}, RUN = {run.folder.label}. Then choose here."))
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
