"""Looks longer at a symptom before a rollback is recommended: once more and closer, or again and again for a while."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

from runbook_lib import plots, triage
from runbook_lib.errors import ParametersError
from runbook_lib.plan import MatrixRow, Monitor
from runbook_lib.results import Result, Status, verdict
from runbook_lib.run import Run
from runbook_lib.triage import Verdict

FILE = "evidence/monitor.png"


@dataclass(frozen=True)
class Sample:
    """One round of a watch: seconds since it began, what its checks came to, and the number that is plotted."""

    at: float
    status: Status
    summary: str
    value: float | None = None


@dataclass
class Watch:
    """A watch as it stands: its rounds so far, and what it came to, once it has."""

    row: MatrixRow
    monitor: Monitor
    samples: list[Sample] = field(default_factory=list)
    limit: float = 0.0
    verdict: Verdict | None = None

    def plot(self) -> bytes | None:
        """The numbers over time, with their limit, as PNG; None while there are none. Pure."""
        values = [(sample.at, sample.value) for sample in self.samples if sample.value is not None]
        if not values:
            return None
        return plots.line([value for _, value in values], self.limit, "ms", (values[0][0], values[-1][0]), "s")


def row_for(run: Run, action: str) -> MatrixRow | None:
    """The row of the matrix that the triage of this run named, where it asks for `action`. Read-only."""
    named = next((e.data for e in reversed(run.journal.events()) if e.kind == "recommended" and "symptom" in e.data), {})
    rows = run.context.plan.decision_matrix
    return next((row for row in rows if row.symptom == named.get("symptom") and row.action == action), None)


def investigate(run: Run, row: MatrixRow) -> tuple[list[Result], Verdict]:
    """Make the checks that confirm or clear a symptom; journaled. Read-only."""
    found = run.observe("investigation", row.confirmed_by)
    return found, recommended(run, triage.investigated(row, found))


def planned(row: MatrixRow, changed: dict[str, str]) -> Monitor:
    """How the row is watched by the plan, but for what was changed: EVERY, LASTS (seconds), FAILURES. Pure.

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
    """Make the row's checks at an interval until they tell, or the time is over; gives the watch after each round.

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
        watch.samples.append(Sample(round(clock() - begun, 1), verdict(own), own[0].summary, own[0].evidence.get("p95_ms")))
        over = begun + len(watch.samples) * monitor.every > begun + monitor.lasts
        statuses = [sample.status for sample in watch.samples]
        watch.verdict = triage.watched(row.model_copy(update={"monitor": monitor}), statuses, over=over)
        yield watch
    recommended(run, watch.verdict)
    if (png := watch.plot()) is not None:
        run.folder.write_image(FILE, png)
        run.journal.append("evidence", title=f"{row.symptom}, watched", file=FILE, kind="image")


def recommended(run: Run, found: Verdict) -> Verdict:
    """Journal what a longer look came to, and hand it back."""
    run.journal.append("recommended", type=found.type, reason=found.reason)
    return found
