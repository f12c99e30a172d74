"""Write the two documents of a run's archive from its journal: the rollback log and the report.

The log is the plan's own template. The report is one HTML file for somebody who was not there and has no network.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, get_args

from runbook_lib.config.plan import Area, Plan, RepositoryStep
from runbook_lib.journal.event import Event, clock, in_words
from runbook_lib.journal.folder import RunFolder
from runbook_lib.journal.state import RunState
from runbook_lib.report.answers import answers
from runbook_lib.report.facts import duration, not_passed, outage, rollback_type, steps, title, type_title, verdict

if TYPE_CHECKING:
    from jinja2 import Template

REPORT, LOG = "report.html.j2", "rollback-log.md.j2"


def render(template: str, **values: Any) -> str:
    """Render a template with `values`, escaped where it is HTML. Read-only."""
    return _compiled(template).render(**values)


def load() -> None:
    """Compile the templates of both documents, so that writing them need not. Pure."""
    for template in (REPORT, LOG):
        _compiled(template)


@cache
def _compiled(template: str) -> Template:
    from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

    environment = Environment(
        loader=PackageLoader("runbook_lib.report"),
        autoescape=select_autoescape(["html.j2"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(clock=clock, facts=in_words, moment=_moment, line=_line, title_in=_title_in)
    return environment.get_template(template)


def _title_in(name: str, plan: Plan) -> str:
    return title(plan, name)


def _moment(value: str | datetime | None, form: str = "%Y-%m-%d %H:%M:%S") -> str:
    if value is None:
        return "not yet"
    return (datetime.fromisoformat(value) if isinstance(value, str) else value).strftime(form)


def _line(value: Any) -> str:
    """One line of Markdown in which the value's own markup does not count."""
    return " ".join(str(value).split()).replace("<", "&lt;")


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
    """Return the evidence on record, ready to show; a file that cannot be shown is named with the reason. Read-only."""
    return [_exhibit(root, entry) for entry in evidence]


def side_by_side(kept: Iterable[Exhibit]) -> list[tuple[Exhibit, Exhibit]]:
    """Pair the pictures of the same thing before and after. Pure."""
    images = {exhibit.file: exhibit for exhibit in kept if exhibit.image}
    names = [(f"{file.removesuffix('-after.png')}-before.png", file) for file in images if file.endswith("-after.png")]
    return [(images[before], images[after]) for before, after in names if before in images]


def _exhibit(root: Path, entry: Mapping[str, str]) -> Exhibit:
    title, file = entry["title"], entry["file"]
    path = (root / file).resolve()
    if not path.is_relative_to(root.resolve()):
        return Exhibit(title, file, missing="It is outside this run's folder, so it is not shown.")
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
    """Read a table that pandas wrote with `orient="split"`; a plain numbering becomes no column."""
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
    "monitor": "Last round of monitoring",
}
_OF_PREVIEWS = {"foreseen:": "Checked before approval", "clone:": "Tried on a schema-only clone"}


def write_report(folder: RunFolder, plan: Plan, state: RunState, events: Sequence[Event]) -> Path:
    """Write `report.html` into the run's folder, at any moment of a run."""
    verdict_ = verdict(plan, state, events)
    of_run, missing = steps(plan, state), not_passed(plan, state)
    due = {
        *(kind.checks if (kind := rollback_type(plan, state)) else ()),
        *state.checks.get("after", {}),
    } - state.left_out.keys()
    kept: list[Exhibit] = exhibits(folder.path, state.evidence)
    pairs = side_by_side(kept)
    paired = [exhibit for pair in pairs for exhibit in pair]
    return folder.write_text(
        "report.html",
        render(
            REPORT,
            run=folder.id,
            plan=plan,
            state=state,
            opened=state.opened,
            verdict=verdict_,
            answers=answers(folder.path, plan, state, events),
            type_title=type_title(plan, state),
            because=_because(plan, state),
            duration=duration(plan, state, events, verdict_.ended),
            outage=outage(plan, events),
            rounds=[(heading, sorted(found, key=_is_fine)) for heading, found in _rounds(plan, state)],
            steps=of_run,
            steps_done=f"{sum(step.is_done for step in of_run)} of {len(of_run)} done",
            troubled=any(step.status in ("failed", "started") for step in of_run),
            checks_made=f"{len(due) - len(missing)} of {len(due)} final checks passed"
            if "after" in state.checks
            else "not made yet",
            doubtful=verdict_.ended is not None and "after" in state.checks and bool(missing),
            loses=_loses(state, events),
            preview=state.previews.get(state.approved, {}),
            approved_at=next((event.at for event in reversed(events) if event.kind == "approved"), None),
            pairs=pairs,
            exhibits=[exhibit for exhibit in kept if exhibit not in paired],
            notebooks=list(_notebooks(folder.path, events)),
            timeline=events,
        ),
    )


def _loses(state: RunState, events: Sequence[Event]) -> dict[str, list[str]]:
    """What the approved preview said each step loses; an older journal does not have it."""
    shown = [
        event.data.get("shown", ())
        for event in events
        if event.kind == "previewed" and event.data["digest"] == state.approved
    ]
    return {preview["step"]: preview["loses"] for preview in (shown[-1] if shown else ())}


def _because(plan: Plan, state: RunState) -> str:
    chosen = plan.types.get(state.type)
    return (chosen.because or "") if chosen is not None and rollback_type(plan, state) is not chosen else ""


def _rounds(plan: Plan, state: RunState) -> Iterator[tuple[str, list[Mapping[str, Any]]]]:
    """Yield each round's title and results; the final round includes the checks not made yet."""
    kind = rollback_type(plan, state)
    of_steps = {name: _of_step(plan, name) for name in state.checks if name.startswith(("before:", "step:"))}
    of_previews = [name for name in state.checks if name.startswith(tuple(_OF_PREVIEWS))]
    others = sorted(state.checks.keys() - _ROUNDS.keys() - of_steps.keys() - set(of_previews))
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
        yield _ROUNDS.get(name, name), results
    digest = state.approved or ["", *state.previews][-1]
    for prefix, heading in _OF_PREVIEWS.items():
        if looks := state.checks.get(f"{prefix}{digest}"):
            yield f"{heading}: preview {digest}", [_with_step(plan, look) for look in looks.values()]
    if of_steps:
        yield (
            "Each step's own checks",
            [
                {**result, "title": f"{when}: {result['title']}"}
                for n, when in of_steps.items()
                for result in state.checks[n].values()
            ],
        )


def _is_fine(result: Mapping[str, Any]) -> bool:
    return result["status"] in ("PASS", "LEFT OUT")


def _with_step(plan: Plan, look: Mapping[str, Any]) -> Mapping[str, Any]:
    step = look.get("evidence", {}).get("step")
    return {**look, "title": f"{plan.steps[step].title}: {look['title']}"} if step in plan.steps else look


def _of_step(plan: Plan, name: str) -> str:
    when, _, step = name.partition(":")
    title = plan.steps[step].title if step in plan.steps else step
    return f"Before “{title}”" if when == "before" else title


def _notebooks(root: Path, events: Sequence[Event]) -> Iterator[dict[str, str]]:
    """Yield the run's notebooks with their last status, and their file if it is in the folder."""
    runs: dict[str, dict[str, str]] = {}
    for event in events:
        if event.kind in ("notebook-started", "notebook-ended", "notebook-rendered"):
            output = str(event.data.get("output", ""))
            status = str(event.data.get("status", "")) if event.kind == "notebook-ended" else "not ended"
            status = "rendered from the journal" if event.kind == "notebook-rendered" else status
            file = PurePosixPath(output).name
            runs[output] = {
                "title": str(event.data.get("notebook", output)),
                "status": status,
                "at": runs.get(output, {"at": event.at})["at"],
                "file": file if file and (root / file).is_file() else "",
            }
    yield from runs.values()


def write_log(folder: RunFolder, plan: Plan, state: RunState, events: Sequence[Event]) -> Path:
    """Write `rollback-log.md` into the run's folder."""
    return folder.write_text(
        "rollback-log.md",
        render(
            LOG,
            plan=plan,
            state=state,
            verdict=verdict(plan, state, events),
            type_title=type_title(plan, state),
            actions=_actions(plan, state),
            areas={area: _area(plan, state, area) for area in get_args(Area)},
            notes=_notes(state),
        ),
    )


def _actions(plan: Plan, state: RunState) -> list[tuple[bool, str]]:
    """Return each action of the template: whether it was done, and its line."""
    lines: dict[str, list[str]] = {}
    for name, spec in plan.steps.items():
        repository = spec.repository.capitalize() if isinstance(spec, RepositoryStep) else ""
        if line := spec.about.log_line.format(repository=repository):
            lines.setdefault(line, []).append(name)
    last = sorted(lines, key=lambda line: any(plan.steps[name].about.starts for name in lines[line]))
    return [*(_action(line, lines[line], plan, state) for line in last), _verified(plan, state)]


def _action(label: str, names: Iterable[str], plan: Plan, state: RunState) -> tuple[bool, str]:
    """Tick an action when all its steps of this run are done; otherwise name the state of each step."""
    concerned = [step for step in steps(plan, state) if step.name in names]
    if not concerned:
        return False, f"{label} (not part of this rollback type)"
    if all(step.is_done for step in concerned):
        return True, label
    if all(step.status == "pending" for step in concerned):
        return False, label
    return False, f"{label} ({'; '.join(f'{step.title}: {step.status}' for step in concerned)})"


def _verified(plan: Plan, state: RunState) -> tuple[bool, str]:
    missing = not_passed(plan, state)
    done = bool(state.checks.get("after")) and not missing
    label = "Verification completed"
    return done, label if done or not state.checks.get("after") else f"{label} ({_listed(plan, state, missing)})"


def _area(plan: Plan, state: RunState, area: Area) -> str:
    """Return OK only where every check of the area was made and passed."""
    after = state.checks.get("after", {})
    kind = rollback_type(plan, state)
    expected = dict.fromkeys([*(state.due(kind.checks) if kind else []), *after])
    names = [name for name in expected if name in plan.checks and plan.checks[name].area == area]
    if not names:
        return "not checked by this rollback type"
    if not any(name in after for name in names):
        return "not checked"
    issues = {name: status for name, status in not_passed(plan, state).items() if name in names}
    return f"Issues: {_listed(plan, state, issues)}" if issues else "OK"


def _listed(plan: Plan, state: RunState, statuses: dict[str, str]) -> str:
    def one(name: str, status: str) -> str:
        summary = state.checks.get("after", {}).get(name, {}).get("summary")
        waived = ", waived" if name in state.waivers else ""
        return f"{title(plan, name)} ({status}{waived}{f': {summary}' if summary else ''})"

    return "; ".join(one(name, status) for name, status in statuses.items())


def _notes(state: RunState) -> list[str]:
    by_status = {
        "failed": "{0.title} failed: {0.error}",
        "started": "{0.title} began, and its outcome is unknown.",
        "undone": "{0.title} was undone.",
    }
    return [
        *(
            f"Triage recommended {o['recommended'] or 'nothing'}; {o['chosen']} was chosen: {o['reason']}"
            for o in state.overrides
        ),
        *(f"Escalated from {move['from']} to {move['to']}: {move['because']}" for move in state.escalations),
        *(by_status[step.status].format(step) for step in state.steps.values() if step.status in by_status),
        *(f"{h['title']}: {h['result']} by hand, by {h['by']}, at {h['when']}: {h['note']}" for h in state.by_hand),
        *state.notes,
    ]
