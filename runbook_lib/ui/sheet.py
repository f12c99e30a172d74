"""The sheet of a run: what a person does by hand, step by step, without the runbook; from the journal alone."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from runbook_lib.config.plan import Plan
from runbook_lib.errors import ParametersError
from runbook_lib.journal.event import Event
from runbook_lib.journal.folder import RunFolder
from runbook_lib.journal.state import RunState
from runbook_lib.report.facts import type_title
from runbook_lib.report.report import render
from runbook_lib.steps import kinds

TEMPLATE = "sheet.md.j2"
NAMED = re.compile(r'"\$([A-Za-z_]\w*)"')


@dataclass(frozen=True)
class Part:
    """One step of the sheet: what it does, how a person does it by hand, and what is recorded of it."""

    name: str
    title: str
    does: str
    would: Sequence[str]
    loses: Sequence[str]
    undone_by: str
    estimate: int
    if_not: str
    instructions: Sequence[Mapping[str, str]]  # of kind "sql", "shell" or "words", with `text` and `expect`
    done: bool  # by the runbook, as the journal has it
    by_hand: Sequence[Mapping[str, str]]  # what people recorded


@dataclass(frozen=True)
class Sheet:
    """What a person does by hand instead of a run."""

    run: str
    feature: str
    title: str
    target: str
    environment: str
    type: str
    digest: str
    previewed_at: str
    approved_by: str  # "" if nobody has approved this preview
    obstacles: Sequence[str]  # why the preview cannot be approved
    psql: str  # the command that runs an `sql` block
    secrets: Sequence[str]  # environment variables that the commands name
    steps: Sequence[Part]
    checks: Mapping[str, str]  # of the final list, name -> title

    def as_json(self) -> dict[str, Any]:
        """The sheet as plain values."""
        return asdict(self)

    def markdown(self) -> str:
        """The sheet to read, print and tick; `sql` blocks are for psql, `sh` blocks for a shell."""
        return render(TEMPLATE, sheet=self, fence=_fence)


def sheet(folder: RunFolder, plan: Plan, state: RunState, events: Sequence[Event]) -> Sheet:
    """Make the sheet of a run from its approved preview, else from its latest. Pure.

    Args:
        folder: The run folder.
        plan: Its plan.
        state: The run's state.
        events: Its journal.

    Raises:
        ParametersError: The run has no preview, or one from a version without instructions.
    """
    digest = state.approved or state.previewed
    previewed = next((e for e in reversed(events) if e.kind == "previewed" and e.data["digest"] == digest), None)
    shown = previewed.data["shown"] if previewed else []
    if previewed is None or not previewed.data.get("psql") or any("by_hand" not in each for each in shown):
        raise ParametersError(
            "This run has no preview from which a sheet can be made.",
            where=str(folder.path),
            state="Nothing was written.",
            safe_next="Run `runbook plan`, which begins a run with a preview, or `await preview(run)` in a notebook.",
        )
    kind = plan.types[state.type]
    instructions = [each["text"] for preview in shown for each in preview["by_hand"]]
    return Sheet(
        run=folder.id,
        feature=plan.feature,
        title=plan.title,
        target=state.opened["target"],
        environment=state.opened["environment"],
        type=type_title(plan, state),
        digest=digest,
        previewed_at=previewed.at,
        approved_by=state.approved_by if state.approved else "",
        obstacles=_obstacles(state, digest),
        psql=previewed.data["psql"],
        secrets=sorted({name for text in instructions for name in NAMED.findall(text)}),
        steps=[_part(each, plan, state) for each in _in_turn(shown, plan)],
        checks={name: plan.checks[name].title for name in kind.checks},
    )


def _in_turn(shown: Sequence[Mapping[str, Any]], plan: Plan) -> list[Mapping[str, Any]]:
    """The previews in the order of execution; steps that go first come before the outage."""
    first = [each for each in shown if each["goes_first"]]
    others = [each for each in shown if not each["goes_first"]]
    begins = [n for n, each in enumerate(others) if kinds()[plan.steps[each["step"]].kind].BEGINS_OUTAGE]
    at = min(begins, default=0)
    return [*others[:at], *first, *others[at:]]


def _part(preview: Mapping[str, Any], plan: Plan, state: RunState) -> Part:
    name = preview["step"]
    about = plan.steps[name].about
    return Part(
        name=name,
        title=preview["title"],
        does=about.does,
        would=preview["would"],
        loses=preview["loses"],
        undone_by=preview["undone_by"],
        estimate=preview["estimate"],
        if_not=about.if_not,
        instructions=preview["by_hand"],
        done=state.step(name).is_done,
        by_hand=[each for each in state.by_hand if each["step"] == name],
    )


def _obstacles(state: RunState, digest: str) -> list[str]:
    """The checks of that preview that are neither passed nor waived, a line each."""
    found = [look for name in ("foreseen", "clone") for look in state.checks.get(f"{name}:{digest}", {}).values()]
    return [
        f"{look['title']}: {look['status']}, {look['summary']}"
        for look in found
        if look["status"] != "PASS" and not {look["name"], look["evidence"].get("step")} & state.waivers.keys()
    ]


def _fence(text: str) -> str:
    """A fence for a block, longer than any fence in its text."""
    return "`" * max(3, *(1 + len(found) for found in re.findall(r"`+", text)), 3)


def write(made: Sheet, file: Path) -> None:
    """Write a sheet to a file that only its owner may read."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.touch(mode=0o600, exist_ok=True)
    file.write_text(made.markdown(), encoding="utf-8")
