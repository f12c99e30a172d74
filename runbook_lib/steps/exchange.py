"""What swapping databases and swapping them back have in common: names, the exchange, and the debts it leaves."""

from datetime import UTC, datetime

from runbook_lib.adapters.postgres.connection import MAINTENANCE, Connection, one
from runbook_lib.adapters.postgres.restore import follow, side, swap
from runbook_lib.steps.base import Facts, Preview, Step
from runbook_lib.steps.loss import standing
from runbook_lib.steps.restore_aside import DEBT as RESTORED

OLD, CLOSED = "old-database", "refused-connections"  # debts


class Exchange(Step):
    """A step that exchanges the names of two databases."""

    @property
    def names(self) -> tuple[str, str]:
        """What the restored database is called before the swap, and what the old one will be called after it."""
        live, run = self.context.postgres.database, self.context.postgres.run
        return side.side_name(live, run), side.kept_name(live, run, datetime.now(UTC).date())

    def exchange(self, holder: Connection, incoming: str, outgoing: str, *, adopt: bool) -> float:
        """Exchange the names; what hangs on the old database is given to the one that comes in, where it is to adopt it.

        Returns the seconds for which nobody could connect. Changes the target.
        """
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
                self.settle(standing(context))

    def opened(self) -> side.Standing:
        """How the databases stand, once the live one lets connections in. Changes the target, where it did not."""
        found = standing(self.context)
        if not found.lets_in:
            with self.context.postgres.connect(MAINTENANCE) as maintenance:
                swap.let_in(maintenance, found.live, True)
            self.paid(CLOSED)
        return found

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
            self.opened()
            return {"lets in": found.live}
        if found.kept:
            with self.context.postgres.connect(MAINTENANCE) as maintenance:
                side.drop(maintenance, found.kept)
        self.paid(OLD)
        return {"dropped": found.kept}

    def settle(self, found: side.Standing) -> None:
        """Journal as paid what is owed no more, as the databases stand."""
        for debt, is_paid in ((CLOSED, found.lets_in), (RESTORED, not found.side), (OLD, not found.kept)):
            if is_paid and debt in self.context.debts():
                self.paid(debt)

    def _tell(self, ended: list[swap.Session]) -> None:
        if ended:
            self.context.report("sessions-ended", step=self.name, sessions=[str(session) for session in ended])
