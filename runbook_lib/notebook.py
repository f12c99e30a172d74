"""The functions that a notebook's cells call: each does one action and shows its result, attended or headless.

In the examples, PLAN and TARGET are the parameters of the notebook. A test runs them in the order of a
rollback; “…” replaces what differs between runs.
"""

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
from runbook_lib.ui.step_runner import in_background, recover, recovery_path
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
    "look_before", "monitor", "next_notebook", "note", "notify", "open_run", "preview", "recommended", "recover",
    "recovery_path", "resume", "rollback_log", "status", "symptoms", "take_over", "timeline", "undo", "undo_preview",
    "undo_run", "verify",
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
    """Begin a run, or resume the one in the folder `run`, and show its banner. Read-only.

    With an `option` the run has that option; without, it has option A until another is chosen.

    Raises:
        ParametersError: A parameter is wrong; nothing was touched.

    Example:
        >>> run = await open_run(PLAN, TARGET, operator="Dana", reason="No pictures", incident="INC-7")
        … rehearsal (REHEARSAL) …
        … INC-7 …
        …
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
    """Resume the run in the folder `run`, and show its banner. Read-only.

    Raises:
        ParametersError: The folder holds no run.

    Example:
        >>> run = await resume(run.folder.label, operator="Kim")
        … rehearsal (REHEARSAL) …
        … Kim …
        …
    """
    if not run:
        raise ParametersError(
            "RUN is empty.",
            state="Nothing was touched.",
            safe_next="Set RUN to a run folder below outputs/. `runbook list` names them.",
        )
    return _seated(lifecycle.open_existing(Path(run), operator))


@journaled
async def check_prerequisites(run: Run) -> Shown:
    """Check everything that must hold before any downtime; any result but PASS stops here.

    Read-only, except for urgent cleanup that a killed process left.

    Example:
        >>> await check_prerequisites(run)
        Prerequisites: 14 of 14 PASS
          result | check | what was found
          ✔ PASS | …
    """
    await in_background(run, "Urgent cleanup", lambda: cleanup.clean_up_due(run))
    return display.results(await in_background(run, "Prerequisites", run.prerequisites), "Prerequisites")


@journaled
async def look_before(run: Run) -> Shown:
    """Look at the users' page before the first change; a failure here stops nothing. Read-only.

    Example:
        >>> await look_before(run)
        Before the first change: 3 of 5 PASS
          result | check | what was found
          ✘ FAIL | …
        screenshot evidence/…-before.png
        …
    """
    await in_background(run, "Looking at the page", run.look_before)
    found = display.results(run.recorded("before"), "Before the first change")
    return display.side_by_side(found, display.pictures(run.folder, run.state, "before"))


@journaled
async def preview(run: Run) -> Shown:
    """Show what each step would change, lose and lock, and the digest to approve. Read-only.

    Example:
        >>> await preview(run)
        Preview … (nothing was changed)
          step | would | loses | locks | undone by | estimate
          Freeze deploys, autoscalers and consumers | freeze deploys | nothing | none | …
    """
    return await _previewed(run)


@journaled
async def approve(run: Run, value: str) -> Shown:
    """Approve the latest preview, or an earlier one that has not drifted.

    Headless, `value` is the digest. A person types the digest, or on production the target's name.

    Example:
        >>> await approve(run, run.state.previewed)
        Execute preview … on rehearsal? … (parameter)
        APPROVED …
    """
    state, target = run.state, run.context.target
    digest = value if value in state.previews else state.previewed
    answer = target.name if target.is_production and attended() else digest
    if attended() and digest and state.approved == digest:
        await _approved(run, digest, run.context.operator)  # refused if something has drifted
        return display.line(f"APPROVED {digest}, as before")
    question = f"Execute preview {digest} on {target.name}?"
    with asked(run, question):
        by = await confirmation(question, answer, value)
    await _approved(run, digest, run.context.operator or by)
    return display.line(f"APPROVED {digest}")


@journaled
async def approve_again(run: Run, value: str) -> Shown:
    """Ask for a new approval if the approved preview has drifted, for example once the loss is counted.

    Example:
        >>> await approve_again(run, run.state.previewed)
        APPROVED …, as before: nothing has drifted
    """
    if await in_background(run, "Checking for drift", run.is_still_approved):
        return display.line(f"APPROVED {run.state.approved}, as before: nothing has drifted")
    show(await _previewed(run))
    return await approve(run, value)


@journaled
async def apply(run: Run, step: str) -> Shown:
    """Execute one step, unless it is done already, or not part of this plan or option. Changes the target.

    Example:
        >>> await apply(run, "freeze")
        Freeze deploys, autoscalers and consumers: done (… s, planned 10 s): frozen: deploys
        Verified: 1 of 1 PASS
          result | check | what was found
          ✔ PASS | … | deploys
    """
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
    """Undo what one step changed. Changes the target.

    Example:
        >>> await undo(run, "freeze")
        Freeze deploys, autoscalers and consumers: undone (… s, planned 10 s): released: deploys
    """
    await confirming.confirmed(run, step, undo=True)
    return display.done(await step_runner.run_step(run, step, engine.undo))


@journaled
async def undo_preview(run: Run, step: str = "") -> Shown:
    """Show what undoing the whole run, or one step, would do, and the digest to approve. Read-only.

    Example:
        >>> preview_of_undo = await undo_preview(run, "release")
        >>> print(preview_of_undo)
        Undo … (nothing was changed)
          step | would | leaves unchanged | cannot, because | estimate
          Release what was frozen | … | nothing |  | 10 s
    """
    return display.undo(await in_background(run, "Preview of the undo", lambda: undoing_run.offer(run, step)))


@journaled
async def undo_run(run: Run, value: str, step: str = "") -> Shown:
    """Undo the whole run, newest step first, or one step, once approved. Changes the target.

    Headless, `value` is the digest that `undo_preview` shows. A person types it, or on production the target's name.

    Example:
        >>> digest = str(preview_of_undo).split()[1]
        >>> await undo_run(run, digest, "release")
        Undo … on rehearsal? … (parameter)
        Release what was frozen: undone (… s, planned 10 s): frozen: deploys
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
    """End a run that nobody will finish, with a recorded reason, and release its lease.

    Changes only the target's lease.

    Example:
        >>> await end_run(run, "The release was fixed by hand")
        ENDED: ended by Dana: The release was fixed by hand…
    """
    return display.outcome(lifecycle.end(run, reason), run.state)


@journaled
async def take_over(run: Run, reason: str) -> Shown:
    """Take the target's lease from an abandoned run, with a recorded reason.

    Changes only the target's lease.

    Example:
        >>> await take_over(run, "Kim has left the shift")
        Kim on …, run …, since … UTC
    """
    lease.take_over(run, reason)
    return display.line(run.state.takeovers[-1]["before"] if run.state.takeovers else "No other run has the target.")


@journaled
async def handover(run: Run, to: str) -> Shown:
    """Hand the run over to another engineer, and record both names.

    Changes only the runbook's own table in the target.

    Example:
        >>> await handover(run, "Kim")
        HANDED OVER by Dana to Kim: …
    """
    before = mirror.hand_over(run, to)
    return display.line(f"HANDED OVER by {before or 'nobody named'} to {run.context.operator}: {run.folder.label}")


@journaled
async def verify(run: Run) -> Shown:
    """Run the whole checklist; any result but PASS stops here, unless the plan escalates on it. Read-only.

    Example:
        >>> for step in run.steps:
        ...     done = await apply(run, step)
        >>> await verify(run)
        Verification: 14 of 14 PASS
          result | check | what was found
          ✔ PASS | …
        screenshots evidence/…-before.png | evidence/…-after.png
        …
    """
    found = await in_background(run, "Verification", lambda: lifecycle.verify(run))
    results = display.results(found, "Verification", run.state.waivers)
    shown = display.side_by_side(results, display.before_and_after(run.folder, run.state))
    if not_passed(found) and not run.escalation():
        show(shown)
        run.require(found)
    return shown


@journaled
async def next_notebook(run: Run) -> Shown:
    """Open the notebook of the chosen rollback; under `runbook lab`, ask for the option first. Read-only.

    Example:
        >>> await next_notebook(run)
        Next: open 03-full-rollback, RUN = …
    """
    if following.is_served() and not run.state.steps and len(run.context.plan.types[run.context.type].options) > 1:
        await choose(run, "OPTION", run.context.option)
    return following.opened(run)


@journaled
async def escalate(run: Run) -> Shown:
    """Continue this run with the plan's next rollback type, if the checks require it. Read-only.

    Example:
        >>> await escalate(run)
        No escalation is needed.
    """
    if not run.escalation():
        return display.line("No escalation is needed.")
    to = run.escalate()
    because = run.state.escalations[-1]["because"]
    notebook = lifecycle.notebook_of(run.context.plan, to)
    enough = display.line(f"This rollback is not enough ({because}). Next: open {notebook}, RUN = {run.folder.label}")
    return display.side_by_side(enough, following.opened(run))


@journaled
async def compare(run: Run) -> Shown:
    """Compare the data before and after the rollback, and keep the tables as evidence. Read-only.

    Example:
        >>> await compare(run)
        Rows of …
          kind | before | after | change | shown by old code
        …
        chart: Rows before (outlined) and after (filled)
        …
    """
    return review.compared(run)


def timeline(run: Run) -> Shown:
    """Compare the time of each step with its budget, and keep the chart as evidence. Read-only.

    Example:
        >>> timeline(run)
        Steps and their budgets (outlined)
           | step | began after | took | budget |
          1 | Freeze deploys, autoscalers and consumers | 0.0 s | … | 10 s | within
        …
        chart: Steps and their budgets (outlined)
    """
    return review.timeline(run)


@journaled
async def notify(run: Run, moment: str) -> Shown:
    """Show the message to the team at the "start" or the "end" of the rollback, ready to send. Read-only.

    Example:
        >>> await notify(run, "start")
        To send now, to On-Call Engineer: …:
        ROLLBACK STARTS: … on rehearsal (rehearsal)
        Incident: INC-7. Reason: No pictures.
        …
    """
    return messages.message(run, moment)


@journaled
async def note(run: Run, text: str) -> Shown:
    """Record a note of the operator, unless the text is empty. Read-only.

    Example:
        >>> await note(run, "Pictures are gone since 12:03")
        Pictures are gone since 12:03
    """
    if text:
        run.journal.append("noted", text=text)
    return display.line(text or "No notes.")


def rollback_log(run: Run) -> Shown:
    """Fill in the plan's log template and the draft of a postmortem from the journal, in the run folder. Read-only.

    Example:
        >>> rollback_log(run)
        …
        # Postmortem (draft): …
    """
    events, state, plan = run.journal.events(), run.state, run.context.plan
    log = report.write_log(run.folder, plan, state, events)
    draft = run.folder.write_text("postmortem.md", messages.postmortem(plan, state, events))
    return display.side_by_side(*(display.block(file.read_text(encoding="utf-8")) for file in (log, draft)))


def follow_ups(run: Run) -> Shown:
    """List the pending cleanup, and the plan's tasks after the rollback. Read-only.

    Example:
        >>> follow_ups(run)
        What follows
          to do
          ☐ clean up with `runbook purge`: …
    """
    pending = [f"clean up with `runbook purge`: {item['text']}" for item in run.state.pending.values()]
    return display.table("What follows", ["to do"], [[f"☐ {text}"] for text in [*pending, *run.context.plan.follow_ups]])


def status(run: Run) -> Shown:
    """Show what happened, whether it is over, what was lost, what is pending, and every step. Read-only.

    Example:
        >>> status(run)
        …
          done | Freeze deploys, autoscalers and consumers | …
        …
    """
    return display.status(run.folder, run.context.plan, run.state, run.journal.events(), verbose=True)


@journaled
async def close(run: Run) -> Shown:
    """Record the outcome, and write log, report and manifest. Changes only the target's lease.

    Raises:
        RunbookError: The rollback is not verified.

    Example:
        >>> await close(run)
        VERIFIED: all 13 steps done, all 14 checks passed
        PENDING CLEANUP: …
    """
    ended = lifecycle.close(run)
    if attended():  # headless, the conductor writes it once the notebook is saved
        lifecycle.write_archive(run)
    shown = display.outcome(ended, run.state)
    mirror.send(run)
    run.close_adapters()
    if ended.status not in lifecycle.ENDED_WELL:
        show(shown)
        raise RunbookError(
            f"The rollback is not verified: {ended.summary}",
            where=str(run.folder.path),
            state="Finished steps stay done; the journal and the report list them.",
            safe_next=f"Read the report, fix the cause, then run the cells again from the one that failed. "
            f"To return to before the run: runbook undo {run.folder.label}.",
        )
    return shown


def _seated(run: Run) -> Run:
    """Show the banner of a run that was just opened, and follow its cells and its journal from now on."""
    if attended():
        run.context.adapters.browser.warm()
    else:
        run.begin_look_before()
        if run.touches_database:
            threading.Thread(target=comparison.load, name="tables").start()  # while steps wait
    cells.watch(run, banner.begin(run))
    mirror.begin(run)
    return run


async def _approved(run: Run, digest: str, by: str) -> None:
    await in_background(run, "Checking for drift", lambda: run.approve(digest, by))


async def _previewed(run: Run) -> Shown:
    digest, found = await in_background(run, "Preview", run.previews)
    return display.previews(digest, found, run.dry_run_of_ddl(digest), run.foreseen(digest), run.state.waivers)


def _require_type(run: Run, type_name: str) -> None:
    if not type_name:
        return
    plan, expected = run.context.plan, run.context.plan.carried_out(type_name)
    if not run.context.type:
        run.choose("TYPE", expected, "parameter")
    elif lifecycle.notebook_of(plan, run.context.type) != lifecycle.notebook_of(plan, expected):
        raise ParametersError(
            f"This run is of the type {run.context.type}, and this notebook executes {expected}.",
            where=str(run.folder.path),
            state="Nothing was changed.",
            safe_next=f"Open {lifecycle.notebook_of(plan, run.context.type)}, RUN = {run.folder.label}.",
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
            safe_next=f"Open the notebook of option {run.context.option}, or begin a new run with RUN empty.",
        )
    if not begun:
        run.choose("OPTION", option, "parameter")


def _target_file(target: str) -> Path:
    return Path(target) if target.endswith((".yaml", ".yml")) else Path("parameters") / f"{target}.yaml"
