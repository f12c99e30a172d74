"""What a notebook's cells call: one function an action, each showing what it did, attended or headless."""

from __future__ import annotations

import threading
from pathlib import Path

from IPython.display import display as show

from runbook_lib import report
from runbook_lib.context import comparison
from runbook_lib.errors import ParametersError, RunbookError
from runbook_lib.results import not_passed
from runbook_lib.run import Run, cleanup, engine, lease, lifecycle
from runbook_lib.run import undo as undoing_run
from runbook_lib.run.approval import named_reason
from runbook_lib.ui import banner, cells, display, failure_menu, messages, mirror, review, step_runner
from runbook_lib.ui import next_notebook as following
from runbook_lib.ui import widgets as confirming
from runbook_lib.ui.cells import journaled
from runbook_lib.ui.display import Shown
from runbook_lib.ui.step_runner import in_background, walk_back, way_back
from runbook_lib.ui.triage_cells import (
    choose,
    choose_details,
    choose_trouble,
    diagnose,
    fix,
    investigate,
    monitor,
    recommended,
    symptoms,
)
from runbook_lib.ui.widgets import asked, attended, confirmation

__all__ = [
    "apply", "approve", "approve_again", "check_prerequisites", "choose", "choose_details", "choose_trouble",
    "close", "compare", "diagnose", "end_run", "escalate", "fix", "follow_ups", "handover", "investigate",
    "look_before", "monitor", "next_notebook", "note", "notify", "open_run", "preview", "recommended", "resume",
    "rollback_log", "status", "symptoms", "take_over", "timeline", "undo", "undo_preview", "undo_run", "verify",
    "walk_back", "way_back",
]  # fmt: skip


async def open_run(
    plan: str,
    target: str,
    *,
    type: str = "",
    run: str = "",
    option: str = "",
    operator: str = "",
    reason: str = "",
    incident: str = "",
    waive: str = "",
) -> Run:
    """Begin a run, or take up the one whose folder `run` names, and show its banner.

    With an `option` the run is one of that option; without, it is A until another is chosen.

    Raises:
        ParametersError: Anything about the parameters is wrong; nothing was touched.
    """
    if run:
        opened = lifecycle.open_existing(Path(run), operator)
        _require_type(opened, type)
        _require_option(opened, option)
    else:
        opened = lifecycle.open_new(
            Path(plan), _target_file(target), type, option=option or "A", operator=operator, reason=reason, incident=incident
        )
    if waive:
        opened.waive(*named_reason(waive, opened.waivable()))
    return _seated(opened)


async def resume(run: str, operator: str = "") -> Run:
    """Take up the run whose folder `run` names, and show its banner.

    Raises:
        ParametersError: The folder holds no run.
    """
    if not run:
        raise ParametersError("RUN is empty.", state="Nothing was touched.", safe_next="Name a folder below outputs/.")
    return _seated(lifecycle.open_existing(Path(run), operator))


@journaled
async def check_prerequisites(run: Run) -> Shown:
    """Look at all that must hold before any downtime; anything but PASS stops here.

    Read-only, but for cleanup that a killed process left due at once.
    """
    await in_background(run, "Cleanup that is due at once", lambda: cleanup.clean_up_due(run))
    return display.results(await in_background(run, "Prerequisites", run.prerequisites), "Prerequisites")


@journaled
async def look_before(run: Run) -> Shown:
    """The users' page as it is before the first change; what is broken here stops nothing. Read-only."""
    await in_background(run, "Looking at the page", run.look_before)
    found = display.results(run.recorded("before"), "Before the first change")
    return display.side_by_side(found, display.pictures(run.folder, run.state, "before"))


@journaled
async def preview(run: Run) -> Shown:
    """What each step would change, lose and lock, and the digest to approve. Read-only."""
    return await _previewed(run)


@journaled
async def approve(run: Run, value: str) -> Shown:
    """Approve all that the latest preview shows, or an earlier one that has not drifted.

    Headless, that is the digest; a person types the digest too, on production the target's name.
    """
    state, target = run.state, run.context.target
    digest = value if value in state.previews else state.previewed
    answer = target.name if target.is_production and attended() else digest
    if attended() and digest and state.approved == digest:
        await _approved(run, digest, run.context.operator)  # stands, unless something has drifted
        return display.line(f"APPROVED {digest}, as before")
    question = f"Carry out preview {digest} on {target.name}?"
    with asked(run, question):
        by = await confirmation(question, answer, value)
    await _approved(run, digest, run.context.operator or by)
    return display.line(f"APPROVED {digest}")


@journaled
async def approve_again(run: Run, value: str) -> Shown:
    """Ask again where what was approved has drifted, as the loss does once it is counted; elsewhere the approval stands."""
    if await in_background(run, "Looking whether anything has drifted", run.is_still_approved):
        return display.line(f"APPROVED {run.state.approved}, as before: nothing has drifted")
    show(await _previewed(run))
    return await approve(run, value)


@journaled
async def apply(run: Run, step: str) -> Shown:
    """Carry out one step, unless it is done already, or not of this plan or option. Changes the target."""
    spec, option = run.context.plan.steps.get(step), run.context.option
    if spec is None:
        return display.line(f"{step}: not part of this plan")
    if spec.options and option not in spec.options:
        return display.line(f"{spec.title}: not part of option {option}")
    await confirming.confirmed(run, step)
    if not attended():
        run.expect_looks_after(step)
    return display.done(await failure_menu.applied(run, step))


@journaled
async def undo(run: Run, step: str) -> Shown:
    """Put back what one step changed. Changes the target."""
    await confirming.confirmed(run, step, undo=True)
    return display.done(await step_runner.run_step(run, step, engine.undo))


@journaled
async def undo_preview(run: Run, step: str = "") -> Shown:
    """What undoing the whole run, or one step, would do, and the digest to approve. Read-only."""
    return display.undo(await in_background(run, "Preview of the undo", lambda: undoing_run.offer(run, step)))


@journaled
async def undo_run(run: Run, value: str, step: str = "") -> Shown:
    """Undo the whole run, newest step first, or one step, once that is approved. Changes the target.

    Headless, the approval is the digest that `undo_preview` shows; a person types it, on production the target's name.
    """
    offered = await in_background(run, "Preview of the undo", lambda: undoing_run.offer(run, step))
    target = run.context.target
    answer = target.name if target.is_production and attended() else offered.digest
    question = f"Undo {offered.digest} on {target.name}?"
    with asked(run, question):
        await confirmation(question, answer, value)
    work = lambda: undoing_run.walk(run, offered, offered.digest)  # noqa: E731
    done, ended = await step_runner.walked(run, "Undo", offered.steps, work)
    return display.side_by_side(*map(display.done, done), *([display.outcome(ended, run.state)] if ended else []))


@journaled
async def end_run(run: Run, reason: str) -> Shown:
    """End a run that nobody will finish, for a reason that stays on record, and give its lease back."""
    return display.outcome(lifecycle.end(run, reason), run.state)


@journaled
async def take_over(run: Run, reason: str) -> Shown:
    """Take the target from a run that was left behind, for a reason that stays on record."""
    lease.take_over(run, reason)
    return display.line(run.state.takeovers[-1]["before"] if run.state.takeovers else "No other run has the target.")


@journaled
async def handover(run: Run, to: str) -> Shown:
    """Hand the run over to another engineer, at a change of shift; both names stay on record."""
    before = mirror.hand_over(run, to)
    return display.line(f"HANDED OVER by {before or 'nobody named'} to {run.context.operator}: {run.folder.label}")


@journaled
async def verify(run: Run) -> Shown:
    """The whole checklist; anything but PASS stops here, unless the plan's ladder goes on from it. Read-only."""
    found = await in_background(run, "Verification", lambda: lifecycle.verify(run))
    results = display.results(found, "Verification", run.state.waivers)
    shown = display.side_by_side(results, display.before_and_after(run.folder, run.state))
    if not_passed(found) and not run.escalation():
        show(shown)
        run.require(found)
    return shown


@journaled
async def next_notebook(run: Run) -> Shown:
    """Open the notebook of the rollback that was chosen; where it is made for this run, the option is asked first."""
    if following.is_served() and not run.state.steps and len(run.context.plan.types[run.context.type].options) > 1:
        await choose(run, "OPTION", run.context.option)
    return following.opened(run)


@journaled
async def escalate(run: Run) -> Shown:
    """Go on to the next type of the plan's ladder in this run, where the checks call for it."""
    if not run.escalation():
        return display.line("No escalation is called for.")
    to = run.escalate()
    because = run.state.escalations[-1]["because"]
    notebook = lifecycle.notebook_of(run.context.plan, to)
    enough = display.line(f"This rollback is not enough ({because}). Go on with {notebook}, RUN = {run.folder.label}")
    return display.side_by_side(enough, following.opened(run))


@journaled
async def compare(run: Run) -> Shown:
    """Before and after of the data, side by side, kept in the evidence. Read-only."""
    return review.compared(run)


def timeline(run: Run) -> Shown:
    """The steps against their budgets, kept in the evidence. Read-only."""
    return review.timeline(run)


@journaled
async def notify(run: Run, moment: str) -> Shown:
    """The text that tells the team of the "start" or the "end" of the rollback, ready to send. Read-only."""
    return messages.message(run, moment)


@journaled
async def note(run: Run, text: str) -> Shown:
    """Add a remark to the record, where there is any text."""
    if text:
        run.journal.append("noted", text=text)
    return display.line(text or "No notes.")


def rollback_log(run: Run) -> Shown:
    """The plan's log template and the draft of a postmortem, filled in from the journal and kept in the run folder."""
    events, state, plan = run.journal.events(), run.state, run.context.plan
    log = report.write_log(run.folder, plan, state, events)
    draft = run.folder.write_text("postmortem.md", messages.postmortem(plan, state, events))
    return display.side_by_side(*(display.block(file.read_text(encoding="utf-8")) for file in (log, draft)))


def follow_ups(run: Run) -> Shown:
    """The pending cleanup, and what the plan wants done once the rollback is over. Read-only."""
    pending = [f"clean up, by `runbook purge`: {item['text']}" for item in run.state.pending.values()]
    return display.table("What follows", ["to do"], [[f"☐ {text}"] for text in [*pending, *run.context.plan.follow_ups]])


def status(run: Run) -> Shown:
    """Show what happened, is it over, what was lost, what is pending, and every step, from the journal. Read-only."""
    return display.status(run.folder, run.context.plan, run.state, run.journal.events(), verbose=True)


@journaled
async def close(run: Run) -> Shown:
    """Record the outcome, and write log, report and manifest."""
    ended = lifecycle.close(run)
    if attended():  # elsewhere the conductor writes it, once the notebook is saved
        lifecycle.write_archive(run)
    shown = display.outcome(ended, run.state)
    mirror.send(run)
    run.close_adapters()
    if ended.status not in lifecycle.ENDED_WELL:
        show(shown)
        raise RunbookError(
            f"The rollback is not verified: {ended.summary}",
            where=str(run.folder.path),
            state="What was done is in the journal and the report.",
            safe_next="Read the report; mend the cause and run the notebook again in this run folder.",
        )
    return shown


def _seated(run: Run) -> Run:
    """A run that was just opened here, its banner shown, its cells and its journal followed from now on."""
    if attended():
        run.context.adapters.browser.warm()
    else:
        run.begin_look_before()
        if run.touches_database:
            threading.Thread(target=comparison.load, name="tables").start()  # while steps wait there is time for it
    cells.watch(run, banner.begin(run))
    mirror.begin(run)
    return run


async def _approved(run: Run, digest: str, by: str) -> None:
    await in_background(run, "Looking whether anything has drifted", lambda: run.approve(digest, by))


async def _previewed(run: Run) -> Shown:
    digest, found = await in_background(run, "Preview", run.previews)
    return display.previews(digest, found, run.dry_run_of_ddl(digest), run.foreseen(digest), run.state.waivers)


def _require_type(run: Run, type_name: str) -> None:
    if not type_name:
        return
    plan, wanted = run.context.plan, run.context.plan.carried_out(type_name)
    if not run.context.type:
        run.choose("TYPE", wanted, "parameter")
    elif lifecycle.notebook_of(plan, run.context.type) != lifecycle.notebook_of(plan, wanted):
        raise ParametersError(
            f"This run is of the type {run.context.type}, and this notebook carries out {wanted}.",
            where=str(run.folder.path),
            state="Nothing was changed.",
            safe_next=f"Open {lifecycle.notebook_of(plan, run.context.type)}, or escalate there.",
        )


def _require_option(run: Run, option: str) -> None:
    if not option:
        return
    begun = bool(run.state.steps)
    if begun and option != run.context.option:
        raise ParametersError(
            f"This run is of option {run.context.option}, and this notebook executes option {option}.",
            where=str(run.folder.path),
            state="Nothing was changed.",
            safe_next=f"Open the notebook of option {run.context.option}, or begin a new run.",
        )
    if not begun:
        run.choose("OPTION", option, "parameter")


def _target_file(target: str) -> Path:
    return Path(target) if target.endswith((".yaml", ".yml")) else Path("parameters") / f"{target}.yaml"
