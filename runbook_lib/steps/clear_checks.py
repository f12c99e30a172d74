"""Whether a backfill is cleared as it should be, and nothing else with it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runbook_lib.adapters.postgres.clearing.clearing import Clearing
from runbook_lib.adapters.postgres.connection import Connection
from runbook_lib.results import Result, Status
from runbook_lib.steps.clear_gone import gone

if TYPE_CHECKING:
    from runbook_lib.steps.clear_backfill import ClearBackfill


def cleared(step: ClearBackfill, clearing: Clearing, connection: Connection) -> Result:
    """That nothing approved is left. Read-only."""
    left = step.backfill.count(connection)
    spared = step.context.outcomes.get(step.name, {}).get("not approved, so left alone", 0)
    return step.result(
        "cleared",
        "No backfilled entry that was approved is left",
        Status.PASS if left <= spared else Status.FAIL,
        f"{left} rows with backfilled entries ({spared} came after the approval)",
    )


def nothing_else(step: ClearBackfill, clearing: Clearing, connection: Connection) -> Result:
    """That the approved rows hold what was computed and nothing else changed, by the proof that could be made. Read-only."""
    title = "Each cleared row holds what was computed for it; no other row and no other column of the table changed"
    if not clearing.begun(connection):
        return step.result("proof", title, Status.PASS, "this run wrote nothing to the table")
    proof = clearing.proof
    if step.stopped:
        found = proof.differences(connection)
        if found is None:
            text = "this run kept no fingerprints before the change, or decided otherwise since on what is cleared"
            return step.result("proof", title, Status.UNKNOWN, f"{text}; undo the step and run it again for a proof")
        if found and proof.fewer(connection):
            found += filter(None, [gone(step)])
        text = f"stopped: the fingerprints of {proof.rows(connection)} rows, made while nothing else wrote, are equal"
    else:
        found = proof.strays(connection)
        text = "live: no row outside the change carries a transaction of this run, whose counts each matched"
        if not proof.in_place:
            text = "live: each transaction of this run wrote just the rows counted, in the column aside alone"
    if (found or not step.stopped) and (wrong := clearing.unexpected(connection)):
        found.append(f"{wrong.count} rows hold another value than was computed for them: {wrong}")
    return step.result("proof", title, Status.FAIL if found else Status.PASS, "; ".join(found) or text, differences=found)
