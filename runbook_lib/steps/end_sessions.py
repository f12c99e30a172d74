"""The step that ends other sessions on the database, each named and approved."""

from typing import Literal

from runbook_lib.config.compatibility import Rules, State
from runbook_lib.config.plan.steps import About, StepSpec, Touches
from runbook_lib.postgres.sessions import Session, end, end_by_hand, of_others, out_of_reach
from runbook_lib.results import Found, Precondition, Result, Status, When
from runbook_lib.steps import Effect, Facts, Preview, Probe, Step
from runbook_lib.steps.by_hand import Instruction, in_psql, in_words
from runbook_lib.system.processes import until

POLL = 0.05  # seconds
PATIENCE = 10.0  # seconds that sessions have to end


class EndSessionsKeys(StepSpec):
    """End the sessions that others hold on the database."""

    kind: Literal["end_sessions"]

    requires = ()
    about = About(
        title="End the sessions that are in the way",
        estimate=15,
        does="Ends the approved sessions, each by its pid.",
        expect="Nobody else is connected to the database.",
        if_not="Stop the client that reconnects, then preview again.",
        preserves="Nothing is kept: uncommitted work of those sessions is lost.",
        reversible=False,
        log_line="",
        starts=False,
        starts_on_undo=False,
        in_the_way=True,
        on_table="",
    )

    def touches(self) -> Touches:
        """It changes nothing that lasts: each client may connect again."""
        return Touches()

    def after(self, state: State, rules: Rules) -> State:
        """Return the state unchanged."""
        return state


class EndSessions(Step):
    """End the sessions of others on the database, but only those that were approved."""

    Keys = EndSessionsKeys

    def preview(self) -> Preview:
        """Show which sessions would be ended. Read-only."""
        found = self._sessions()
        role = self.context.target.database.application_role
        own = sum(session.user == role for session in found)
        running = [name for name in self.context.plan.services if self.context.adapters.services.is_running(name)]
        note = f"{own} of them are the application's, which opens new ones while {', '.join(running)} run: stop them first"
        return Preview(
            self.name,
            self.title,
            would=[*(f"end {session}" for session in found), *([note] if own and running else [])]
            or ["nothing: nobody else is connected"],
            loses=["the uncommitted changes of those sessions"] if found else [],
            undone_by="nothing: each client may connect again",
            estimate=self.spec.estimate,
            facts={"sessions": [session.name for session in found]},
        )

    def by_hand(self, preview: Preview) -> list[Instruction]:
        """Return a script that ends the previewed sessions. Read-only."""
        found = [session for session in self._sessions() if session.name in preview.facts["sessions"]]
        if not found:
            return [in_words("Nothing to do: nobody else is connected.")]
        with self.context.adapters.postgres.connect() as connection:
            text = end_by_hand(connection, found)
        return [in_psql(text, "each gives t, or no row where that session has ended by itself")]

    def needs(self) -> list[Precondition]:
        """Our role may end each of the sessions. Pure."""

        def may_end() -> Found:
            with self.context.adapters.postgres.connect() as connection:
                found = out_of_reach(connection, [session.user for session in self._left()])
            return (Status.FAIL, f"not those of {', '.join(found)}") if found else (Status.PASS, "it may")

        return [self.need("reach", "Our role may end each of the sessions", When.BEFOREHAND, may_end)]

    def probe(self) -> Probe:
        """Report whether any approved session is left, or any other session if none is approved. Read-only."""
        left = self._left()
        if left:
            return Probe(Effect.NOT_DONE, f"connected: {', '.join(session.name for session in left)}")
        return Probe(Effect.DONE, "none of them is connected")

    def apply(self) -> Facts:
        """End the approved sessions and wait until they are gone. Changes the server's sessions."""
        with self.context.adapters.postgres.connect() as connection:
            ended = end(connection, self._left())
        until(lambda: not self._left(), PATIENCE, POLL)
        return {"ended": ended}

    def verify(self) -> list[Result]:
        """Check that nobody else is connected, including anyone who came since the approval. Read-only."""
        found = self._sessions()
        if not found:
            return [self.result("gone", "Nobody else is connected", Status.PASS, "no session of others is left")]
        listed = "; ".join(map(str, found))
        return [self.result("gone", "Nobody else is connected", Status.FAIL, f"connected: {listed}")]

    def undo(self) -> Facts:
        """Do nothing: each client may connect again. Read-only."""
        return {"ended": "may connect again"}

    def _left(self) -> list[Session]:
        approved = self.approved.get("sessions")
        return [session for session in self._sessions() if approved is None or session.name in approved]

    def _sessions(self) -> list[Session]:
        with self.context.adapters.postgres.connect() as connection:
            return of_others(connection)
