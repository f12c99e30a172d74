"""Symptoms to rollback type, by the plan's decision matrix. Pure; the checks are made elsewhere."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from runbook_lib.plan import MatrixRow, Plan
from runbook_lib.results import Result, Status

SEVERITIES = ("medium", "high", "critical")


@dataclass(frozen=True)
class RowFound:
    """A row of the matrix, whether the facts match it, and why."""

    row: MatrixRow
    matches: Literal["yes", "no", "unknown"]
    because: str


@dataclass(frozen=True)
class Recommendation:
    """Every row scored, and the type that the gravest match asks for ("" where nothing matches)."""

    rows: list[RowFound]
    type: str
    reason: str


def checks_needed(plan: Plan) -> list[str]:
    """The checks that the matrix rests on, each once, in the plan's order."""
    named = {name for row in plan.decision_matrix for name in [*row.failing, *row.passing]}
    return [name for name in plan.checks if name in named]


def recommend(plan: Plan, results: Iterable[Result]) -> Recommendation:
    """Score each row of the plan's matrix by what the checks found; the gravest match, then the first, is recommended."""
    found = {result.name: result for result in results}
    rows = [_scored(row, found) for row in plan.decision_matrix]
    matching = [scored for scored in rows if scored.matches == "yes"]
    if not matching:
        unknown = [scored.row.symptom for scored in rows if scored.matches == "unknown"]
        return Recommendation(
            rows, "", f"Unknown: {', '.join(unknown)}." if unknown else "No symptom of the matrix was found."
        )
    gravest = max(matching, key=lambda scored: SEVERITIES.index(scored.row.severity))
    row = gravest.row
    return Recommendation(rows, row.type, f"{row.symptom} ({row.severity}, {row.action}): {gravest.because}")


def _scored(row: MatrixRow, found: Mapping[str, Result]) -> RowFound:
    wanted = {**dict.fromkeys(row.failing, Status.FAIL), **dict.fromkeys(row.passing, Status.PASS)}
    told = {name: found[name].status for name in wanted if name in found}
    because = "; ".join(f"{name} {status}" for name, status in told.items())
    if any(told.get(name) not in (status, Status.UNKNOWN, None) for name, status in wanted.items()):
        return RowFound(row, "no", because)
    return RowFound(row, "yes" if told == wanted else "unknown", because)
