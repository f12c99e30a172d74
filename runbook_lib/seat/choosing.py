"""The cells in which something is chosen: the rollback type, the option, and what that leaves open."""

from __future__ import annotations

from IPython.display import display as show

from runbook_lib import details, display
from runbook_lib.errors import ParametersError
from runbook_lib.run import Run
from runbook_lib.seat import confirming
from runbook_lib.seat import symptoms as symptoms_of
from runbook_lib.seat.asking import asked
from runbook_lib.seat.journaling import journaled
from runbook_lib.seat.options import compared as in_numbers
from runbook_lib.seat.triaging import recommended, triaged
from runbook_lib.widgets import attended, choice, reason


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


async def _type(run: Run, value: str, override: str, again: bool) -> str:
    plan = run.context.plan
    if before := confirming.chosen_before(run, "TYPE", plan.rollbacks, again):
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
    if before := confirming.chosen_before(run, "OPTION", options, again):
        return before
    with asked(run, "OPTION"):
        chosen, by = await choice("OPTION", options, next(iter(options)) if len(options) == 1 else value)
    run.choose("OPTION", chosen, by)
    return chosen
