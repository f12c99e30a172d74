"""The cells in which something is chosen: the rollback type, the option, and what that leaves open."""

from __future__ import annotations

from IPython.display import display as show

from runbook_lib.errors import ParametersError, RunbookError
from runbook_lib.run import Run, approval
from runbook_lib.steps import Step, step_named
from runbook_lib.ui import display, widgets
from runbook_lib.ui import triage_cells as symptoms_of
from runbook_lib.ui.cells import journaled
from runbook_lib.ui.display import Shown
from runbook_lib.ui.triage_cells import recommended, triaged
from runbook_lib.ui.widgets import asked, attended, choice, reason


def in_numbers(run: Run) -> Shown:
    """Each option of the run's type with what it would change and lose, in numbers where those come quickly. Read-only."""
    plan, kind = run.context.plan, run.context.plan.types[run.context.type]
    rows = []
    for option, text in kind.options.items():
        changes, loses = "nothing in the data", "nothing"
        for name in plan.steps_of(run.context.type, option):
            changes, loses = _counted(step_named(run.context, name)) or (changes, loses)
        rows.append([option, text, changes, loses])
    return display.table("What each option would change and lose", ["option", "", "would change", "would lose"], rows)


def _counted(step: Step) -> tuple[str, str] | None:
    try:
        return step.in_brief()
    except RunbookError as error:
        return f"not counted: {error.what}", "not counted; the preview will"


@journaled
async def choose(run: Run, name: str, value: str, override: str = "", *, again: bool = False) -> str:
    """Choose the rollback TYPE or the OPTION, and leave one static line that says what and by whom.

    Without a `value`, the TYPE that triage recommends is suggested, also where that changes meanwhile; headless it is taken.
    A type other than that needs a reason: typed, or headless as `override`.
    """
    match name:
        case "TYPE":
            return await _type(run, value, override, again)
        case "OPTION":
            return await _option(run, value, again)
    raise ParametersError(f"There is no choice named {name}.", state="Nothing was changed.", safe_next="TYPE or OPTION.")


@journaled
async def choose_details(run: Run, values: str, *, again: bool = False) -> dict[str, str]:
    """Choose what else the option leaves open; headless, `values` ("NAME=value, …") says what differs from the plan."""
    wanted = approval.read(values)
    approval.require_known(wanted, run.details())
    made = {}
    for name, (options, planned) in run.details().items():
        if name not in wanted and not run.asks_for(name):
            continue
        if before := widgets.chosen_before(run, name, options, again):
            made[name] = before
            continue
        with asked(run, name):
            made[name], by = await choice(name, options, wanted.get(name, planned))
        run.choose(name, made[name], by)
    return made


async def _type(run: Run, value: str, override: str, again: bool) -> str:
    plan = run.context.plan
    if before := widgets.chosen_before(run, "TYPE", plan.rollbacks, again):
        return before
    with asked(run, "TYPE"):
        chosen, by = await choice("TYPE", plan.rollbacks, value or recommended(run), lambda: value or recommended(run))
    if chosen != (advised := recommended(run)) and triaged(run):
        question = f"Why {chosen} and not what triage recommends ({advised or 'nothing'})?"
        run.override(advised, chosen, await reason("OVERRIDE", question, override))
    carried_out = plan.carried_out(chosen)
    if carried_out != chosen:
        why = f"{plan.types[chosen].because} By the compatibility table, {plan.alone(chosen)}."
        show(display.line(f"{plan.types[chosen].title} is carried out as {carried_out}: {why}"))
    run.choose("TYPE", carried_out, by)
    symptoms_of.settle(run)
    return chosen


async def _option(run: Run, value: str, again: bool) -> str:
    options = run.context.plan.types[run.context.type].options
    if attended() and len(options) > 1:
        show(in_numbers(run))
    if before := widgets.chosen_before(run, "OPTION", options, again):
        return before
    with asked(run, "OPTION"):
        chosen, by = await choice("OPTION", options, next(iter(options)) if len(options) == 1 else value)
    run.choose("OPTION", chosen, by)
    return chosen
