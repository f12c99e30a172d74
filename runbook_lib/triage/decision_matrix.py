"""Symptoms to rollback type, by the plan's decision matrix. Pure; the checks are made elsewhere."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from runbook_lib.config.plan import MatrixRow, Monitor, Plan, Trouble
from runbook_lib.errors import ParametersError
from runbook_lib.report import charts
from runbook_lib.results import Result, Status, worst
from runbook_lib.run import Run

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
    """Every row scored, the gravest match, and the type to choose now: "" where nothing matches, or not yet."""

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
    """Return the checks that the matrix rests on, each once, in the plan's order."""
    named = {name for row in plan.decision_matrix for name in [*row.failing, *row.passing, *row.findings]}
    return [name for name in plan.checks if name in named]


def recommend(plan: Plan, results: Iterable[Result], words: Mapping[str, Word] | None = None) -> Recommendation:
    """Score each row of the plan's matrix by what the checks found; the gravest match, then the first, counts.

    What somebody says of a symptom, by its name in `words`, contradicts what was found.

    Where its action is not immediate, no type is recommended before that is done.
    """
    found = {result.name: result for result in results}
    rows = [_by_word(_scored(plan, row, found), (words or {}).get(row.symptom)) for row in plan.decision_matrix]
    matching = [scored for scored in rows if scored.matches == "yes"]
    if not matching:
        if not rows:
            return Recommendation(rows, "", "The plan has no decision matrix: a person chooses the type.")
        return Recommendation(rows, "", _to_investigate(rows) or "No symptom of the matrix was found.")
    gravest = max(matching, key=lambda scored: SEVERITIES.index(scored.row.severity))
    row = gravest.row
    graver = [each for each in rows if SEVERITIES.index(each.row.severity) > SEVERITIES.index(row.severity)]
    reason = f"{row.symptom} ({row.severity}, {row.asks}): {gravest.because}"
    reason += f". {more}" if (more := _to_investigate(graver).rstrip(".")) else ""
    if row.action == "immediate":
        return Recommendation(rows, row.type, reason, row)
    return Recommendation(rows, "", f"{reason}. Before {row.type}: {row.asks}.", row)


def investigated(row: MatrixRow, results: Iterable[Result]) -> Verdict:
    """What the findings say of a row that is to be investigated first: confirmed only where each confirming check passes."""
    found = {result.name: result for result in results}
    seen = {name: found[name].status if name in found else Status.UNKNOWN for name in row.confirmed_by}
    because = "; ".join(
        f"{name} {status}" + (f": {found[name].summary}" if name in found else "") for name, status in seen.items()
    )
    if all(status is Status.PASS for status in seen.values()):
        return Verdict(row.type, f"{row.symptom}, confirmed: {because}")
    if Status.FAIL in seen.values():
        return Verdict("", f"{row.symptom}: {row.type} is not the remedy, {because}")
    return Verdict("", f"{row.symptom}: not confirmed, {because}")


def watched(row: MatrixRow, statuses: Sequence[Status], *, over: bool) -> Verdict | None:
    """Return what a watch comes to after some rounds, given each round's verdict; None until it ends.

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
    return Verdict("", f"{row.symptom}: the time is over, and the last rounds are unknown")


def _by_word(scored: RowFound, word: Word | None) -> RowFound:
    if word is None or word.value == scored.matches:
        return scored
    return RowFound(scored.row, word.value, f"{word.value}, says {word.by}; {scored.because}", word.by)


def _to_investigate(rows: Iterable[RowFound]) -> str:
    """Return what asks for a person to look, as no rollback is recommended for what is unknown; "" for nothing."""
    unknown = [f"{each.row.symptom} ({each.because})" for each in rows if each.matches == "unknown"]
    return f"Unknown, to be investigated before any rollback: {', '.join(unknown)}." if unknown else ""


def _scored(plan: Plan, row: MatrixRow, found: Mapping[str, Result]) -> RowFound:
    known = {
        name: why
        for name in [*row.failing, *row.passing]
        if name in found and found[name].status is Status.FAIL and (why := plan.was_there_before(name, found[name].findings))
    }
    if before := [f"{name} FAIL, as before the release: {known[name]}" for name in row.failing if name in known]:
        return RowFound(row, "no", "; ".join(before))
    wanted = {**dict.fromkeys(row.failing, Status.FAIL), **dict.fromkeys(row.passing, Status.PASS)}
    said = {name: Status.UNKNOWN if name in known else found[name].status for name in wanted if name in found}
    because = "; ".join(
        f"{n} {status}{f', FAIL before the release too: {known[n]}' if n in known else ''}" for n, status in said.items()
    )
    if any(said.get(name) not in (status, Status.UNKNOWN, None) for name, status in wanted.items()):
        return RowFound(row, "no", because)
    return RowFound(row, "yes" if said == wanted else "unknown", because)


@dataclass(frozen=True)
class Diagnosis:
    """A trouble, whether it is there, and what was seen of it."""

    name: str
    trouble: Trouble
    there: Literal["yes", "no", "unknown"]
    seen: list[Result]


def checks_of_troubles(plan: Plan) -> list[str]:
    """Return the checks that identify the troubles, each once, in the plan's order."""
    named = {name for trouble in plan.troubles.values() for name in [*trouble.signs, *trouble.passing]}
    return [name for name in plan.checks if name in named]


def diagnose(plan: Plan, results: Iterable[Result]) -> list[Diagnosis]:
    """Return which of the plan's troubles the checks show: any sign fails, and all that must pass does."""
    found = {result.name: result for result in results}
    return [_told(name, trouble, found) for name, trouble in plan.troubles.items()]


def _told(name: str, trouble: Trouble, found: dict[str, Result]) -> Diagnosis:
    seen = [found[check] for check in [*trouble.signs, *trouble.passing] if check in found]
    signs = [found[check].status for check in trouble.signs if check in found]
    others = [found[check].status for check in trouble.passing if check in found]
    if Status.FAIL in others or (signs and all(status is Status.PASS for status in signs)):
        return Diagnosis(name, trouble, "no", seen)
    sure = Status.FAIL in signs and all(status is Status.PASS for status in others) and len(others) == len(trouble.passing)
    return Diagnosis(name, trouble, "yes" if sure else "unknown", seen)


FILE = "evidence/monitor.svg"


@dataclass(frozen=True)
class Sample:
    """One round of a watch: seconds since it began, what its checks came to, and the number that is plotted."""

    at: float
    status: Status
    summary: str
    value: float | None = None


@dataclass
class Watch:
    """The state of a watch: its rounds so far, and its result, if any."""

    row: MatrixRow
    monitor: Monitor
    samples: list[Sample] = field(default_factory=list)
    limit: float = 0.0
    verdict: Verdict | None = None

    def plot(self) -> str:
        """Return the numbers over time, with their limit, as SVG; "" while there are none. Pure."""
        values = [(sample.at, sample.value) for sample in self.samples if sample.value is not None]
        across = "seconds since the watch began"
        return charts.line(values, self.limit, across=across, up="milliseconds") if values else ""


def row_for(run: Run, action: str) -> MatrixRow | None:
    """Return the row of the matrix that the triage of this run named, where it asks for `action`. Read-only."""
    named = next((e.data for e in reversed(run.journal.events()) if e.kind == "recommended" and "symptom" in e.data), {})
    rows = run.context.plan.decision_matrix
    return next((row for row in rows if row.symptom == named.get("symptom") and row.action == action), None)


def investigate(run: Run, row: MatrixRow) -> tuple[list[Result], Verdict]:
    """Make the checks that confirm or clear a symptom; journaled. Read-only."""
    found = run.observe("investigation", row.confirmed_by)
    return found, recommended(run, investigated(row, found))


def planned(row: MatrixRow, changed: dict[str, str]) -> Monitor:
    """Return how the row is watched by the plan, but for what was changed: EVERY, LASTS (seconds), FAILURES. Pure.

    Raises:
        ParametersError: A name is not known, or a value is no number above 0.
    """
    assert row.monitor is not None
    values = {name.upper(): value for name, value in row.monitor.model_dump().items()}
    if wrong := [f"{n}={v}" for n, v in changed.items() if n not in values or not v.isdecimal() or int(v) < 1]:
        raise ParametersError(
            f"MONITOR cannot be read: {', '.join(wrong)}.",
            state="Nothing was touched.",
            safe_next=f"Give whole numbers above 0 for {', '.join(values)}.",
        )
    return Monitor(**{name.lower(): int(changed.get(name, value)) for name, value in values.items()})


async def watch(
    run: Run,
    row: MatrixRow,
    monitor: Monitor,
    clock: Callable[[], float] = time.monotonic,
    pause: Callable[[float], Awaitable[object]] = asyncio.sleep,
) -> AsyncIterator[Watch]:
    """Run the row's checks at an interval until they decide, or the time is over; gives the watch after each round.

    Each round is journaled. Read-only.
    """
    watch, begun = Watch(row, monitor), clock()
    while watch.verdict is None:
        due = begun + len(watch.samples) * monitor.every
        if (left := due - clock()) > 0:
            await pause(left)
        found = await asyncio.to_thread(run.observe, "monitor", [*row.failing, *row.findings])
        own = [result for result in found if result.name in row.failing]
        watch.limit = own[0].evidence.get("limit_ms", watch.limit)
        status = worst(_since_release(run.context.plan, result) for result in own)
        watch.samples.append(Sample(round(clock() - begun, 1), status, own[0].summary, own[0].evidence.get("p95_ms")))
        over = begun + len(watch.samples) * monitor.every > begun + monitor.lasts
        statuses = [sample.status for sample in watch.samples]
        watch.verdict = watched(row.model_copy(update={"monitor": monitor}), statuses, over=over)
        yield watch
    recommended(run, watch.verdict)
    if svg := watch.plot():
        run.folder.write_text(FILE, svg)
        run.journal.append("evidence", title=f"{row.symptom}, watched", file=FILE, kind="image")


def _since_release(plan: Plan, result: Result) -> Status:
    """Return what a result says of the release: what it finds that was there before it is no failure."""
    was_there = result.status is Status.FAIL and plan.was_there_before(result.name, result.findings)
    return Status.PASS if was_there else result.status


def recommended(run: Run, found: Verdict) -> Verdict:
    """Journal what a longer look came to, and hand it back."""
    run.journal.append("recommended", type=found.type, reason=found.reason)
    return found
