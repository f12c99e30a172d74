"""Rollbacks executed to their end without a person, each once, by what it leaves; and the same with a person."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import jupytext
import nbformat
import pytest
from jupyter_client.blocking.client import BlockingKernelClient

from runbook_lib import report as archive
from runbook_lib.context import profiles
from runbook_lib.headless import conductor
from runbook_lib.journal.event import Event
from runbook_lib.run import Run, lifecycle

from ..support.kernels import Cell, kernel
from ..support.places import ROOT
from ..support.stacks import as_previewed, asked, beginning, ignore, up

Begin = Callable[..., Run]
QUICK, FULL = ("frontend-errors", "frontend", "02-quick-rollback"), ("all-media-missing", "full", "03-full-rollback")


@dataclass(frozen=True)
class Executed:
    """A run that nobody attended, and the values read before and after it."""

    run: Run
    outcome: lifecycle.Outcome
    events: list[Event]  # those of the rollback itself
    before: Any
    after: Any


def executed(run: Run, look: Callable[[], Any]) -> Executed:
    before, earlier = look(), len(run.journal.events())
    outcome = conductor.carry_out(run.folder.path, as_previewed, {}, ignore)
    return Executed(run, outcome, run.journal.events()[earlier:], before, look())


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> Executed:
    """The quick rollback, with the backend's commit before and after."""
    with beginning(tmp_path_factory.mktemp("quick")) as begin, up(QUICK[0]):
        run = begin(QUICK[1])
        return executed(run, lambda: run.context.checkout("backend").head())


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Executed:
    """The full rollback from triage to close-out, with the users' rows and their uploads before and after."""
    own = "SELECT id, content, media_url, replied_to_message_id, created_at FROM messages ORDER BY id"
    uploads = "SELECT count(*) FROM messages, jsonb_array_elements(attachments) e WHERE e->>'source' = 'upload'"
    with beginning(tmp_path_factory.mktemp("full")) as begin, up(FULL[0]) as running:
        run = begin("")
        assert conductor.execute(run.folder.path, "01-triage", {}, ignore) is None
        done = executed(run, lambda: (asked(running, own), asked(running, uploads)))
        conductor.execute(run.folder.path, "04-verification", {}, ignore)
        conductor.execute(run.folder.path, "05-close-out", {"NOTES": "A note of the tester."}, ignore)
    return done


def counts(facts: dict[str, Any]) -> dict[str, Any]:
    """What of a step's facts is a number of things or a yes, and so is the same in every run of one scenario."""
    return {name: value for name, value in facts.items() if isinstance(value, int) and "bytes" not in name}


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
            case "checked" if not data["round"].startswith(("clone:", "foreseen:")):
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
    """Execute a cell as a person does: click the recommendation, type the requested text and confirm it."""
    cell, answered = Cell(client, code), set[str]()

    def settled() -> bool:
        for field in set(cell.of("TextModel")) - answered:
            if buttons := [b for b in cell.of("ButtonModel") if cell.models[b]["description"] == "Confirm"]:
                answered.add(field)
                cell.choose(field, value=cell.models[field]["placeholder"])
                cell.click(buttons[-1])
        for button in set(cell.of("ButtonModel")) - answered:
            if "(recommended)" in cell.models[button]["description"]:
                answered.add(button)
                cell.click(button)
        return cell.idle

    cell.until(settled)
    assert not [text for text in cell.shown if "Error: " in text or "Failed: " in text], (code, cell.shown[-1])


@pytest.mark.slow
def test_the_notebooks_lead_from_triage_to_a_verified_and_readable_end(full: Executed) -> None:
    state, folder = full.run.state, full.run.folder.path

    assert (full.outcome.status, state.type) == ("verified", "full")
    assert {c["status"] for c in state.checks["after"].values()} == {"PASS"}
    assert len(state.checks["after"]) == 14
    notebook = nbformat.read(folder / "03-full-rollback.ipynb", as_version=4)
    assert {c.metadata.papermill.status for c in notebook.cells} == {"completed"}
    applied = [found[1] for c in notebook.cells if (found := re.match(r'await apply\(run, "(.*)"\)', c.source))]
    assert applied == full.run.context.plan.steps_of("full", "A")  # and no cell of another option
    log = (folder / "rollback-log.md").read_text()
    assert log.count("- [x]") == 6
    assert "A note of the tester." in log
    report = (folder / "report.html").read_text()
    assert "VERIFIED" in report
    assert not re.search(r"(?:src|href)=[\"']?https?:|@import", report)
    assert archive.verify(folder) == []
    assert profiles.of(folder) is None


def test_users_rows_are_kept_and_what_they_posted_in_between_too(full: Executed) -> None:
    rows, uploads = full.before

    assert (len(rows) > 0, uploads[0][0] > 0) == (True, True)
    assert full.after == full.before


def test_quick_reverts_the_frontend_and_shows_that_the_api_serves_it(quick: Executed) -> None:
    steps = quick.run.state.steps

    assert quick.outcome.status == "verified"
    assert list(steps)[1:5] == ["revert-frontend", "build-frontend", "restart-frontend", "push-frontend"]
    assert {s.status for s in steps.values()} == {"done"}
    assert quick.after == quick.before


@pytest.mark.parametrize(("name", "scenario"), [("quick", QUICK), ("full", FULL)], ids=["quick", "full"])
def test_a_run_with_a_person_leaves_the_journal_of_one_without(
    request: pytest.FixtureRequest, begin: Begin, name: str, scenario: tuple[str, str, str]
) -> None:
    alone: Executed = request.getfixturevalue(name)
    seated = with_a_person(begin, *scenario)

    assert alone.outcome.status == "verified"
    assert normalised(seated.journal.events()) == normalised(alone.events)
    assert {"asked", "cell-ended"} <= {event.kind for event in seated.journal.events()}
    assert not {"asked", "cell-ended"} & {event.kind for event in alone.events}
