"""Steps that keep the application out of the database, and let it in again."""

from runbook_lib.adapters.postgres import fence, grants
from runbook_lib.adapters.postgres.connection import Row, connections_of
from runbook_lib.results import Result, Status
from runbook_lib.steps.base import Effect, Facts, Preview, Probe, Step

DEBT = "fence"


class _OfRole(Step):
    @property
    def role(self) -> str:
        return self.context.target.database.application_role

    def _keep_out(self) -> Facts:
        ended: list[str] = []

        def tell(row: Row) -> None:
            ended.append(f"pid {row['pid']} ({row['application_name'] or 'no name'}, since {row['backend_start']})")
            self.context.report("sessions-ended", step=self.name, sessions=ended[-1:])

        with self.context.postgres.connect() as connection:
            fence.way_to_keep_out(connection, self.role)
            self.owe(DEBT, f"the role {self.role} cannot connect; let it in again")
            raised = fence.raise_fence(connection, self.role, self.context.folder.id)
            fence.end_connections(connection, self.role, tell)
        return {"role": self.role, "kept out by": raised.way, "connections ended": ended}

    def _let_in(self) -> Facts:
        with self.context.postgres.connect() as connection:
            lowered = fence.lower_fence(connection, self.role)
        self.paid(DEBT)
        return {"role": self.role, "given back": lowered.way if lowered else "nothing: no fence was up"}

    def settle_found(self) -> None:
        """Take over the debt of a fence of ours, whichever run raised it; paid where none is up. Reads the target."""
        with self.context.postgres.connect() as connection:
            up = fence.standing(connection, self.role)
        if up and DEBT not in self.context.debts():
            self.owe(DEBT, f"the role {self.role} cannot connect, since run {up.run}; let it in again")
        if not up and DEBT in self.context.debts():
            self.paid(DEBT)

    def purge_preview(self, debt: str) -> Preview:
        """That the role would be let in. Read-only."""
        return Preview(self.name, self.title, would=[f"let {self.role} connect again, as before the fence"])

    def purge(self, debt: str) -> Facts:
        """Let the role in again. Changes the target."""
        return self._let_in()


class KeepOut(_OfRole):
    """Make the application's role unable to connect, and end the connections it has."""

    def preview(self) -> Preview:
        """How the role would be kept out, who else would be, and who is connected now. Read-only."""
        with self.context.postgres.connect() as connection:
            way, why = fence.rights(connection, self.role).way()
            others = grants.lost_with(connection, self.role) if way == "REVOKE CONNECT" else []
            now = len(connections_of(connection, self.role))
        would = [
            f"keep {self.role} out: {way} ({why})",
            f"then end the connections it still has, one by one ({now} are there now)",
        ]
        if others:
            would.append(f"these may connect by the same grants only, and are kept out too: {', '.join(others)}")
        if way is None:
            would = [f"stop: {self.role} cannot be kept out, as {why}; only a waiver of {self.name} goes on from there"]
        return Preview(
            self.name,
            self.title,
            would=would,
            undone_by="giving back exactly the rights that were there",
            estimate=self.spec.estimate,
            facts={"role": self.role, "kept out by": way or "nothing"},
        )

    def probe(self) -> Probe:
        """Whether the role can connect, or still is connected. Read-only."""
        with self.context.postgres.connect() as connection:
            up, open_ = fence.standing(connection, self.role), fence.gets_in(connection, self.role)
            left = connections_of(connection, self.role)
        if open_:
            detail = "was kept out by us and can connect again" if up else "can connect"
            return Probe(Effect.HALF_DONE if up else Effect.NOT_DONE, f"{self.role} {detail}")
        if left:
            return Probe(Effect.HALF_DONE, f"{self.role} cannot connect, but {len(left)} connections of its live")
        whose = f"by {up.way}, in run {up.run}" if up else "not by us"
        return Probe(Effect.DONE, f"{self.role} is kept out ({whose}) and not connected")

    def preconditions(self) -> list[Result]:
        """That the role can be kept out; a waiver of the step goes on without. Read-only."""
        with self.context.postgres.connect() as connection:
            way, why = fence.rights(connection, self.role).way()
        status = Status.FAIL if way is None else Status.PASS
        return [Result(self.name, "The application's role can be kept out", status, f"{way or 'no way'}: {why}")]

    def apply(self) -> Facts:
        """Raise the fence, then end the role's connections. Changes the target."""
        return self._keep_out()

    def verify(self) -> list[Result]:
        """That the catalog lets the role in no more, and that none of its connections lives. Read-only."""
        with self.context.postgres.connect() as connection:
            open_ = fence.gets_in(connection, self.role)
            left = [str(row["pid"]) for row in connections_of(connection, self.role)]
        return [
            self.result(
                "kept out",
                "The application's role cannot connect",
                Status.FAIL if open_ else Status.PASS,
                f"{self.role} can connect" if open_ else f"the catalog refuses {self.role}",
            ),
            self.result(
                "disconnected",
                "No connection of the application is left",
                Status.FAIL if left else Status.PASS,
                f"still connected: pid {', '.join(left)}" if left else "none is left",
            ),
        ]

    def undo(self) -> Facts:
        """Let the role in again, with exactly the rights it had. Changes the target."""
        return self._let_in()


class LetIn(_OfRole):
    """Give the application's role back what let it connect."""

    def preview(self) -> Preview:
        """That the role would be let in. Read-only."""
        return Preview(
            self.name,
            self.title,
            would=[f"let {self.role} connect again: exactly the rights that were there before the fence"],
            undone_by="keeping it out again",
            estimate=self.spec.estimate,
            facts={"role": self.role},
        )

    def probe(self) -> Probe:
        """Whether a fence of ours is up, and whether the role can connect. Read-only."""
        with self.context.postgres.connect() as connection:
            up, open_ = fence.standing(connection, self.role), fence.gets_in(connection, self.role)
        if up:
            return Probe(Effect.HALF_DONE if open_ else Effect.NOT_DONE, f"{self.role} is kept out by {up.way}")
        if open_:
            return Probe(Effect.DONE, f"{self.role} can connect, and no fence is up")
        return Probe(Effect.UNKNOWN, f"{self.role} cannot connect, though no fence of ours is up")

    def apply(self) -> Facts:
        """Lower the fence. Changes the target."""
        return self._let_in()

    def verify(self) -> list[Result]:
        """That the catalog lets the role in. Read-only."""
        with self.context.postgres.connect() as connection:
            open_ = fence.gets_in(connection, self.role)
        return [
            self.result(
                "let in",
                "The application's role can connect",
                Status.PASS if open_ else Status.FAIL,
                f"the catalog lets {self.role} in" if open_ else f"the catalog refuses {self.role}",
            )
        ]

    def undo(self) -> Facts:
        """Keep the role out again. Changes the target."""
        return self._keep_out()
