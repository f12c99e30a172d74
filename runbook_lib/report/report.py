"""The report: one HTML file that tells a run to somebody who was not there and has no network."""

import base64
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from runbook_lib.config.plan import Plan
from runbook_lib.journal.event import Event
from runbook_lib.journal.folder import RunFolder
from runbook_lib.journal.state import RunState
from runbook_lib.report.facts import duration, rollback_type, steps, type_title, verdict
from runbook_lib.report.templates import render

ROWS_SHOWN = 100
CHARACTERS_SHOWN = 10_000
TYPES = {".png": "data:image/png;base64", ".svg": "data:image/svg+xml;base64"}


@dataclass(frozen=True)
class Exhibit:
    """One piece of evidence; `missing` says why there is nothing to show."""

    title: str
    file: str
    columns: list[str] = field(default_factory=list)
    rows: list[list[Any]] = field(default_factory=list)
    image: str = ""
    text: str = ""
    cut: str = ""
    missing: str = ""


def exhibits(root: Path, evidence: Iterable[Mapping[str, str]]) -> list[Exhibit]:
    """What the evidence on record shows; a file that cannot be shown is named with the reason. Read-only."""
    return [_exhibit(root, entry) for entry in evidence]


def side_by_side(kept: Iterable[Exhibit]) -> list[tuple[Exhibit, Exhibit]]:
    """The pictures of the same thing before and after, in pairs. Pure."""
    images = {exhibit.file: exhibit for exhibit in kept if exhibit.image}
    names = [(f"{file.removesuffix('-after.png')}-before.png", file) for file in images if file.endswith("-after.png")]
    return [(images[before], images[after]) for before, after in names if before in images]


def _exhibit(root: Path, entry: Mapping[str, str]) -> Exhibit:
    title, file = entry["title"], entry["file"]
    path = (root / file).resolve()
    if not path.is_relative_to(root.resolve()):
        return Exhibit(title, file, missing="It lies outside this run's folder, so it is not shown.")
    try:
        match entry["kind"]:
            case "image":
                return Exhibit(title, file, image=f"{TYPES[path.suffix]},{base64.b64encode(path.read_bytes()).decode()}")
            case "table":
                return _table(title, file, json.loads(path.read_text(encoding="utf-8")))
            case _:
                return _text(title, file, path.read_text(encoding="utf-8", errors="replace"))
    except (OSError, ValueError, KeyError, TypeError) as error:
        return Exhibit(title, file, missing=f"It cannot be shown: {type(error).__name__}.")


def _table(title: str, file: str, split: dict[str, Any]) -> Exhibit:
    """A table that pandas wrote with `orient="split"`; a plain numbering is no column of it."""
    columns, rows, index = [str(column) for column in split["columns"]], split["data"], split["index"]
    if index != list(range(len(rows))):
        columns, rows = ["", *columns], [[label, *row] for label, row in zip(index, rows, strict=True)]
    cut = f"{len(rows) - ROWS_SHOWN} more rows are in the file." if len(rows) > ROWS_SHOWN else ""
    return Exhibit(title, file, columns=columns, rows=rows[:ROWS_SHOWN], cut=cut)


def _text(title: str, file: str, text: str) -> Exhibit:
    cut = f"{len(text) - CHARACTERS_SHOWN} more characters are in the file." if len(text) > CHARACTERS_SHOWN else ""
    return Exhibit(title, file, text=text[:CHARACTERS_SHOWN], cut=cut)


_ROUNDS = {
    "after": "After the rollback",
    "before": "Before the rollback",
    "prerequisites": "Prerequisites",
    "triage": "Triage",
    "diagnosis": "Troubleshooting",
    "investigation": "Investigation",
    "monitor": "Last round of the watch",
}


def write_report(folder: RunFolder, plan: Plan, state: RunState, events: Sequence[Event]) -> Path:
    """Write `report.html` into the run's folder; it can be written at any moment of a run."""
    verdict_ = verdict(plan, state, events)
    kept: list[Exhibit] = exhibits(folder.path, state.evidence)
    pairs = side_by_side(kept)
    paired = [exhibit for pair in pairs for exhibit in pair]
    return folder.write_text(
        "report.html",
        render(
            "report.html.j2",
            run=folder.id,
            plan=plan,
            state=state,
            opened=state.opened,
            verdict=verdict_,
            type_title=type_title(plan, state),
            because=_because(plan, state),
            duration=duration(plan, state, events, verdict_.ended),
            rounds=list(_rounds(plan, state)),
            steps=steps(plan, state),
            preview=state.previews.get(state.approved, {}),
            approved_at=next((event.at for event in reversed(events) if event.kind == "approved"), None),
            pairs=pairs,
            exhibits=[exhibit for exhibit in kept if exhibit not in paired],
            notebooks=list(_notebooks(folder.path, events)),
            timeline=events,
        ),
    )


def _because(plan: Plan, state: RunState) -> str:
    chosen = plan.types.get(state.type)
    return (chosen.because or "") if chosen is not None and rollback_type(plan, state) is not chosen else ""


def _rounds(plan: Plan, state: RunState) -> Iterator[tuple[str, list[Mapping[str, Any]]]]:
    """Each round's title and results; the final one names the checks that are still to be made, too."""
    kind = rollback_type(plan, state)
    of_steps = {name: _of_step(plan, name) for name in state.checks if name.startswith(("before:", "step:"))}
    others = sorted(state.checks.keys() - _ROUNDS.keys() - of_steps.keys())
    for name in [*(known for known in _ROUNDS if known in state.checks or known == "after"), *others]:
        made = state.checks.get(name, {})
        missing = [check for check in (state.due(kind.checks) if kind and name == "after" else []) if check not in made]
        results = [
            *made.values(),
            *({"name": check, "title": plan.checks[check].title, "status": "NOT MADE", "summary": ""} for check in missing),
            *(
                {"name": check, "title": plan.checks[check].title, "status": "LEFT OUT", "summary": why}
                for check, why in (state.left_out.items() if name == "after" else ())
            ),
        ]
        yield _ROUNDS.get(name, name.replace("clone:", "Tried on a schema-only clone: preview ")), results
    if of_steps:
        yield (
            "Each step's own checks",
            [
                {**result, "title": f"{when}: {result['title']}"}
                for n, when in of_steps.items()
                for result in state.checks[n].values()
            ],
        )


def _of_step(plan: Plan, name: str) -> str:
    when, _, step = name.partition(":")
    title = plan.steps[step].title if step in plan.steps else step
    return f"Before “{title}”" if when == "before" else title


def _notebooks(root: Path, events: Sequence[Event]) -> Iterator[dict[str, str]]:
    """The executed notebooks with their last status, and the file where it is in the folder."""
    runs: dict[str, dict[str, str]] = {}
    for event in events:
        if event.kind in ("notebook-started", "notebook-ended"):
            output = str(event.data.get("output", ""))
            status = str(event.data.get("status", "")) if event.kind == "notebook-ended" else "not ended"
            file = PurePosixPath(output).name
            runs[output] = {
                "title": str(event.data.get("notebook", output)),
                "status": status,
                "at": runs.get(output, {"at": event.at})["at"],
                "file": file if file and (root / file).is_file() else "",
            }
    yield from runs.values()
