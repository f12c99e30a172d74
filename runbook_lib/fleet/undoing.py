"""The undo of a fleet: what it would do on each target, approved as a whole by one digest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from runbook_lib.errors import Declined, RunbookError
from runbook_lib.fleet import FleetRun, digest_of, shared
from runbook_lib.run import lifecycle, undo


@dataclass(frozen=True)
class Offer:
    """The targets that an undo concerns, each with its own digest, and why it cannot be done on others."""

    digest: str
    digests: Mapping[str, str]
    loses: Mapping[str, list[str]]
    refused: Mapping[str, str]

    def lines(self, path: str) -> list[str]:
        """The offer in words, with the command that approves it. Pure."""
        lost = [f"  {name}: {line}" for name, lines in self.loses.items() for line in lines]
        return [
            f"The rollback of {len(self.digests)} targets would be undone, the last wave first.",
            *(["What that leaves:", *lost] if lost else []),
            *(f"Not undone: {name}: {why}" for name, why in self.refused.items()),
            *([f"Nothing was changed. To undo: runbook fleet undo {path} --approve {self.digest}"] if self.digests else []),
        ]

    def as_json(self) -> dict[str, Any]:
        """The same as plain values."""
        return {"digest": self.digest, "targets": list(self.digests), "loses": self.loses, "refused": self.refused}


def offer(run: FleetRun) -> Offer:
    """Preview the undo of every target that has an effect of its run. Reads the targets.

    Raises:
        Declined: No target has any.
    """
    digests, loses, refused = dict[str, str](), dict[str, list[str]](), dict[str, str]()
    later = shared.undone_later(run.fleet.shared, run.state.targets)
    for name, each in run.standings().items():
        if not each.touched:
            continue
        try:
            opened = lifecycle.open_existing(run.child(name))
            opened.context.after_undo = name in later
            try:
                found = undo.offer(opened, approved=run.state.undone_by.get(name, ""))
            finally:
                opened.close_adapters()
        except RunbookError as error:
            refused[name] = error.what
            continue
        if found.refused:
            refused[name] = "; ".join(f"{step}: {why}" for step, why in found.refused.items())
        else:
            digests[name] = found.digest
            loses |= {name: [line for preview in found.previews for line in preview.loses]}
    if not digests and not refused:
        raise Declined(
            "No target of this fleet was rolled back, so there is nothing to undo.",
            where=str(run.path),
            state="Nothing was changed.",
            safe_next=f"Look at `runbook fleet status {run.path}`.",
        )
    return Offer(digest_of(digests), digests, {name: lines for name, lines in loses.items() if lines}, refused)


def approve(run: FleetRun, offered: Offer, digest: str, by: str) -> None:
    """Record the approval of an undo; one that was begun is resumed by the digest that it was approved by.

    Raises:
        Declined: The digest is not the offer's.
    """
    if digest == run.state.undo:
        return
    if digest != offered.digest or not offered.digests:
        raise Declined(
            f"The undo is {offered.digest} now, and {digest!r} was approved.",
            where=str(run.path),
            state="Nothing was changed.",
            safe_next=f"Read `runbook fleet undo {run.path}`, then approve its digest.",
        )
    run.journal.append("fleet-undo-approved", digest=digest, by=by, count=len(offered.digests), digests=offered.digests)
