"""Option C, second half: put the database that was restored aside in the place of the live one."""

import itertools
import time
from collections.abc import Mapping
from typing import Any

from runbook_lib.adapters.postgres.connection import MAINTENANCE, identity
from runbook_lib.adapters.postgres.restore import swap
from runbook_lib.adapters.postgres.restore.ledger import Ledger
from runbook_lib.adapters.postgres.restore.outcome import Outcome
from runbook_lib.errors import PreconditionError
from runbook_lib.steps.base import Effect, Facts, Preview, Probe
from runbook_lib.steps.exchange import OLD
from runbook_lib.steps.loss import beyond, checksum, keep, ledger, numbers, standing, watching
from runbook_lib.steps.restore_aside import DEBT as RESTORED
from runbook_lib.steps.salvaging import carried, carried_before, compared, exported, foretell, is_exported
from runbook_lib.steps.swap_checks import CheckedExchange

NOT_MADE = "not made yet: restore aside first, then preview and approve again"


class SwapDatabase(CheckedExchange):
    """Fence writes, compare once more, exchange the names; the old database is kept under a dated one."""

    WORKS_IN_PARTS = True

    def preview(self) -> Preview:
        """What takes whose place, who is connected now, and the loss by the ledger. Read-only."""
        live, found = self.context.postgres.database, standing(self.context)
        counted = ledger(self.context)
        new, old = self.names
        with self.context.postgres.connect(MAINTENANCE) as maintenance:
            system = identity(maintenance).system
            connected = swap.sessions(maintenance, found.live)
        loss = numbers(counted, self.approved_apart) if counted else {}
        kept = {what: rows for what, rows in (numbers(counted) if counted else {}).items() if what not in loss}
        not_known = counted.unknown if counted else {}
        redefined = list(counted.defined_otherwise) if counted else []
        return Preview(
            self.name,
            self.title,
            would=[
                f"keep {live} from being written, compare it with {new} once more, then refuse connections and end those "
                f"there are ({len(connected)} now{': ' if connected else ''}{'; '.join(map(str, connected))})",
                f"rename {live} to {old} and {new} to {live} in one transaction; settings, grants, comment and limit follow "
                "the name, sequences go on where they were, our own records come along",
                "carry over what was written since the backup; what something is in the way of is listed, and exported"
                if self.carries
                else f"carry nothing over: what was written since the backup stays in {old}, and is exported",
                *(f"carry over {rows}: {what}" for what, rows in kept.items()),
            ],
            loses=[
                *([] if counted else [f"the loss is {NOT_MADE}"]),
                *(f"{rows}: {what}" for what, rows in loss.items()),
                *(f"{name}: as the backup has it, which is not as it is now" for name in redefined),
                *(f"NOT KNOWN: {what}: {why}" for what, why in not_known.items()),
            ],
            locks="SHARE on every table from the last comparison on; no connections for about a second",
            undone_by=f"renaming both back. {old} is kept: where pg_dump cannot read a corrupt database any more, it is the "
            "backup, and the backup step may be waived for that reason",
            estimate=self.spec.estimate,
            facts={
                "server": system,
                "database": live,
                "ledger": "made" if counted else NOT_MADE,
                "sha256": checksum(self.context, self.context.dump.path),
                "loss": loss,
                "not known": sorted(not_known),
                "only in the live database": list(counted.only_in_live) if counted else [],
                "defined otherwise in the backup": redefined,
                "salvage": "carry" if self.carries else "nothing",
            },
        )

    def probe(self) -> Probe:
        """Whether the names are exchanged and connections let in. Read-only."""
        found = standing(self.context)
        if found.live and not found.lets_in:
            return Probe(Effect.HALF_DONE, f"{found.live} refuses connections")
        if found.kept and not is_exported(self.context):
            return Probe(
                Effect.HALF_DONE, f"the names are exchanged; what was not carried from {found.kept} is to be exported"
            )
        if found.kept:
            return Probe(Effect.DONE, f"{found.live} is the restored database; the old one is {found.kept}")
        if self.name in self.context.done and not found.side:
            return Probe(Effect.DONE, "the names are exchanged, by the journal; the old database is dropped since")
        if not found.live:
            return Probe(Effect.UNKNOWN, f"there is no database {self.context.postgres.database}")
        return Probe(Effect.NOT_DONE, f"{found.live} is the old database")

    def too_little(self, approved: Mapping[str, Any]) -> str:
        """That the approval was given before the loss was counted, where it was. Read-only."""
        return "it was given before the loss was counted" if approved["facts"].get("ledger") == NOT_MADE else ""

    def apply(self) -> Facts:
        """Fence, compare, carry, exchange, export; where a try was cut short before the exchange, from the fence on.

        Changes the target.
        """
        found = self.opened()
        left = {} if found.kept else self._swap(found.live)
        kept = standing(self.context).kept
        if not is_exported(self.context):
            with self.in_parts():
                left |= exported(self.context, kept, found.live, watching(self, "for the export"), carry=self.carries)
        return {"old database": kept, **left}

    def undo(self) -> Facts:
        """Exchange the names back; the restored database is kept aside. Changes the target."""
        found = self.opened()
        new, _ = self.names
        if found.side:
            self.settle(found)
            return {"restored database": new}
        if not found.kept:
            raise PreconditionError(
                "The old database is not there any more, so the swap cannot be undone.",
                where=f"database {found.live}",
                state="Nothing was changed.",
                safe_next="Restore a later backup, or go on with the database as it is.",
            )
        self.owe(RESTORED, f"The database {new} was restored beside {found.live}; drop it, or swap it in.")
        with swap.fenced(self.context.postgres, found.live, self.waiting) as holder:
            closed = self.exchange(holder, found.kept, new, adopt=False)
        return {"restored database": new, "cannot connect, seconds": round(closed, 3)}

    def _swap(self, live: str) -> dict[str, Any]:
        new, old = self.names
        begun = time.monotonic()
        with swap.fenced(self.context.postgres, live, self.waiting) as holder:
            with self.in_parts():
                final = compared(self.context, live, new, watching(self, "compared"), carry=self.carries)
                seconds = time.monotonic() - begun
                self._require_as_approved(final, less=self.carries and carried_before(self.context, live, new))
                over = self._carried(live, new) if self.carries else None
            foretell(self.context, final, over)
            self.owe(OLD, f"The database {old} is kept; drop it once nobody needs it.")
            closed = self.exchange(holder, new, old, adopt=True)
        return {
            "last comparison, seconds": round(seconds, 3),
            "cannot write, seconds": round(time.monotonic() - begun, 3),
            "cannot connect, seconds": round(closed, 3),
            "lost": numbers(final, self.approved_apart),
            **({"carried over": over.as_json()} if over else {}),
        }

    def _carried(self, live: str, new: str) -> Outcome:
        done = itertools.count(1)

        def between(part: str) -> None:
            self.part(next(done), 0, f"carried: {part}", "parts")

        return carried(self.context, live, new, between, self.stands_still)

    def _require_as_approved(self, final: Ledger, *, less: bool) -> None:
        """Stop where the last comparison found another loss than was approved; the next preview shows it.

        `less` says whether it may be smaller: what an earlier try carried over changes what is left.
        """
        approved = self.context.approved.get(self.name, {})
        loss = numbers(final, self.approved_apart)
        more = beyond(approved.get("loss", {}), loss, self.context.plan.database.drift_tolerance, less=less)
        more += [f"{what}: {why}" for what, why in final.unknown.items() if what not in approved.get("not known", [])]
        redefined = approved.get("defined otherwise in the backup", [])
        more += [f"{name}: defined otherwise in the backup" for name in final.defined_otherwise if name not in redefined]
        if more:
            keep(self.context, final)
            raise PreconditionError(
                f"The loss is not the one that was approved: {'; '.join(more)}.",
                where=f"database {self.context.postgres.database}",
                state="Nothing was changed; the fence is lifted.",
                safe_next="Preview again, which shows the loss as it is now, and approve that.",
            )
