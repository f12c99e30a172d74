"""What earlier runs teach of how long steps take."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

NEWEST = 50  # runs that are looked at
ALIKE = 2.0  # by which factor the rows of two runs may differ for the seconds of one to count for the other


@dataclass(frozen=True)
class Past:
    """A verified run: what each step took in seconds, and the rows that it was about (0: unknown)."""

    key: tuple[str, str, str]  # plan, type, option
    steps: Mapping[str, float]
    rows: int = 0
    at: str = ""  # when it was opened, ISO 8601


def past(events: Iterable[Mapping[str, Any]]) -> Past | None:
    """Return what a journal teaches; None where the run was not verified, or its steps were not all done in it. Pure."""
    plan, type_name, option, verified, rows, at = "", "", "", False, 0, ""
    steps: dict[str, float] = {}
    for event in events:
        data = event["data"]
        match event["kind"]:
            case "opened":
                plan, type_name, option, at = data["plan"], data["type"], data["option"], event.get("at", "")
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
    return Past((plan, type_name, option), steps, rows, at) if verified and steps else None


def rows_of(previewed: Mapping[str, Any]) -> int:
    """Return how many rows the previews of a run are about. Pure."""
    return max((step.get("volumes", {}).get("rows", 0) for step in previewed.values()), default=0)


def read(outputs: Path, but: str = "") -> list[Past]:
    """Return what the newest runs below `outputs` teach, without the one named `but`; an unreadable one teaches nothing.

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


def measured(
    runs: Sequence[Past], key: tuple[str, str, str], step: str, rows: int, *, grows: bool
) -> tuple[float, str] | None:
    """Return what a step took in the newest of some runs like this one of about its size, and when; None: in none. Pure.

    Args:
        runs: Earlier runs, whatever their plan.
        key: The plan, type and option of this one.
        step: The step.
        rows: What this run is about; 0 where that is unknown.
        grows: Whether its time grows with the rows: then it is scaled.
    """
    for run in sorted(runs, key=lambda each: each.at, reverse=True):
        if run.key == key and step in run.steps:
            scale = rows / run.rows if rows and run.rows else 1.0
            if not grows or (bool(rows) is bool(run.rows) and 1 / ALIKE <= scale <= ALIKE):
                return run.steps[step] * (scale if grows else 1.0), run.at
    return None
