"""The notebook of a target's run, rendered from its journal: each cell with what is on record of it, without a kernel."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runbook_lib.checks.prerequisites import MARK
from runbook_lib.config.plan import Plan
from runbook_lib.headless import rendering
from runbook_lib.headless.papermill_io import clean
from runbook_lib.journal.event import Event
from runbook_lib.journal.state import replay
from runbook_lib.results import Result, Status, not_passed
from runbook_lib.run import Run
from runbook_lib.run.engine import Done
from runbook_lib.run.lifecycle import Outcome
from runbook_lib.steps import Preview
from runbook_lib.ui import display, messages, review
from runbook_lib.ui.display import Shown

if TYPE_CHECKING:
    from nbformat import NotebookNode

RENDERED = "Rendered from the journal; no kernel ran these cells."
NOTICE = (
    f"**{RENDERED}** Each output is what the journal holds of that cell. A cell without an output has nothing on record."
)
PICTURE = re.compile(r"\n\n!\[[^\]]*\]\(attachment:[^)]*\)")  # of an example, which this run is not
CALL = re.compile(r'^(?:\w+ = )?(?:await )?(\w+)\((?:run(?:, "([^"]*)")?)?', re.MULTILINE)
ATTENDED = ("cell-started", "notebook-started")  # a kernel executed the run's notebook


def write(run: Run) -> Path | None:
    """Write the run's notebook with the outputs that its journal holds; None where a kernel executed one.

    Changes the run folder. A later call replaces the file.
    """
    events = run.journal.events()
    if any(event.kind in ATTENDED for event in events):
        return None
    earlier = [event.data["output"] for event in events if event.kind == "notebook-rendered"]
    name = rendering.name_of(run.context.plan, run.context.type)
    output = earlier[-1] if earlier else run.folder.next_name(name, ".ipynb")
    notebook = rendered(run, events)
    if not earlier:  # first, so that the seal knows the file whatever happens
        run.journal.append("notebook-rendered", notebook=name, output=output)
    return run.folder.write_redacted(output, json.dumps(clean(notebook), indent=1, ensure_ascii=False) + "\n")


def rendered(run: Run, events: Sequence[Event]) -> NotebookNode:
    """Return the notebook of a run's type, each cell with what these events say of it. Read-only."""
    plan, opened = run.context.plan, run.state.opened
    option = run.context.option if plan.types[run.context.type].options else ""
    notebook = rendering.rendered(plan, run.context.type, option, opened["plan_file"], opened["target_file"])
    undone = next((n for n, event in enumerate(events) if event.kind == "undo-approved"), len(events))
    record = _Record(run, events[:undone])
    for number, cell in enumerate(notebook["cells"]):
        if cell["cell_type"] == "markdown":
            notebook["cells"][number] = _cell("markdown", cell["id"], PICTURE.sub("", cell["source"]))
        elif "parameters" not in cell["metadata"].get("tags", []):
            record.fill(cell)
    if undone < len(events):
        notebook["cells"] += _undo_cells(plan, events[undone:], record.executed + 1)
    first = notebook["cells"][0]
    heading, _, rest = first["source"].partition("\n")
    first["source"] = f"{heading}\n\n{NOTICE}\n{rest}"
    notebook["cells"].insert(2, _cell("code", "cell-given", _parameters(run), ["injected-parameters"]))
    notebook["metadata"][MARK] |= {"rendered_from": {"events": len(events), "head": events[-1].hash}}
    return notebook


class _Record:
    """What the journal holds of a run, cell by cell, until an action failed."""

    def __init__(self, run: Run, events: Sequence[Event]) -> None:
        self.run, self.events = run, events
        self.state = replay(events)
        self.executed = 0
        self.error = next((event.data["error"] for event in reversed(events) if event.kind == "stopped"), "")
        self._over = False

    def fill(self, cell: dict[str, Any]) -> None:
        """Give a cell of code its outputs."""
        name, argument = CALL.findall(cell["source"])[-1]
        found = [] if self._over and name not in ("timeline", "close") else [*self._outputs(name, argument)]
        if found:
            self.executed += 1
            cell["execution_count"] = self.executed
            cell["outputs"] = found

    def _outputs(self, name: str, argument: str) -> Iterator[dict[str, Any]]:
        try:
            shown = self._shown(name, argument)
        except _NotReached:
            self._over = True
            if self.error:
                yield _error(self.error)
            return
        if shown is not None:
            yield _output(shown)
        if name == "check_prerequisites" and not self.state.approved and not_passed(self._results("prerequisites")):
            self._over = True
            yield _error(self.error)

    def _shown(self, name: str, argument: str) -> Shown | None:
        """What a cell that calls this function shows; None where the journal holds nothing of it."""
        plan, folder, state = self.run.context.plan, self.run.folder, self.state
        match name:
            case "open_run":
                return display.banner(folder, plan, replay(self.events[:1]))
            case "status":
                return display.steps(plan, replay(self.events[:1]))
            case "choose_details":
                chosen = [event.data for event in self.events if event.kind == "chosen"]
                return _lines([f"{each['name']} = {each['value']} ({each['by']})" for each in chosen])
            case "check_prerequisites":
                found = self._results("prerequisites")
                return display.results(found, "Prerequisites") if found else None
            case "preview":
                return self._previews()
            case "look_before":
                looks = self._results("before")
                pictures = display.pictures(folder, state, "before")
                return display.side_by_side(display.results(looks, "Before the first change"), pictures) if looks else None
            case "notify":
                return messages.message(self.run, argument)
            case "approve" | "approve_again":
                return self._approval(name)
            case "apply":
                return self._step(argument)
            case "verify":
                return self._verified()
            case "timeline":
                return review.times(plan, self.events)
            case "close" if state.outcome:
                return display.outcome(Outcome(state.outcome["status"], state.outcome["summary"]), state)
        return None

    def _results(self, round_name: str) -> list[Result]:
        found = self.state.checks.get(round_name, {}).values()
        return [Result(r["name"], r["title"], Status(r["status"]), r["summary"], r["evidence"]) for r in found]

    def _previews(self) -> Shown | None:
        digest = self.state.approved or self.state.previewed
        taken = [e.data["shown"] for e in self.events if e.kind == "previewed" and e.data["digest"] == digest]
        if not taken:
            return None
        tried, foreseen = self._results(f"clone:{digest}"), self._results(f"foreseen:{digest}")
        return display.previews(digest, [Preview(**each) for each in taken[-1]], tried, foreseen, self.state.waivers)

    def _approval(self, name: str) -> Shown:
        digest, target = self.state.approved, self.run.context.target.name
        if not digest:
            raise _NotReached
        said = (
            f"Execute preview {digest} on {target}? {digest} (with the fleet, by {self.state.approved_by or 'nobody named'})"
        )
        return _lines([said, f"APPROVED {digest}"] if name == "approve" else [f"APPROVED {digest}"]) or display.line("")

    def _step(self, name: str) -> Shown:
        known, spec = self.state.step(name), self.run.context.plan.steps[name]
        if not known.is_done and name not in self.state.waivers:
            raise _NotReached
        how = {"found done": "already done", "done": "done"}.get(known.status, "failed, and waived")
        done = Done(name, spec.title, how, known.seconds or 0, spec.estimate, known.outcome, self._results(f"step:{name}"))
        return display.done(done)

    def _verified(self) -> Shown | None:
        found = self._results("after")
        if not found:
            return None
        results = display.results(found, "Verification", self.state.waivers)
        return display.side_by_side(results, display.before_and_after(self.run.folder, self.state))


class _NotReached(Exception):
    """The run did not get past this cell."""


def _parameters(run: Run) -> str:
    opened = run.state.opened
    given = {name: opened[name.lower()] for name in ("OPERATOR", "REASON", "INCIDENT")}
    given |= {"RUN": run.folder.label, "APPROVE": run.state.approved}
    return "\n".join(f"{name} = {json.dumps(value, ensure_ascii=False)}" for name, value in given.items())


def _undo_cells(plan: Plan, events: Sequence[Event], number: int) -> list[dict[str, Any]]:
    """The cells for the undo of the run, from the events since its approval."""
    undone = [event.data for event in events if event.kind == "undone"]
    shown = [
        display.done(Done(each["step"], spec.title, "undone", each["seconds"], spec.estimate, each["outcome"], []))
        for each in undone
        for spec in [plan.steps[each["step"]]]
    ]
    errors = [event.data["error"] for event in events if event.kind == "stopped"]
    ended = [event.data for event in events if event.kind == "outcome"]
    shown += [display.line(f"{each['status'].upper()}: {each['summary']}") for each in ended[-1:]]
    approval = events[0].data
    prose = f"## The undo\n\nThe run was undone afterwards, approved by {approval['by'] or 'nobody named'}."
    source = f'from runbook_lib.notebook import undo_run\n\nawait undo_run(run, "{approval["digest"]}")'
    code = _cell("code", "cell-undo", source)
    code["execution_count"] = number
    code["outputs"] = [*map(_output, shown), *(_error(error) for error in errors[-1:] if not ended or not undone)]
    return [_cell("markdown", "cell-undo-prose", prose), code]


def _cell(kind: str, name: str, source: str, tags: Sequence[str] = ()) -> Any:
    from nbformat import NotebookNode

    metadata = {"tags": [*tags], "jupyter": {"source_hidden": True}} if tags else {}
    about = {"cell_type": kind, "id": name, "metadata": metadata, "source": source}
    return NotebookNode(about | ({"execution_count": None, "outputs": []} if kind == "code" else {}))


def _lines(texts: Sequence[str]) -> Shown | None:
    return display.side_by_side(*map(display.line, texts)) if texts else None


def _output(shown: Shown) -> dict[str, Any]:
    return {"output_type": "display_data", "metadata": {}, "data": {"text/html": shown.html, "text/plain": shown.text}}


def _error(text: str) -> dict[str, Any]:
    return {"output_type": "error", "ename": "RunbookError", "evalue": text.splitlines()[0], "traceback": [text]}
