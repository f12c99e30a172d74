"""What a notebook's cells call: one function an action, each showing what it did, attended or headless."""

from __future__ import annotations

from pathlib import Path

from IPython.display import display as show

from runbook_lib import archive, closing, display, leasing, loop, opening
from runbook_lib.display import Shown
from runbook_lib.errors import ParametersError, RunbookError
from runbook_lib.results import not_passed
from runbook_lib.run import Run
from runbook_lib.seat import acting, cells, confirming, failing, live, mirroring, reviewing, telling
from runbook_lib.seat.asking import asked
from runbook_lib.seat.beside import beside
from runbook_lib.seat.choosing import choose, choose_details
from runbook_lib.seat.journaling import journaled
from runbook_lib.seat.returning import walk_back, way_back
from runbook_lib.seat.triaging import investigate, monitor, recommended, symptoms
from runbook_lib.seat.troubleshooting import choose_trouble, diagnose, fix
from runbook_lib.widgets import attended, confirmation

__all__ = [
    "apply", "approve", "approve_again", "check_prerequisites", "choose", "choose_details", "choose_trouble", "close",
    "compare", "diagnose", "escalate", "fix", "follow_ups", "handover", "investigate", "look_before", "monitor", "note",
    "notify", "open_run", "preview", "recommended", "resume", "rollback_log", "status", "symptoms", "take_over", "timeline",
    "undo", "verify", "walk_back", "way_back",
]  # fmt: skip


async def open_run(
    plan: str,
    target: str,
    *,
    type: str = "",
    run: str = "",
    option: str = "A",
    operator: str = "",
    reason: str = "",
    incident: str = "",
    waive: str = "",
) -> Run:
    """Begin a run, or take up the one whose folder `run` names, and show its banner.

    Raises:
        ParametersError: Anything about the parameters is wrong; nothing was touched.
    """
    if run:
        opened = opening.open_existing(Path(run), operator)
        _require_type(opened, type)
    else:
        opened = opening.open_new(
            Path(plan), _target_file(target), type, option=option, operator=operator, reason=reason, incident=incident
        )
    if waive:
        name, _, why = waive.partition(":")
        opened.waive(name.strip(), why.strip())
    return _seated(opened)


async def resume(run: str, operator: str = "") -> Run:
    """Take up the run whose folder `run` names, and show its banner.

    Raises:
        ParametersError: The folder holds no run.
    """
    if not run:
        raise ParametersError("RUN is empty.", state="Nothing was touched.", safe_next="Name a folder below outputs/.")
    return _seated(opening.open_existing(Path(run), operator))


@journaled
async def check_prerequisites(run: Run) -> Shown:
    """Look at all that must hold before any downtime; anything but PASS stops here. Read-only."""
    return display.results(await beside(run, "Prerequisites", run.prerequisites), "Prerequisites")


@journaled
async def look_before(run: Run) -> Shown:
    """The users' page as it is before the first change; what is broken here stops nothing. Read-only."""
    await beside(run, "Looking at the page", run.look_before)
    found = display.results(run.recorded("before"), "Before the first change")
    return display.beside(found, display.pictures(run.folder, run.state, "before"))


@journaled
async def preview(run: Run) -> Shown:
    """What each step would change, lose and lock, and the digest to approve. Read-only."""
    return await _previewed(run)


@journaled
async def approve(run: Run, value: str) -> Shown:
    """Approve all that the latest preview shows, or an earlier one that has not drifted.

    Headless, that is the digest; a person types the digest too, on production the target's name.
    """
    previews, target = run.state.previews, run.context.target
    digest = value if value in previews else next(reversed(previews), "")
    answer = target.name if target.is_production and attended() else digest
    if attended() and digest and run.state.approved == digest:
        await _approved(run, digest, run.context.operator)  # stands, unless something has drifted
        return display.line(f"APPROVED {digest}, as before")
    question = f"Carry out preview {digest} on {target.name}?"
    with asked(run, question):
        by = await confirmation(question, answer, value)
    await _approved(run, digest, run.context.operator or by)
    return display.line(f"APPROVED {digest}")


@journaled
async def approve_again(run: Run, value: str) -> Shown:
    """Ask anew where what was approved has drifted, as the loss does once it is counted; elsewhere the approval stands."""
    if await beside(run, "Looking whether anything has drifted", run.is_still_approved):
        return display.line(f"APPROVED {run.state.approved}, as before: nothing has drifted")
    show(await _previewed(run))
    return await approve(run, value)


@journaled
async def apply(run: Run, step: str) -> Shown:
    """Carry out one step, unless it is done already or belongs to another option. Changes the target."""
    spec, option = run.context.plan.steps.get(step), run.context.option
    if spec and spec.options and option not in spec.options:
        return display.line(f"{spec.title}: not part of option {option}")
    await confirming.confirmed(run, step)
    return display.done(await failing.applied(run, step))


@journaled
async def undo(run: Run, step: str) -> Shown:
    """Put back what one step changed. Changes the target."""
    await confirming.confirmed(run, step, undo=True)
    return display.done(await acting.carried_out(run, step, loop.undo))


@journaled
async def take_over(run: Run, reason: str) -> Shown:
    """Take the target from a run that was left behind, for a reason that stays on record."""
    leasing.take_over(run, reason)
    return display.line(run.state.takeovers[-1]["before"] if run.state.takeovers else "No other run has the target.")


@journaled
async def handover(run: Run, to: str) -> Shown:
    """Hand the run over to another engineer, at a change of shift; both names stay on record."""
    before = mirroring.hand_over(run, to)
    return display.line(f"HANDED OVER by {before or 'nobody named'} to {run.context.operator}: {run.folder.told}")


@journaled
async def verify(run: Run) -> Shown:
    """The whole checklist; anything but PASS stops here, unless the plan's ladder goes on from it. Read-only."""
    found = await beside(run, "Verification", lambda: closing.verify(run))
    results = display.results(found, "Verification", run.state.waivers)
    shown = display.beside(results, display.before_and_after(run.folder, run.state))
    if not_passed(found) and not run.escalation():
        show(shown)
        run.require(found)
    return shown


@journaled
async def escalate(run: Run) -> Shown:
    """Go on to the next type of the plan's ladder in this run, where the checks call for it."""
    if not run.escalation():
        return display.line("No escalation is called for.")
    to = run.escalate()
    because = run.state.escalations[-1]["because"]
    notebook = run.context.plan.types[to].notebook
    return display.line(f"This rollback is not enough ({because}). Go on with {notebook}, RUN = {run.folder.told}")


@journaled
async def compare(run: Run) -> Shown:
    """Before and after of the data, side by side, kept in the evidence. Read-only."""
    return reviewing.compared(run)


def timeline(run: Run) -> Shown:
    """The steps against their budgets, kept in the evidence. Read-only."""
    return reviewing.timeline(run)


@journaled
async def notify(run: Run, moment: str) -> Shown:
    """The text that tells the team of the "start" or the "end" of the rollback, ready to send. Read-only."""
    return telling.message(run, moment)


@journaled
async def note(run: Run, text: str) -> Shown:
    """Add a remark to the record, where there is any text."""
    if text:
        run.journal.append("noted", text=text)
    return display.line(text or "No notes.")


def rollback_log(run: Run) -> Shown:
    """The plan's log template and the draft of a postmortem, filled in from the journal and kept in the run folder."""
    events, state, plan = run.journal.events(), run.state, run.context.plan
    log = archive.write_log(run.folder, plan, state, events)
    draft = run.folder.write_text("postmortem.md", telling.postmortem(plan, state, events))
    return display.beside(*(display.block(file.read_text(encoding="utf-8")) for file in (log, draft)))


def follow_ups(run: Run) -> Shown:
    """What is still owed, and what the plan wants done once the rollback is over. Read-only."""
    owed = [f"pay what is owed, by `runbook purge`: {debt['text']}" for debt in run.state.debts.values()]
    return display.table("What follows", ["to do"], [[f"☐ {text}"] for text in [*owed, *run.context.plan.follow_ups]])


def status(run: Run) -> Shown:
    """The banner, the steps and the outcome, as the journal tells them now. Read-only."""
    return display.status(run.folder, run.context.plan, run.state)


@journaled
async def close(run: Run) -> Shown:
    """Record the outcome, and write log, report and manifest."""
    ended = closing.close(run)
    if attended():  # elsewhere the conductor writes it, once the notebook is saved
        closing.write_archive(run)
    shown = display.outcome(ended, run.state)
    mirroring.send(run)
    run.close_adapters()
    if ended.status not in closing.ENDED_WELL:
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
        run.context.browser.warm()
    else:
        run.begin_look_before()
    cells.watch(run, live.begin(run))
    mirroring.begin(run)
    return run


async def _approved(run: Run, digest: str, by: str) -> None:
    await beside(run, "Looking whether anything has drifted", lambda: run.approve(digest, by))


async def _previewed(run: Run) -> Shown:
    digest, found = await beside(run, "Preview", run.previews)
    return display.previews(digest, found, run.tried(digest))


def _require_type(run: Run, type_name: str) -> None:
    if not type_name:
        return
    wanted = run.context.plan.carried_out(type_name)
    if not run.context.type:
        run.choose("TYPE", wanted, "parameter")
    elif run.context.plan.types[run.context.type].notebook != run.context.plan.types[wanted].notebook:
        raise ParametersError(
            f"This run is of the type {run.context.type}, and this notebook carries out {wanted}.",
            where=str(run.folder.path),
            state="Nothing was changed.",
            safe_next=f"Open {run.context.plan.types[run.context.type].notebook}, or escalate there.",
        )


def _target_file(target: str) -> Path:
    return Path(target) if target.endswith((".yaml", ".yml")) else Path("parameters") / f"{target}.yaml"
