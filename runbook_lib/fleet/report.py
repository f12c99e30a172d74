"""Write fleet-report.html, for somebody who was not there and has no network, from the journals of a fleet."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from runbook_lib.config.plan import Plan
from runbook_lib.errors import RunbookError
from runbook_lib.fleet import FleetRun
from runbook_lib.fleet.answers import SYMBOLS, TONES, Lost, answers
from runbook_lib.fleet.chart import waves
from runbook_lib.fleet.standing import DONE
from runbook_lib.journal import Journal
from runbook_lib.journal.state import replay
from runbook_lib.report import SEALED
from runbook_lib.report.answers import LOST
from runbook_lib.report.answers import answers as answers_of_run
from runbook_lib.report.report import render
from runbook_lib.run import lifecycle

FILE, TEMPLATE = "fleet-report.html", "fleet-report.html.j2"
OUTCOMES = {  # the colour and the sign of each
    "finished": ("good", "✔"),
    "undone": ("calm", "↶"),
    "declined": ("calm", "·"),
    "stopped by failures": ("bad", "✘"),
    "mixed": ("odd", "▲"),
}
Plans = Callable[[Path], Plan]


def write(run: FleetRun, plan: Plans, held_by: str = "", url: str = "") -> Path:
    """Write `fleet-report.html` into the fleet's folder, at any moment of its run.

    Args:
        run: The fleet.
        plan: Loads a plan file.
        held_by: The process that acts in the fleet now, "" for none but this one.
        url: The place of which the folder is a copy: then the report has no commands and no links to other files.
    """
    state, standings = run.state, run.standings()
    events = [event for event in run.journal.events() if event.kind != SEALED]
    now = "in progress" if held_by else "not finished" if state.walked else "not begun"
    status = str((state.outcome or {"status": now})["status"])
    tone, symbol = OUTCOMES.get(status, ("calm", "▶" if held_by else "·"))
    lost = {name: _lost(run.child(name), plan) for name, each in standings.items() if each.touched}
    label, counted = url or run.folder.label, {name: each for name, each in lost.items() if each}
    answered = answers(label, state, standings, counted, held_by)
    return run.folder.write_text(
        FILE,
        render(
            TEMPLATE,
            run=run.folder.id,
            state=state,
            opened=state.opened,
            status=status.upper(),
            tone=tone,
            symbol=symbol,
            answers=[replace(each, commands=()) for each in answered] if url else answered,
            chart=waves(state, standings, max(event.time for event in events)),
            targets=sorted(_targets(run, lost), key=lambda row: row["tone"] not in ("bad", "odd")),
            done=sum(each.word in DONE for each in standings.values()),
            previewed=[each for each in standings.values() if each.digest],
            approvals=[event for event in events if event.kind in ("fleet-approved", "fleet-undo-approved")],
            sizes=state.previews,
            timeline=events,
        ),
    )


def _targets(run: FleetRun, lost: dict[str, Lost | None]) -> Iterator[dict[str, Any]]:
    """Each target in the order of the waves, with what the report shows of it."""
    state, standings = run.state, run.standings()
    for number, wave in enumerate(state.waves, 1):
        for name in wave:
            each, file = standings[name], f"{state.targets[name]['run']}/report.html"
            counted = lost.get(name)
            yield {
                "wave": number,
                "standing": each,
                "server": state.targets[name]["server"],
                "tone": TONES.get(each.word, "calm"),
                "symbol": SYMBOLS.get(each.word, "·"),
                "file": file if (run.path / file).is_file() else "",
                "lost": counted.text() if counted else "not known" if each.touched else "",
            }


def _lost(path: Path, plan: Plans) -> Lost | None:
    """What the run of a target lost; None where its plan or journal cannot be read."""
    try:
        events = Journal(path / "journal.jsonl").events()
        state = replay(events)
        of_run = answers_of_run(path, plan(lifecycle.recorded(state.opened["plan_file"])), state, events)
    except RunbookError:
        return None
    (found,) = [each for each in of_run if each.question == LOST]
    marked = "Not known: "
    return Lost(
        tuple(item for item in found.items if not item.startswith(marked)),
        tuple(item.removeprefix(marked) for item in found.items if item.startswith(marked)),
    )
