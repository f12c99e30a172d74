"""Steps that keep the application out of the database, and let it in again."""

from dataclasses import replace
from typing import Literal

from runbook_lib.config.compatibility import Rules, State
from runbook_lib.config.plan.steps import ACCESS, DATABASE, About, DatabaseStep, Touches
from runbook_lib.postgres import fence
from runbook_lib.postgres.sessions import Session, of_role, out_of_reach
from runbook_lib.results import Found, Precondition, Result, Status, When
from runbook_lib.steps import Effect, Facts, Preview, Probe, Step
from runbook_lib.steps.by_hand import Instruction, in_psql

CLEANUP = "fence"


class _OfRole(Step):
    @property
    def role(self) -> str:
        return self.context.target.database.application_role

    def _keep_out(self) -> Facts:
        ended: list[str] = []

        def report(session: Session) -> None:
            ended.append(session.name)
            self.reporter.append("sessions-ended", step=self.name, sessions=ended[-1:])

        with self.context.adapters.postgres.connect() as connection:
            fence.way_to_keep_out(connection, self.role)
            self.reporter.open_cleanup(CLEANUP, f"the role {self.role} cannot connect; let it in again")
            with self.context.adapters.pausing():
                raised = fence.raise_fence(connection, self.role, self.context.folder.id)
                fence.end_sessions(connection, self.role, report)
        return {"role": self.role, "kept out by": raised.way, "connections ended": ended}

    def _let_in(self) -> Facts:
        with self.context.adapters.postgres.connect() as connection:
            lowered = fence.lower_fence(connection, self.role)
        self.reporter.close_cleanup(CLEANUP)
        return {"role": self.role, "given back": lowered.way if lowered else "nothing: no fence was up"}

    def adopt(self, item: str, text: str, run: str) -> None:
        """Take over a fence as this run's own: a database has at most one."""
        self.reporter.open_cleanup(item, text)

    def adopt_existing(self) -> None:
        """Take over the cleanup of a fence that any run raised; close it if no fence is up. Reads the target."""
        with self.context.adapters.postgres.connect() as connection:
            up = fence.standing(connection, self.role)
        if up and CLEANUP not in self.reporter.pending():
            self.reporter.open_cleanup(CLEANUP, f"the role {self.role} cannot connect, since run {up.run}; let it in again")
        if not up and CLEANUP in self.reporter.pending():
            self.reporter.close_cleanup(CLEANUP)

    def purge_preview(self, item: str) -> Preview:
        """Show that the role would be let in. Read-only."""
        return Preview(self.name, self.title, would=[f"let {self.role} connect again, as before the fence"])

    def purge(self, item: str) -> Facts:
        """Let the role in again. Changes the target."""
        return self._let_in()


class FenceKeys(DatabaseStep):
    """Keep the application's role out of the database."""

    kind: Literal["fence"]

    requires = ()
    about = About(
        title="Keep the application out of the database",
        estimate=10,
        does="Refuses new connections of the application's role and ends existing ones.",
        expect="The application has no connection, and cannot make one.",
        if_not="Stop the client that can still connect, or change the grant the error names. Then apply the step again.",
        preserves="The removed rights are recorded in the database and given back later.",
        reversible=True,
        log_line="",
        starts=False,
        starts_on_undo=False,
        in_the_way=True,
        on_table="",
    )

    def touches(self) -> Touches:
        """It changes who may connect, and depends on the database they reach."""
        return Touches(changes=frozenset({ACCESS}), rests_on=frozenset({DATABASE}))

    def after(self, state: State, rules: Rules) -> State:
        """Return the state in which the application cannot connect."""
        return replace(state, let_in=frozenset({False}))


class KeepOut(_OfRole):
    """Make the application's role unable to connect, and end the connections it has."""

    Keys = FenceKeys

    BEGINS_OUTAGE = True

    def preview(self) -> Preview:
        """Show how the role would be kept out, who else would be, and who is connected now. Read-only."""
        with self.context.adapters.postgres.connect() as connection:
            way, why = fence.rights(connection, self.role).way()
            others = fence.lost_with(connection, self.role) if way == "REVOKE CONNECT" else []
            now = len(of_role(connection, self.role))
        would = [
            f"keep {self.role} out: {way} ({why})",
            f"then end its remaining connections, one by one ({now} now)",
        ]
        if others:
            would.append(f"these roles connect only by the same grants, and are kept out too: {', '.join(others)}")
        if self.poolers:
            would.append(
                "clients of PgBouncer get an error while the fence is up, and for up to its server_login_retry (15 s unless "
                "set) after they are let in: it is paused only until the existing sessions have ended"
            )
        if way is None:
            would = [f"stop: {self.role} cannot be kept out, because {why}; only a waiver of {self.name} continues"]
        return Preview(
            self.name,
            self.title,
            would=would,
            undone_by="giving back exactly the previous rights",
            estimate=self.spec.estimate,
            facts={"role": self.role, "kept out by": way or "nothing"},
        )

    def milliseconds_paused(self, preview: Preview) -> int:
        """Return the time that sessions have to end. Pure."""
        return int(1000 * fence.GRACE)

    def by_hand(self, preview: Preview) -> list[Instruction]:
        """Return a script that keeps the role out and ends its connections. Read-only."""
        with self.context.adapters.postgres.connect() as connection:
            text = fence.fence_by_hand(connection, self.role, self.context.folder.id)
        return [in_psql(text, "COMMIT, then a row for each connection; a second time the last statement gives no row")]

    def probe(self) -> Probe:
        """Report whether the role can connect, or is still connected. Read-only."""
        with self.context.adapters.postgres.connect() as connection:
            up, open_ = fence.standing(connection, self.role), fence.gets_in(connection, self.role)
            left = of_role(connection, self.role)
        if open_:
            detail = "was kept out by us and can connect again" if up else "can connect"
            return Probe(Effect.HALF_DONE if up else Effect.NOT_DONE, f"{self.role} {detail}")
        if left:
            return Probe(Effect.HALF_DONE, f"{self.role} cannot connect, but {len(left)} of its connections are open")
        whose = f"by {up.way}, in run {up.run}" if up else "not by the runbook"
        return Probe(Effect.DONE, f"{self.role} is kept out ({whose}) and not connected")

    def needs(self) -> list[Precondition]:
        """The role can be kept out and its connections ended; a waiver of the step continues without it. Pure."""

        def way_out() -> Found:
            with self.context.adapters.postgres.connect() as connection:
                way, why = fence.rights(connection, self.role).way()
            return Status.FAIL if way is None else Status.PASS, f"{way or 'no way'}: {why}"

        def may_end() -> Found:
            with self.context.adapters.postgres.connect() as connection:
                if not out_of_reach(connection, [self.role]):
                    return Status.PASS, "it may"
            return Status.FAIL, f"it may not end the sessions of {self.role}: grant it pg_signal_backend"

        return [
            self.need("", "The application's role can be kept out", When.BEFOREHAND, way_out),
            self.need("ends", "Our role may end the application's connections", When.BEFOREHAND, may_end, waivable=True),
        ]

    def apply(self) -> Facts:
        """Raise the fence, then end the role's connections. Changes the target."""
        return self._keep_out()

    def verify(self) -> list[Result]:
        """Check that the catalog refuses the role, and that none of its connections is open. Read-only."""
        with self.context.adapters.postgres.connect() as connection:
            open_ = fence.gets_in(connection, self.role)
            left = [str(session.pid) for session in of_role(connection, self.role)]
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


class LetInKeys(DatabaseStep):
    """Let the application's role into the database again."""

    kind: Literal["let_in"]

    requires = ()
    about = About(
        title="Let the application into the database again",
        estimate=5,
        does="Gives the application's role back the rights that the fence removed.",
        expect="The application's role can connect.",
        if_not="Grant by hand the right that the error names, then apply the step again.",
        preserves="The rights are the same as before the fence.",
        reversible=True,
        log_line="",
        starts=False,
        starts_on_undo=False,
        in_the_way=True,
        on_table="",
    )

    def touches(self) -> Touches:
        """It changes who may connect, and depends on the database they reach."""
        return Touches(changes=frozenset({ACCESS}), rests_on=frozenset({DATABASE}))

    def after(self, state: State, rules: Rules) -> State:
        """Return the state in which the application can connect."""
        return replace(state, let_in=frozenset({True}))


class LetIn(_OfRole):
    """Give the application's role back its right to connect."""

    Keys = LetInKeys

    def preview(self) -> Preview:
        """Show that the role would be let in. Read-only."""
        return Preview(
            self.name,
            self.title,
            would=[f"let {self.role} connect again, with exactly its rights from before the fence"],
            undone_by="keeping it out again",
            estimate=self.spec.estimate,
            facts={"role": self.role},
        )

    def by_hand(self, preview: Preview) -> list[Instruction]:
        """Return a script that lets the role in again. Read-only."""
        with self.context.adapters.postgres.connect() as connection:
            text = fence.let_in_by_hand(connection, self.role)
        return [in_psql(text, f"COMMIT, and {self.role} can connect")]

    def needs(self) -> list[Precondition]:
        """The role can connect now, or our fence can be lowered; otherwise there is no right to give back. Pure."""

        def known() -> Found:
            with self.context.adapters.postgres.connect() as connection:
                up, open_ = fence.standing(connection, self.role), fence.gets_in(connection, self.role)
            if up or open_:
                return Status.PASS, f"kept out by the runbook, in run {up.run}" if up else f"{self.role} can connect"
            return Status.FAIL, f"{self.role} cannot connect, but not because of a fence: the step could not let it in again"

        return [self.need("known", "The way to let the application in is known", When.BEFOREHAND, known)]

    def probe(self) -> Probe:
        """Report whether our fence is up, and whether the role can connect. Read-only."""
        with self.context.adapters.postgres.connect() as connection:
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
        """Check that the catalog lets the role in. Read-only."""
        with self.context.adapters.postgres.connect() as connection:
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
