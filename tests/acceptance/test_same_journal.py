"""A run with a person and one without leave the same journal, but for times, names of files and who was asked what."""

from collections.abc import Callable, Iterable
from typing import Any

import jupytext
import pytest
from jupyter_client.blocking.client import BlockingKernelClient

from runbook_lib import conductor
from runbook_lib.journal import Event
from runbook_lib.run import Run

from .conftest import ROOT, up
from .kernels import Cell, kernel

Begin = Callable[..., Run]
SCENARIOS = [
    pytest.param("frontend-errors", "frontend", "02-quick-rollback", id="quick"),
    pytest.param("all-media-missing", "full", "03-full-rollback", id="full"),
]


def counts(facts: dict[str, Any]) -> dict[str, Any]:
    """What of a step's facts is a number of things or a yes, and so is the same in every run of one scenario."""
    return {name: value for name, value in facts.items() if isinstance(value, int) and name != "bytes"}


def normalised(events: Iterable[Event]) -> list[Any]:
    """Steps with their outcomes and counts, checks, approvals and the run's outcome, in order."""
    found: list[Any] = []
    previews: dict[str, Any] = {}
    for event in events:
        data = event.data
        match event.kind:
            case "chosen":
                found.append((event.kind, data["name"], data["value"]))
            case "previewed":
                previews[data["digest"]] = {name: step["volumes"] for name, step in data["steps"].items()}
            case "approved":
                found.append((event.kind, previews[data["digest"]]))
            case "started" | "failed":
                found.append((event.kind, data["step"]))
            case "found" | "applied" | "undone":
                found.append((event.kind, data["step"], counts(data["outcome"])))
            case "checked" if not data["round"].startswith("clone:"):
                found.append((event.kind, data["round"], data["name"], data["status"]))
            case "owed" | "paid":
                found.append((event.kind, data["debt"]))
            case "evidence":
                found.append((event.kind, data["file"]))
            case "escalated":
                found.append((event.kind, data["from"], data["to"]))
            case "outcome":
                found.append((event.kind, data["status"], data["exit_code"]))
    return found


def without_a_person(begin: Begin, fault: str, type_name: str) -> Run:
    with up(fault):
        run = begin(type_name)
        conductor.carry_out(run.folder.path, lambda run: run.previews()[0], {}, lambda _: None)
        return run


def with_a_person(begin: Begin, fault: str, type_name: str, notebook: str) -> Run:
    with up(fault):
        run = begin(type_name)
        with kernel() as (_, client):
            for cell in jupytext.read(ROOT / "notebooks" / f"{notebook}.ipynb").cells:
                if cell.cell_type == "code":
                    parameters = f"\nRUN = {str(run.folder.path)!r}" if "parameters" in cell.metadata.get("tags", []) else ""
                    execute(client, cell.source + parameters)
        return run


def execute(client: BlockingKernelClient, code: str) -> None:
    """Execute a cell as a person does: what is suggested is clicked, what is to be typed is typed and confirmed."""
    cell, answered = Cell(client, code), set[str]()

    def settled() -> bool:
        for field in set(cell.of("TextModel")) - answered:
            if buttons := [b for b in cell.of("ButtonModel") if cell.models[b]["description"] == "Confirm"]:
                answered.add(field)
                cell.choose(field, value=cell.models[field]["placeholder"])
                cell.click(buttons[-1])
        for button in set(cell.of("ButtonModel")) - answered:
            if "(suggested)" in cell.models[button]["description"]:
                answered.add(button)
                cell.click(button)
        return cell.idle

    cell.until(settled)
    assert not [text for text in cell.shown if "Error: " in text or "Failed: " in text], (code, cell.shown[-1])


@pytest.mark.parametrize(("fault", "type_name", "notebook"), SCENARIOS)
def test_a_run_with_a_person_leaves_the_journal_of_one_without(
    begin: Begin, fault: str, type_name: str, notebook: str
) -> None:
    alone = without_a_person(begin, fault, type_name)
    seated = with_a_person(begin, fault, type_name, notebook)

    assert alone.state.outcome is not None
    assert alone.state.outcome["status"] == "verified"
    assert normalised(seated.journal.events()) == normalised(alone.journal.events())
    assert {"asked", "cell-ended"} <= {event.kind for event in seated.journal.events()}
    assert not {"asked", "cell-ended"} & {event.kind for event in alone.journal.events()}
