"""A fleet as one row of `runbook list`."""

from __future__ import annotations

from pathlib import Path

from runbook_lib.fleet import open_existing
from runbook_lib.records.walk import Walk


def of_fleet(path: Path) -> Walk:
    """Return how a fleet's run went, from its journals. Read-only.

    Raises:
        JournalError: A journal's chain is broken.
    """
    run = open_existing(path)
    state, standings = run.state, run.standings()
    begins = [each.began for each in standings.values() if each.began]
    ends = [each.ended for each in standings.values() if each.ended]
    return Walk(
        name=run.folder.id,
        at=run.journal.events()[0].time,
        feature=str(state.opened["plan"]),
        target=f"fleet {state.opened['fleet']}, {len(standings)} targets",
        environment="fleet",
        type=str(state.opened["type"]),
        option=str(state.opened["option"]),
        outcome=str((state.outcome or {"status": "open"})["status"]),
        seconds=max(0.0, (max(ends) - min(begins)).total_seconds()) if begins and ends else None,
        outage="",
    )
