"""Whether a backfill is cleared as it should be, and nothing else with it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runbook_lib.adapters.postgres.clearing.clearing import Clearing
from runbook_lib.adapters.postgres.connection import Connection
from runbook_lib.results import Result, Status

if TYPE_CHECKING:
    from runbook_lib.steps.clear_backfill import ClearBackfill


def cleared(step: ClearBackfill, clearing: Clearing, connection: Connection) -> Result:
    """That nothing approved is left, and each changed row holds what was computed. Read-only."""
    begun = clearing.begun(connection)
    left = step.backfill.count(connection)
    wrong = clearing.unexpected(connection) if begun else 0
    spared = step.context.outcomes.get(step.name, {}).get("not approved, so left alone", 0)
    return step.result(
        "cleared",
        "No backfilled entry that was approved is left, and each changed row holds what was computed for it",
        Status.PASS if left <= spared and wrong == 0 else Status.FAIL,
        f"{left} rows with backfilled entries ({spared} came after the approval), {wrong} rows with another value",
    )


def nothing_else(step: ClearBackfill, clearing: Clearing, connection: Connection) -> Result:
    """That nothing but the approved rows' column changed, by the proof that could be made. Read-only."""
    proof = clearing.proof
    title = "No other row and no other column of the table changed"
    if not clearing.begun(connection):
        return step.result("proof", title, Status.PASS, "this run wrote nothing to the table")
    if not step.stopped:
        found = proof.strays(connection)
        text = "live: no row outside the change carries a transaction of this run, whose counts each matched"
        if not proof.in_place:
            text = "live: each transaction of this run wrote just the rows counted, in the column aside alone"
        return step.result("proof", title, Status.FAIL if found else Status.PASS, "; ".join(found) or text)
    differences = proof.differences(connection)
    if differences is None:
        return step.result("proof", title, Status.UNKNOWN, "this run kept no fingerprints before the change")
    rows = proof.rows(connection)
    return step.result(
        "proof",
        title,
        Status.FAIL if differences else Status.PASS,
        "; ".join(differences)
        if differences
        else f"stopped: the fingerprints of {rows} rows, made while nothing else wrote, are equal",
        differences=differences,
    )
