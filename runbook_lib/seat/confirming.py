"""What a person has to confirm before a step, and which of their choices stand when a cell is run again."""

from __future__ import annotations

from collections.abc import Mapping

from IPython.display import display as show

from runbook_lib import display
from runbook_lib.run import Run
from runbook_lib.seat.asking import asked
from runbook_lib.widgets import attended, confirmation


def chosen_before(run: Run, name: str, options: Mapping[str, str], again: bool = False) -> str:
    """What a person chose in this run by that name, shown as such; "" where nobody did, or it is to be chosen again."""
    if again or not attended():
        return ""
    made = [event.data for event in run.journal.events() if event.kind == "chosen" and event.data["name"] == name]
    if not made or made[-1]["by"] != "operator" or made[-1]["value"] not in options:
        return ""
    value = str(made[-1]["value"])
    show(display.line(f"{name} = {value} (operator, as chosen before; to choose anew, add again=True)"))
    return value


async def confirmed(run: Run, name: str, *, undo: bool = False) -> None:
    """Have a person confirm a step on production by the target's name, and an irreversible one a second time.

    What is done already needs no confirmation, and where nobody sits, the approval is all there is.

    Raises:
        Declined: Something else was typed.
    """
    if not attended() or name not in run.context.plan.steps or (run.state.step(name).is_done and not undo):
        return
    target, title = run.context.target, run.context.plan.steps[name].title
    verb = "Undo" if undo else "Carry out"
    if target.is_production:
        question = f"{verb} “{title}” on {target.name}?"
        with asked(run, question):
            await confirmation(question, target.name, "")
    if not undo:
        await confirmed_for_good(run, name, run.state.approved)


async def confirmed_for_good(run: Run, name: str, digest: str) -> None:
    """Have a person confirm by its name a step that nothing undoes, as the previews of that digest say.

    Raises:
        Declined: Something else was typed.
    """
    if attended() and is_irreversible(run, name, digest):
        question = f"“{run.context.plan.steps[name].title}” CANNOT BE UNDONE. Carry it out?"
        with asked(run, question):
            await confirmation(question, name, "")


def is_irreversible(run: Run, name: str, digest: str) -> bool:
    """Whether the previews of that digest say that nothing undoes the step. Read-only."""
    previewed = [e.data for e in run.journal.events() if e.kind == "previewed" and e.data["digest"] == digest]
    shown = [preview for data in previewed[-1:] for preview in data["shown"] if preview["step"] == name]
    return any("IRREVERSIBLE" in one["undone_by"] or "cannot be undone" in one["undone_by"] for one in shown)
