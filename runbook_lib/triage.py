"""Symptoms to rollback type, by the plan's decision matrix. Pure; the checks are made elsewhere."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from runbook_lib.plan import MatrixRow, Plan
from runbook_lib.results import Result, Status

SEVERITIES = ("medium", "high", "critical")


@dataclass(frozen=True)
class Word:
    """What somebody says of a symptom, whatever the checks found."""

    value: Literal["yes", "no"]
    by: str


@dataclass(frozen=True)
class RowFound:
    """A row of the matrix, whether it matches, why, and who said so against the facts ("" where the facts decide)."""

    row: MatrixRow
    matches: Literal["yes", "no", "unknown"]
    because: str
    by: str = ""


@dataclass(frozen=True)
class Recommendation:
    """Every row scored, the gravest match, and the type to go on with now: "" where nothing matches, or not yet."""

    rows: list[RowFound]
    type: str
    reason: str
    row: MatrixRow | None = None


@dataclass(frozen=True)
class Verdict:
    """What looking longer at a symptom came to: the type that is recommended ("" for none), and why."""

    type: str
    reason: str


def checks_needed(plan: Plan) -> list[str]:
    """The checks that the matrix rests on, each once, in the plan's order."""
    named = {name for row in plan.decision_matrix for name in [*row.failing, *row.passing, *row.findings]}
    return [name for name in plan.checks if name in named]


def recommend(plan: Plan, results: Iterable[Result], words: Mapping[str, Word] | None = None) -> Recommendation:
    """Score each row of the plan's matrix by what the checks found; the gravest match, then the first, counts.

    What somebody says of a symptom, by its name in `words`, stands against what was found.

    Where its action is not immediate, no type is recommended before that is done.
    """
    found = {result.name: result for result in results}
    rows = [_by_word(_scored(row, found), (words or {}).get(row.symptom)) for row in plan.decision_matrix]
    matching = [scored for scored in rows if scored.matches == "yes"]
    if not matching:
        unknown = [scored.row.symptom for scored in rows if scored.matches == "unknown"]
        return Recommendation(
            rows, "", f"Unknown: {', '.join(unknown)}." if unknown else "No symptom of the matrix was found."
        )
    gravest = max(matching, key=lambda scored: SEVERITIES.index(scored.row.severity))
    row = gravest.row
    reason = f"{row.symptom} ({row.severity}, {row.asks}): {gravest.because}"
    if row.action == "immediate":
        return Recommendation(rows, row.type, reason, row)
    return Recommendation(rows, "", f"{reason}. Before {row.type}: {row.asks}.", row)


def investigated(row: MatrixRow, results: Iterable[Result]) -> Verdict:
    """What the findings say of a row that is to be investigated first: confirmed only where each confirming check passes."""
    found = {result.name: result for result in results}
    told = {name: found[name].status if name in found else Status.UNKNOWN for name in row.confirmed_by}
    because = "; ".join(
        f"{name} {status}" + (f": {found[name].summary}" if name in found else "") for name, status in told.items()
    )
    if all(status is Status.PASS for status in told.values()):
        return Verdict(row.type, f"{row.symptom}, confirmed: {because}")
    if Status.FAIL in told.values():
        return Verdict("", f"{row.symptom}: {row.type} is not the remedy, {because}")
    return Verdict("", f"{row.symptom}: not confirmed, {because}")


def watched(row: MatrixRow, statuses: Sequence[Status], *, over: bool) -> Verdict | None:
    """What a watch comes to after some rounds, given each round's verdict; None while it goes on.

    It ends with the plan's number of failures in a row, or when its time is over; then only as many passes in a row, or
    nothing but passes, clear it.
    """
    assert row.monitor is not None
    needed = row.monitor.failures
    last = list(statuses[-needed:])
    if len(last) == needed and all(status is Status.FAIL for status in last):
        return Verdict(row.type, f"{row.symptom}: {needed} rounds in a row failed, of {len(statuses)}")
    if not over:
        return None
    if last and all(status is Status.PASS for status in last):
        return Verdict("", f"{row.symptom}: over; the last {len(last)} of {len(statuses)} rounds passed")
    if Status.FAIL in last:
        return Verdict(row.type, f"{row.symptom}: the time is over, and of the last {len(last)} rounds not every one passed")
    return Verdict("", f"{row.symptom}: the time is over, and the last rounds could not be told: unknown")


def _by_word(scored: RowFound, word: Word | None) -> RowFound:
    if word is None or word.value == scored.matches:
        return scored
    return RowFound(scored.row, word.value, f"{word.value}, says {word.by}; {scored.because}", word.by)


def _scored(row: MatrixRow, found: Mapping[str, Result]) -> RowFound:
    wanted = {**dict.fromkeys(row.failing, Status.FAIL), **dict.fromkeys(row.passing, Status.PASS)}
    told = {name: found[name].status for name in wanted if name in found}
    because = "; ".join(f"{name} {status}" for name, status in told.items())
    if any(told.get(name) not in (status, Status.UNKNOWN, None) for name, status in wanted.items()):
        return RowFound(row, "no", because)
    return RowFound(row, "yes" if told == wanted else "unknown", because)
