"""The report: one HTML file that tells a run to somebody who was not there and has no network."""

from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from runbook_lib.archive.evidence import Exhibit, exhibits, side_by_side
from runbook_lib.archive.facts import duration, rollback_type, steps, type_title, verdict
from runbook_lib.archive.templates import render
from runbook_lib.archive.timeline import told
from runbook_lib.folder import RunFolder
from runbook_lib.journal import Event
from runbook_lib.plan import Plan
from runbook_lib.state import RunState

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
            timeline=[(event, told(event)) for event in events],
        ),
    )


def _because(plan: Plan, state: RunState) -> str:
    chosen = plan.types.get(state.type)
    return (chosen.because or "") if chosen is not None and rollback_type(plan, state) is not chosen else ""


def _rounds(plan: Plan, state: RunState) -> Iterator[tuple[str, list[dict[str, Any]]]]:
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
