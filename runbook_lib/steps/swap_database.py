"""Option C, second half: put the database that was restored aside in the place of the live one."""

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from runbook_lib.adapters.postgres.connection import Connection, identity, one
from runbook_lib.adapters.postgres.lease import MAINTENANCE
from runbook_lib.adapters.postgres.restore import follow, side, swap
from runbook_lib.adapters.postgres.restore.ledger import Ledger, compare
from runbook_lib.errors import PreconditionError
from runbook_lib.plan import SwapDatabaseStep
from runbook_lib.results import Result, Status
from runbook_lib.steps.base import Effect, Facts, Preview, Probe, Step
from runbook_lib.steps.loss import LEDGER, beyond, checksum, count, keep, ledger, numbers, standing
from runbook_lib.steps.restore_aside import DEBT as RESTORED

OLD, CLOSED = "old-database", "refused-connections"  # debts
NOT_MADE = "not made yet: restore aside first, then preview and approve again"
FORETOLD = "evidence/loss-foretold.json"


class SwapDatabase(Step):
    """Fence writes, compare once more, exchange the names; the old database is kept under a dated one."""

    CHOICES = {
        "SALVAGE": {
            "nothing": "what was written since the backup stays in the old database, and is exported",
            "carry": "what was written since the backup is carried over",
        }
    }

    @property
    def salvage(self) -> str:
        """What becomes of rows written since the backup."""
        assert isinstance(self.spec, SwapDatabaseStep)
        return self.context.choices.get("SALVAGE", self.spec.salvage)

    def preview(self) -> Preview:
        """What takes whose place, who is connected now, and the loss by the ledger. Read-only."""
        live, found = self.context.postgres.database, standing(self.context)
        counted = ledger(self.context)
        new, old = self._names()
        with self.context.postgres.connect(MAINTENANCE) as maintenance:
            system = identity(maintenance).system
            connected = swap.sessions(maintenance, found.live)
        loss = numbers(counted) if counted else {}
        return Preview(
            self.name,
            self.title,
            would=[
                f"keep {live} from being written, compare it with {new} once more, then refuse connections and end those "
                f"there are ({len(connected)} now{': ' if connected else ''}{'; '.join(map(str, connected))})",
                f"rename {live} to {old} and {new} to {live} in one transaction; settings, grants, comment and limit follow "
                "the name, sequences go on where they were, our own records come along",
                {"carry": "carry over what was written since the backup"}.get(
                    self.salvage, "carry nothing over: what was written since the backup stays in the old database"
                ),
            ],
            loses=[f"{rows} {what}" for what, rows in loss.items()] if counted else [f"the loss is {NOT_MADE}"],
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
                "only in the live database": list(counted.only_in_live) if counted else [],
                "salvage": self.salvage,
            },
        )

    def probe(self) -> Probe:
        """Whether the names are exchanged and connections let in. Read-only."""
        found = standing(self.context)
        if found.live and not found.lets_in:
            return Probe(Effect.HALF_DONE, f"{found.live} refuses connections")
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

    def preconditions(self) -> list[Result]:
        """That what takes the place is whole, the loss known, and nobody connected who cannot be sent away. Read-only."""
        found, counted = standing(self.context), ledger(self.context)
        if found.kept:
            return []
        whole = found.restored_from == checksum(self.context, self.context.dump.path)
        unknown = {"the loss": "not counted"} if counted is None else counted.unknown
        with self.context.postgres.connect(MAINTENANCE) as maintenance:
            strong = [str(s) for s in swap.sessions(maintenance, found.live) if _superuser(maintenance, s.user)]
        return [
            self.result(
                "restored",
                "The whole backup is restored aside",
                Status.PASS if whole else Status.FAIL,
                f"{found.side} is the whole of the backup" if whole else "no side database is the whole of the backup",
            ),
            self.result(
                "loss",
                "The loss is known",
                Status.UNKNOWN if unknown else Status.PASS,
                "; ".join(f"{what}: {why}" for what, why in unknown.items()) or f"every table is compared: {LEDGER}",
            ),
            self.result(
                "sessions",
                "Our role may end every session there is",
                Status.FAIL if strong else Status.PASS,
                f"superusers' sessions: {'; '.join(strong)}" if strong else "no session of a superuser is there",
            ),
        ]

    def apply(self) -> Facts:
        """Fence, compare, exchange; where a try was cut short before the exchange, from the start. Changes the target."""
        found = self._open()
        if found.kept:
            return {"old database": found.kept}
        new, old = self._names()
        begun = time.monotonic()
        with swap.fenced(self.context.postgres, found.live, self.waiting) as holder:
            final = count(self.context, found.live, new)
            compared = time.monotonic() - begun
            self._require_as_approved(final)
            self.context.folder.write_json(FORETOLD, final.as_json())
            self.owe(OLD, f"The database {old} is kept; drop it once nobody needs it.")
            closed = self._exchange(holder, new, old, adopt=True)
        seconds = time.monotonic() - begun
        return {
            "old database": old,
            "last comparison, seconds": round(compared, 3),
            "cannot write, seconds": round(seconds, 3),
            "cannot connect, seconds": round(closed, 3),
            "lost": numbers(final),
        }

    def verify(self) -> list[Result]:
        """That all that hangs on the name followed it, and that the loss is the one foretold. Read-only."""
        found = standing(self.context)
        self._settle(found)
        if not found.kept:
            return [self.result("loss", "The loss is the one foretold", Status.UNKNOWN, "no old database is there")]
        with self.context.postgres.connect(MAINTENANCE) as maintenance:
            wanted, is_now = (follow.attributes(maintenance, name) for name in (found.kept, found.live))
        unlike = follow.unlike(wanted, is_now)
        with self.context.postgres.connect(found.kept) as old, self.context.postgres.connect() as new:
            behind = swap.sequences_behind(old, new)
        foretold = Ledger.from_json(self.context.folder.read_json(FORETOLD))
        actual = compare(foretold, count(self.context, found.kept, found.live))
        return [
            self.result(
                "attributes",
                "Owner, settings, grants, comment and limit followed the name",
                Status.FAIL if unlike else Status.PASS,
                "; ".join(unlike) or "they are as those of the old database",
            ),
            self.result(
                "sequences",
                "No sequence would issue a value again",
                Status.FAIL if behind else Status.PASS,
                f"behind: {', '.join(behind)}" if behind else "each is as far as in the old database, or further",
            ),
            self.result(
                "loss",
                "The loss is the one foretold",
                Status.FAIL if actual else Status.PASS,
                "; ".join(actual) or f"{'; '.join(f'{n} {what}' for what, n in numbers(foretold).items()) or 'no row'}",
            ),
        ]

    def undo(self) -> Facts:
        """Exchange the names back; the restored database is kept aside. Changes the target."""
        found = self._open()
        new, _ = self._names()
        if found.side:
            self._settle(found)
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
            closed = self._exchange(holder, found.kept, new, adopt=False)
        self._settle(standing(self.context))
        return {"restored database": new, "cannot connect, seconds": round(closed, 3)}

    def purge_preview(self, debt: str) -> Preview:
        """Which database would be dropped for good, its size and date. Read-only."""
        kept = standing(self.context).kept
        if debt == CLOSED or not kept:
            would = "let connections in" if debt == CLOSED else "nothing: no old database is there"
            return Preview(self.name, self.title, would=[would])
        with self.context.postgres.connect(MAINTENANCE) as maintenance:
            size = one(maintenance, "SELECT pg_database_size(%s) AS bytes", [kept])["bytes"]
        return Preview(
            self.name,
            self.title,
            would=[f"drop the database {kept} ({size / 1e6:.0f} MB), as it was at the swap on the date in its name"],
            loses=["the old database, for good: the swap cannot be undone afterwards, and nothing salvaged from it"],
            undone_by="nothing: IRREVERSIBLE",
            facts={"database": kept},
        )

    def purge(self, debt: str) -> Facts:
        """Drop the old database for good, or let connections in again. Changes the target, irreversibly.

        Raises:
            AdapterError: Somebody is connected to it.
        """
        found = standing(self.context)
        if debt == CLOSED:
            self._open()
            return {"lets in": found.live}
        if found.kept:
            with self.context.postgres.connect(MAINTENANCE) as maintenance:
                side.drop(maintenance, found.kept)
        self.paid(OLD)
        return {"dropped": found.kept}

    def _names(self) -> tuple[str, str]:
        """What the restored database is called before the swap, and what the old one will be called after it."""
        live, run = self.context.postgres.database, self.context.postgres.run
        return side.side_name(live, run), side.kept_name(live, run, datetime.now(UTC).date())

    def _exchange(self, holder: Connection, incoming: str, outgoing: str, *, adopt: bool) -> float:
        """Exchange the names; what hangs on the old database is given to the one that comes in, where it is to adopt it."""
        context, live = self.context, self.context.postgres.database
        with context.postgres.connect(incoming) as target:
            swap.carry_records(context.dump_tools, holder, target, context.scratch)
            context.lease.check(holder)  # its table is locked by now, so that nobody takes over before the exchange

            def last() -> None:
                swap.raise_sequences(holder, target)
                target.close()

            def renamed(maintenance: Connection) -> None:
                if adopt:
                    follow.follow(maintenance, follow.attributes(maintenance, outgoing), live)
                else:
                    side.mark(maintenance, outgoing, context.postgres.run, context.approved[self.name]["sha256"])

            self.owe(CLOSED, f"The database {live} refuses connections while names are exchanged; let them in again.")
            try:
                return swap.exchange(
                    context.postgres, live, incoming, outgoing, holder, last=last, renamed=renamed, ended=self._tell
                )
            finally:
                self._settle(standing(context))

    def _require_as_approved(self, final: Ledger) -> None:
        """Stop where the last comparison found another loss than was approved; the next preview shows it."""
        approved = self.context.approved.get(self.name, {}).get("loss", {})
        more = beyond(approved, numbers(final), self.context.plan.database.drift_tolerance)
        if more or final.unknown:
            keep(self.context, final)
            raise PreconditionError(
                f"The loss is not the one that was approved: {'; '.join([*more, *final.unknown.values()])}.",
                where=f"database {self.context.postgres.database}",
                state="Nothing was changed; the fence is lifted.",
                safe_next="Preview again, which shows the loss as it is now, and approve that.",
            )

    def _open(self) -> side.Standing:
        """How the databases stand, once the live one lets connections in."""
        found = standing(self.context)
        if not found.lets_in:
            with self.context.postgres.connect(MAINTENANCE) as maintenance:
                swap.let_in(maintenance, found.live, True)
            self.paid(CLOSED)
        return found

    def _settle(self, found: side.Standing) -> None:
        """Journal as paid what is owed no more, as the databases stand."""
        for debt, is_paid in ((CLOSED, found.lets_in), (RESTORED, not found.side), (OLD, not found.kept)):
            if is_paid and debt in self.context.debts():
                self.paid(debt)

    def _tell(self, ended: list[swap.Session]) -> None:
        if ended:
            self.context.report("sessions-ended", step=self.name, sessions=[str(session) for session in ended])


def _superuser(maintenance: Connection, role: str) -> bool:
    query = """SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = %s AND rolsuper)
                      AND NOT (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) AS it"""
    return bool(one(maintenance, query, [role])["it"])
