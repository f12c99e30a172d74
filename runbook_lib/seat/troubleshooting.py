"""The cells that look for the plan's troubles and mend the one that is chosen."""

from __future__ import annotations

from runbook_lib import display, troubles
from runbook_lib.display import Shown
from runbook_lib.errors import Declined
from runbook_lib.run import Run
from runbook_lib.seat import confirming, failing
from runbook_lib.seat.beside import beside
from runbook_lib.seat.journaling import journaled
from runbook_lib.widgets import choice


@journaled
async def diagnose(run: Run) -> Shown:
    """Look for each of the plan's troubles: what was seen, and what would mend it. Read-only."""
    plan = run.context.plan
    seen = await beside(run, "Looking for troubles", lambda: run.observe("diagnosis", troubles.checks_needed(plan)))
    found = troubles.diagnose(plan, seen)
    there = [each.name for each in found if each.there == "yes"]
    run.journal.append("diagnosed", troubles=there, text="; ".join(plan.troubles[name].title for name in there) or "none")
    return display.diagnoses(plan, found)


@journaled
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
            safe_next=f"Open {kind.notebook}, and give it RUN = {run.folder.told}.",
        )
    return display.line(f"To be carried out: {kind.title}")


@journaled
async def fix(run: Run) -> Shown:
    """Carry out every step of the run's type, one after another, each confirmed where it must be. Changes the target."""
    done = []
    for name in run.steps:
        await confirming.confirmed(run, name)
        done.append(display.done(await failing.applied(run, name)))
    return display.beside(*done)
