"""What an engineer must know before an approval, in short: outage, losses, irreversible steps, a line a step, risks."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING

from runbook_lib.config.plan import Plan, StepSpec
from runbook_lib.config.plan.steps import ACCESS
from runbook_lib.results import Result, not_passed
from runbook_lib.steps import Preview, kinds
from runbook_lib.ui import terminal
from runbook_lib.ui.estimates import roughly

if TYPE_CHECKING:
    from runbook_lib.run.undo import Offer

RISK = "RISK: "
HEAD = ["step", "what it does", "estimate", "undo"]
AROUND, LEAST = 36, 24  # columns that the rest of a row takes next to step and what it does; the least for the latter


def text(
    plan: Plan,
    previews: Sequence[Preview],
    prerequisites: Sequence[Result],
    foreseen: Sequence[Result],
    tried: Sequence[Result],
    waived: Collection[str],
) -> str:
    """The summary as text for a terminal, every line broken to its width.

    It leaves out what was not passed and is not waived: the refusal names that.
    """
    looks = {"prerequisites": prerequisites, "preconditions of steps": foreseen, "trials on a clone": tried}
    counted = [f"{len(found) - len(not_passed(found))} of {len(found)} {name}" for name, found in looks.items() if found]
    skipped = [r for found in looks.values() for r in not_passed(found) if {r.name, r.evidence.get("step")} & {*waived}]
    return "\n".join(
        [
            terminal.wrapped(f"Expected outage: {outage(plan, previews)}"),
            steps_text(previews),
            *map(terminal.wrapped, [*map(_waived, skipped), f"Passed: {', '.join(counted)}"]),
        ]
    )


def steps_text(previews: Sequence[Preview]) -> str:
    """What previewed steps lose, which cannot be undone, a line each, and their risks, as text for a terminal."""
    lines = [
        *_list("Users lose", [f"{each} ({p.step})" for p in previews for each in p.loses]),
        *_list("Cannot be undone", [f"{p.step}: {p.undone_by}" for p in previews if p.irreversible]),
    ]
    columns = max(LEAST, terminal.width() - AROUND - max((len(p.step) for p in previews), default=0))
    rows = [[p.step, terminal.cut(_first(p), columns), f"{p.estimate} s", _undo(p)] for p in previews]
    heading = f"\nSteps: {len(previews)}, {roughly(sum(p.estimate for p in previews))} in all"
    shown = terminal.table(heading, HEAD, rows, whole=HEAD[2:])
    return "\n".join([*map(terminal.wrapped, lines), shown, *map(terminal.wrapped, ["", *_risks(previews)])])


def cleanup_text(digest: str, previews: Sequence[Preview]) -> str:
    """What a cleanup deletes for good, and what is lost with it, as text for a terminal."""
    heading = f"Cleanup {digest}: {len(previews)} items, each deleted for good"
    items = [f"  - {p.facts.get('debt', p.step)} ({p.title}): {'; '.join([*p.would, *_lost(p)])}" for p in previews]
    return terminal.wrapped("\n".join([heading, *items]), "    ")


def undo_text(offered: Offer) -> str:
    """What an undo does, newest step first, what it leaves as it is, and what it cannot undo, as text for a terminal."""
    rows = [[p.step, "\n".join(p.would), f"{p.estimate} s"] for p in offered.previews]
    lines = [
        *_list("Leaves as it is", [f"{each} ({p.step})" for p in offered.previews for each in p.loses]),
        *_list("Cannot be undone", [f"{step}: {why}" for step, why in offered.refused.items()]),
    ]
    heading = f"Undo {offered.digest}: {len(rows)} steps, newest first"
    shown = terminal.table(heading, ["step", "what the undo does", "estimate"], rows)
    return "\n".join([shown, "", *map(terminal.wrapped, lines)])


def outage(plan: Plan, previews: Sequence[Preview]) -> str:
    """The expected time from the first step that stops services to the last one that starts some, and what those are."""
    steps = [p for p in previews if not p.goes_first]
    begins = [n for n, p in enumerate(steps) if _begins_outage(plan.steps[p.step])]
    ends = [n for n, p in enumerate(steps) if _ends_outage(plan.steps[p.step])]
    if not begins:
        return "none; no step stops a service"
    if not ends or ends[-1] < begins[0]:
        return f"no end: {steps[begins[0]].step} begins it, and no later step ends it"
    down = steps[begins[0] : ends[-1] + 1]
    measured = sum(bool(p.measured) for p in down)
    source = (
        f"{measured} of {len(down)} step times measured, the others estimated" if measured else "estimated, not measured"
    )
    return f"{roughly(sum(p.estimate for p in down))}, from {down[0].step} to {down[-1].step} ({source})"


def _begins_outage(spec: StepSpec) -> bool:
    return kinds()[spec.kind].BEGINS_OUTAGE or spec.about.starts_on_undo


def _ends_outage(spec: StepSpec) -> bool:
    return spec.about.starts or (ACCESS in spec.touches().changes and not _begins_outage(spec))


def _list(title: str, lines: Sequence[str]) -> list[str]:
    if len(lines) < 2:
        return [f"{title}: {lines[0] if lines else 'nothing'}"]
    return [f"{title}:", *(f"  - {line}" for line in lines)]


def _first(preview: Preview) -> str:
    """What a step does, without its risks, which have lines of their own."""
    return "; ".join(line for line in preview.would if not line.startswith(RISK)) or preview.title


def _undo(preview: Preview) -> str:
    if preview.irreversible:
        return "IRREVERSIBLE"
    return "nothing to undo" if preview.undone_by.startswith("nothing") else "UNDOABLE"


def _risks(previews: Sequence[Preview]) -> Iterator[str]:
    for preview in previews:
        yield from (f"{line} ({preview.step})" for line in preview.would if line.startswith(RISK))
        _, *risks = preview.undone_by.split(RISK)
        yield from (f"{RISK}{risk.strip().rstrip('.')} ({preview.step}, undo)" for risk in risks)


def _lost(preview: Preview) -> list[str]:
    return [f"loses {loss}" for loss in preview.loses]


def _waived(result: Result) -> str:
    return f"WAIVED ({result.status}): {result.title} ({result.name}): {result.summary}"
