"""How long what is left should take, by earlier runs of the same plan, type and option, scaled by rows."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

FEWEST = 5  # runs that an estimate rests on
NEWEST = 50  # runs that are looked at


@dataclass(frozen=True)
class Past:
    """A verified run: what each step took in seconds, and the rows that it was about (0: unknown)."""

    key: tuple[str, str, str]  # plan, type, option
    steps: Mapping[str, float]
    rows: int = 0


@dataclass(frozen=True)
class Estimate:
    """Seconds that are left by `runs` earlier runs; `errors` are the shares by which this way of estimating has been off."""

    median: float
    p90: float
    runs: int
    errors: Sequence[float] = field(default_factory=list)

    def __str__(self) -> str:
        off = (
            f"off by {median(self.errors):.0%} at the median, {max(self.errors):.0%} at worst, where it could be tested"
            if self.errors
            else "how far off it may be is not known yet"
        )
        return f"expected to remain: {self.median:.0f} s (median), {self.p90:.0f} s (p90), by {self.runs} runs; {off}"


def past(events: Iterable[Mapping[str, Any]]) -> Past | None:
    """What a journal teaches; None where the run was not verified, or its steps were not all done in it. Pure."""
    plan, type_name, option, verified, rows = "", "", "", False, 0
    steps: dict[str, float] = {}
    for event in events:
        data = event["data"]
        match event["kind"]:
            case "opened":
                plan, type_name, option = data["plan"], data["type"], data["option"]
            case "chosen" if data["name"] == "TYPE":
                type_name = data["value"]
            case "chosen" if data["name"] == "OPTION":
                option = data["value"]
            case "escalated":
                return None
            case "previewed":
                rows = rows_of(data["steps"])
            case "applied":
                steps[data["step"]] = data["seconds"]
            case "outcome":
                verified = data["status"] == "verified"
    return Past((plan, type_name, option), steps, rows) if verified and steps else None


def rows_of(previewed: Mapping[str, Any]) -> int:
    """How many rows the previews of a run are about. Pure."""
    return max((step.get("volumes", {}).get("rows", 0) for step in previewed.values()), default=0)


def estimate(
    runs: Sequence[Past], key: tuple[str, str, str], left: Mapping[str, bool], rows: int, spent: float = 0.0
) -> Estimate | None:
    """How long the steps `left` (name -> whether its time grows with the rows) should take; None: too few runs. Pure.

    Args:
        runs: Earlier runs, whatever their plan.
        key: The plan, type and option of this one.
        left: The steps that are not done yet.
        rows: What this run is about; 0 where that is unknown.
        spent: Seconds that the first of them has taken by now.
    """
    known = [run for run in runs if run.key == key and set(left) <= set(run.steps)]
    if len(known) < FEWEST or not left:
        return None
    found = sorted(max(0.0, _foretold(run, left, rows) - spent) for run in known)
    return Estimate(median(found), _p90(found), len(found), _errors(known, left))


def read(outputs: Path, but: str = "") -> list[Past]:
    """What the newest runs below `outputs` teach, without the one named `but`; an unreadable one teaches nothing.

    Read-only.
    """
    found = []
    for journal in sorted(outputs.glob("*/journal.jsonl"), reverse=True)[:NEWEST]:
        if journal.parent.name == but:
            continue
        try:
            with open(journal, encoding="utf-8") as file:
                known = past(json.loads(line) for line in file)
        except (OSError, ValueError, KeyError, TypeError):
            continue
        found += [known] if known else []
    return found


def _foretold(run: Past, steps: Mapping[str, bool], rows: int) -> float:
    scale = rows / run.rows if rows and run.rows else 1.0
    return sum(run.steps[name] * (scale if grows else 1.0) for name, grows in steps.items())


def _errors(runs: Sequence[Past], steps: Mapping[str, bool]) -> list[float]:
    """For each run, by which share the median of the others would have been off; none where those are too few."""
    if len(runs) <= FEWEST:
        return []
    errors = []
    for number, run in enumerate(runs):
        others = [other for place, other in enumerate(runs) if place != number]
        took = sum(run.steps[name] for name in steps)
        if took:
            errors.append(abs(median(_foretold(other, steps, run.rows) for other in others) - took) / took)
    return errors


def _p90(values: Sequence[float]) -> float:
    """The smallest of the sorted values that nine tenths do not exceed."""
    return values[-(-9 * len(values) // 10) - 1]
