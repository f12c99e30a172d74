"""What a notebook's cells call: one function an action, each showing what it did, attended or headless."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import ParamSpec, TypeVar

from IPython.display import display as show

from runbook_lib import (
    archive,
    closing,
    details,
    display,
    leasing,
    loop,
    monitoring,
    opening,
    service_back,
    triage,
    troubles,
)
from runbook_lib.display import Shown
from runbook_lib.errors import Declined, ParametersError, RunbookError
from runbook_lib.results import not_passed
from runbook_lib.run import Run
from runbook_lib.seat import acting, cells, confirming, failing, live, mirroring, reviewing, telling
from runbook_lib.seat.asking import asked
from runbook_lib.seat.options import compared as in_numbers
from runbook_lib.widgets import attended, choice, confirmation, reason

P = ParamSpec("P")
T = TypeVar("T")


def _journaled(action: Callable[P, Awaitable[T]]) -> Callable[P, Awaitable[T]]:
    """Have an error that ends a cell stand in the journal too."""

    @functools.wraps(action)
    async def wrapped(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return await action(*args, **kwargs)
        except RunbookError as error:
            run = args[0]
            assert isinstance(run, Run)
            run.journal.append("stopped", cell=action.__name__, exit_code=error.exit_code, error=str(error))
            live.updated(run)
            if not isinstance(error, Declined):
                _offer_way_back(run)
            raise

    return wrapped


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


@_journaled
async def choose(run: Run, name: str, value: str, override: str = "", *, again: bool = False) -> str:
    """Choose the rollback TYPE or the OPTION, and leave one static line that says what and by whom.

    A type other than the one that triage recommended needs a reason: typed, or headless as `override`.
    """
    plan = run.context.plan
    if name == "TYPE":
        options = plan.rollbacks
    elif name == "OPTION":
        options = plan.types[run.context.type].options
        if attended() and len(options) > 1:
            show(in_numbers(run))
        value = next(iter(options)) if len(options) == 1 else value
    else:
        raise ParametersError(f"There is no choice named {name}.", state="Nothing was changed.", safe_next="TYPE or OPTION.")
    if before := confirming.chosen_before(run, name, options, again):
        return before
    with asked(run, name):
        chosen, by = await choice(name, options, value)
    if name == "TYPE":
        if chosen != (advised := recommended(run)) and triaged(run):
            question = f"Why {chosen} and not what triage recommends ({advised or 'nothing'})?"
            run.override(advised, chosen, await reason("OVERRIDE", question, override))
        carried_out = plan.carried_out(chosen)
        if carried_out != chosen:
            why = f"{plan.types[chosen].because} By the compatibility table, {plan.alone(chosen)}."
            show(display.line(f"{plan.types[chosen].title} is carried out as {carried_out}: {why}"))
        run.choose("TYPE", carried_out, by)
    else:
        run.choose(name, chosen, by)
    return chosen


@_journaled
async def choose_details(run: Run, values: str, *, again: bool = False) -> dict[str, str]:
    """Choose what else the option leaves open; headless, `values` ("NAME=value, …") says what differs from the plan."""
    wanted = details.read(values)
    details.require_known(wanted, run.details())
    made = {}
    for name, (options, planned) in run.details().items():
        if before := confirming.chosen_before(run, name, options, again):
            made[name] = before
            continue
        with asked(run, name):
            made[name], by = await choice(name, options, wanted.get(name, planned))
        run.choose(name, made[name], by)
    return made


@_journaled
async def symptoms(run: Run) -> Shown:
    """Probe the symptoms of the plan's decision matrix and say which rollback they ask for. Read-only."""
    found = run.observe("triage", triage.checks_needed(run.context.plan))
    advice = triage.recommend(run.context.plan, found)
    run.journal.append(
        "recommended", type=advice.type, reason=advice.reason, symptom=advice.row.symptom if advice.row else ""
    )
    return display.beside(display.results(found, "Symptoms"), display.recommendation(advice, run.context.plan))


@_journaled
async def investigate(run: Run) -> Shown:
    """Where the matrix says “investigate first”: the findings that confirm the rollback, or clear it. Read-only."""
    row = monitoring.row_for(run, "investigate first")
    if row is None:
        return display.line("No investigation is called for.")
    found, verdict = monitoring.investigate(run, row)
    return display.beside(display.results(found, f"Findings on “{row.symptom}”"), display.advice(verdict))


@_journaled
async def monitor(run: Run, values: str = "") -> Shown:
    """Where the matrix says “monitor”: its checks again and again, shown as they come, until they tell. Read-only.

    `values` ("EVERY=5, LASTS=60, FAILURES=2") says what differs from the plan.
    """
    row = monitoring.row_for(run, "monitor")
    if row is None:
        return display.line("No monitoring is called for.")
    planned = monitoring.planned(row, details.read(values))
    handle = show(display.line(f"Watching “{row.symptom}” every {planned.every} s for {planned.lasts} s …"), display_id=True)
    shown = display.line("")
    async for watch in monitoring.watch(run, row, planned):
        shown = display.watch(watch)
        if handle is not None:
            handle.update(shown)
    assert watch.verdict is not None
    return display.advice(watch.verdict) if handle is not None else shown


@_journaled
async def diagnose(run: Run) -> Shown:
    """Look for each of the plan's troubles: what was seen, and what would mend it. Read-only."""
    plan = run.context.plan
    found = troubles.diagnose(plan, run.observe("diagnosis", troubles.checks_needed(plan)))
    there = [each.name for each in found if each.there == "yes"]
    run.journal.append("diagnosed", troubles=there, text="; ".join(plan.troubles[name].title for name in there) or "none")
    return display.diagnoses(plan, found)


@_journaled
async def choose_trouble(run: Run, value: str = "") -> Shown:
    """Choose the trouble to mend: by the parameter, else the one that was found alone; a run that has a type keeps it."""
    plan = run.context.plan
    if not run.context.type:
        found: list[str] = next((e.data["troubles"] for e in reversed(run.journal.events()) if e.kind == "diagnosed"), [])
        options = {name: trouble.title for name, trouble in plan.troubles.items()}
        chosen, by = await choice("TROUBLE", options, value or (found[0] if len(found) == 1 else ""))
        run.choose("TYPE", plan.carried_out(plan.troubles[chosen].fix), by)
    kind = plan.types[run.context.type]
    if kind.notebook != failing.TROUBLESHOOTING:
        raise Declined(
            f"{kind.title} is carried out by the notebook {kind.notebook}.",
            where=str(run.folder.path),
            state="Nothing was changed.",
            safe_next=f"Open {kind.notebook}, and give it RUN = {run.folder.path}.",
        )
    return display.line(f"To be carried out: {kind.title}")


@_journaled
async def fix(run: Run) -> Shown:
    """Carry out every step of the run's type, one after another. Changes the target."""
    return display.beside(*(display.done(loop.apply(run, name)) for name in run.steps))


def triaged(run: Run) -> bool:
    """Whether the symptoms were probed in this run. Read-only."""
    return any(event.kind == "recommended" for event in run.journal.events())


def recommended(run: Run) -> str:
    """The rollback type that the triage of this run recommends by now, "" for none. Read-only."""
    return next((e.data["type"] for e in reversed(run.journal.events()) if e.kind == "recommended"), "")


@_journaled
async def check_prerequisites(run: Run) -> Shown:
    """Look at all that must hold before any downtime; anything but PASS stops here. Read-only."""
    return display.results(run.prerequisites(), "Prerequisites")


@_journaled
async def look_before(run: Run) -> Shown:
    """The users' page as it is before the first change; what is broken here stops nothing. Read-only."""
    run.look_before()
    found = display.results(run.recorded("before"), "Before the first change")
    return display.beside(found, display.pictures(run.folder, run.state, "before"))


@_journaled
async def preview(run: Run) -> Shown:
    """What each step would change, lose and lock, and the digest to approve. Read-only."""
    return _previewed(run)


@_journaled
async def approve(run: Run, value: str) -> Shown:
    """Approve all that the latest preview shows, or an earlier one that has not drifted.

    Headless, that is the digest; a person types the digest too, on production the target's name.
    """
    previews, target = run.state.previews, run.context.target
    digest = value if value in previews else next(reversed(previews), "")
    answer = target.name if target.is_production and attended() else digest
    if attended() and digest and run.state.approved == digest:
        run.approve(digest, run.context.operator)  # stands, unless something has drifted
        return display.line(f"APPROVED {digest}, as before")
    question = f"Carry out preview {digest} on {target.name}?"
    with asked(run, question):
        by = await confirmation(question, answer, value)
    run.approve(digest, run.context.operator or by)
    return display.line(f"APPROVED {digest}")


@_journaled
async def approve_again(run: Run, value: str) -> Shown:
    """Ask anew where what was approved has drifted, as the loss does once it is counted; elsewhere the approval stands."""
    if run.is_still_approved():
        return display.line(f"APPROVED {run.state.approved}, as before: nothing has drifted")
    show(_previewed(run))
    return await approve(run, value)


@_journaled
async def apply(run: Run, step: str) -> Shown:
    """Carry out one step, unless it is done already or belongs to another option. Changes the target."""
    spec, option = run.context.plan.steps.get(step), run.context.option
    if spec and spec.options and option not in spec.options:
        return display.line(f"{spec.title}: not part of option {option}")
    await confirming.confirmed(run, step)
    return display.done(await failing.applied(run, step))


@_journaled
async def undo(run: Run, step: str) -> Shown:
    """Put back what one step changed. Changes the target."""
    await confirming.confirmed(run, step, undo=True)
    return display.done(await acting.carried_out(run, step, loop.undo))


@_journaled
async def way_back(run: Run) -> Shown:
    """The nearest way to services that run in an allowed combination, and the digest to approve. Read-only."""
    offered = service_back.offer(run)
    parts = [display.way(offered.way, run.context.plan, run.state)]
    if offered.previews:
        parts.append(display.previews(offered.previewed, offered.previews))
    return display.beside(*parts, display.line(f"Way {offered.digest}"))


@_journaled
async def walk_back(run: Run, value: str) -> Shown:
    """Walk that way once it is approved: headless by its digest, else by typing it, on production the target's name."""
    offered, target = service_back.offer(run), run.context.target
    if not offered.way.moves:
        return display.way(offered.way, run.context.plan, run.state)
    answer = target.name if target.is_production and attended() else offered.digest
    await confirmation(f"Walk the way {offered.digest} on {target.name}?", answer, value)
    done, ended = service_back.walk(run, offered, offered.digest)
    results = display.results(run.recorded(service_back.ROUND), "Services")
    return display.beside(*map(display.done, done), results, display.outcome(ended, run.state))


@_journaled
async def take_over(run: Run, reason: str) -> Shown:
    """Take the target from a run that was left behind, for a reason that stays on record."""
    leasing.take_over(run, reason)
    return display.line(run.state.takeovers[-1]["before"] if run.state.takeovers else "No other run has the target.")


@_journaled
async def handover(run: Run, to: str) -> Shown:
    """Hand the run over to another engineer, at a change of shift; both names stay on record."""
    before = mirroring.hand_over(run, to)
    return display.line(f"HANDED OVER by {before or 'nobody named'} to {run.context.operator}: {run.folder.path}")


@_journaled
async def verify(run: Run) -> Shown:
    """The whole checklist; anything but PASS stops here, unless the plan's ladder goes on from it. Read-only."""
    found = closing.verify(run)
    results = display.results(found, "Verification", run.state.waivers)
    shown = display.beside(results, display.before_and_after(run.folder, run.state))
    if not_passed(found) and not run.escalation():
        show(shown)
        run.require(found)
    return shown


@_journaled
async def escalate(run: Run) -> Shown:
    """Go on to the next type of the plan's ladder in this run, where the checks call for it."""
    if not run.escalation():
        return display.line("No escalation is called for.")
    to = run.escalate()
    because = run.state.escalations[-1]["because"]
    notebook = run.context.plan.types[to].notebook
    return display.line(f"This rollback is not enough ({because}). Go on with {notebook}, RUN = {run.folder.path}")


@_journaled
async def compare(run: Run) -> Shown:
    """Before and after of the data, side by side, kept in the evidence. Read-only."""
    return reviewing.compared(run)


def timeline(run: Run) -> Shown:
    """The steps against their budgets, kept in the evidence. Read-only."""
    return reviewing.timeline(run)


@_journaled
async def notify(run: Run, moment: str) -> Shown:
    """The text that tells the team of the "start" or the "end" of the rollback, ready to send. Read-only."""
    return telling.message(run, moment)


@_journaled
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


@_journaled
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
    run.context.browser.warm()
    cells.watch(run, live.begin(run))
    mirroring.begin(run)
    return run


def _previewed(run: Run) -> Shown:
    digest, found = run.previews()
    return display.previews(digest, found, run.tried(digest))


def _offer_way_back(run: Run) -> None:
    """Show the nearest way to services that are back, where they are not and there is one."""
    if run.context.type and (way := service_back.service_back(run)).moves:
        show(display.way(way, run.context.plan, run.state))
        show(display.line(f"To walk it: 08-service-back, or runbook service-back {run.folder.path}"))


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
