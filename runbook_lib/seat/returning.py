"""The cells that bring the services back from wherever a run stands."""

from __future__ import annotations

from runbook_lib import display, service_back
from runbook_lib.display import Shown
from runbook_lib.run import Run
from runbook_lib.seat import acting
from runbook_lib.seat.asking import asked
from runbook_lib.seat.beside import beside
from runbook_lib.seat.confirming import confirmed_for_good
from runbook_lib.seat.journaling import journaled
from runbook_lib.widgets import attended, confirmation


@journaled
async def way_back(run: Run) -> Shown:
    """The nearest way to services that run in an allowed combination, and the digest to approve. Read-only."""
    offered = await beside(run, "Looking for the way back", lambda: service_back.offer(run))
    parts = [display.way(offered.way, run.context.plan, run.state)]
    if offered.previews:
        parts.append(display.previews(offered.previewed, offered.previews))
    return display.beside(*parts, display.line(f"Way {offered.digest}"))


@journaled
async def walk_back(run: Run, value: str) -> Shown:
    """Walk that way once it is approved: headless by its digest, else by typing it, on production the target's name."""
    offered = await beside(run, "Looking for the way back", lambda: service_back.offer(run))
    target = run.context.target
    if not offered.way.moves:
        return display.way(offered.way, run.context.plan, run.state)
    answer = target.name if target.is_production and attended() else offered.digest
    question = f"Walk the way {offered.digest} on {target.name}?"
    with asked(run, question):
        await confirmation(question, answer, value)
    for move in offered.way.moves:
        if move.action == "apply":
            await confirmed_for_good(run, move.step, offered.previewed or run.state.approved)
    names = [move.step for move in offered.way.moves]
    done, ended = await acting.walked(run, "Service back", names, lambda: service_back.walk(run, offered, offered.digest))
    results = display.results(run.recorded(service_back.ROUND), "Services")
    return display.beside(*map(display.done, done), results, display.outcome(ended, run.state))
