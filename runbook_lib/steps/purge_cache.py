"""The step that empties a cache between the services and their users."""

from typing import Literal

from runbook_lib.config.compatibility import Rules, State
from runbook_lib.config.plan.steps import About, StepSpec, Touches
from runbook_lib.results import Precondition, Result, Status, When
from runbook_lib.steps import Effect, Facts, Preview, Probe, Step, commands_here
from runbook_lib.steps.by_hand import Instruction, in_shell_at, in_words
from runbook_lib.system.processes import shown

NOTHING = "the target names no cache to purge"


class PurgeCacheKeys(StepSpec):
    """Purge the caches in front of the services, where the target names a command for it."""

    kind: Literal["purge_cache"]

    requires = ()
    about = About(
        title="Purge the caches that users are served from",
        estimate=20,
        does="Runs the target's command that empties the cache in front of the services.",
        expect="The command exits with 0, and users get the old version.",
        if_not="Purge the cache by hand, then waive the step or apply it again.",
        preserves="Nothing needs to be kept: a cache refills itself.",
        reversible=False,
        log_line="",
        starts=False,
        starts_on_undo=False,
        in_the_way=True,
        on_table="",
    )

    def touches(self) -> Touches:
        """It changes nothing that lasts: a cache fills itself again."""
        return Touches()

    def after(self, state: State, rules: Rules) -> State:
        """Return the state unchanged."""
        return state


class PurgeCache(Step):
    """Run the target's command that purges its caches; another check looks at what users then get."""

    Keys = PurgeCacheKeys

    @property
    def _command(self) -> list[str]:
        purge = self.context.target.cache_purge
        return purge.command if purge else []

    def preview(self) -> Preview:
        """Show the command. Read-only."""
        return Preview(
            self.name,
            self.title,
            would=[f"run `{shown(self._command)}`" if self._command else f"do nothing: {NOTHING}"],
            undone_by="nothing to put back: a cache fills itself again",
            estimate=self.spec.estimate,
            facts={"command": self._command},
        )

    def by_hand(self, preview: Preview) -> list[Instruction]:
        """Return the target's command. Pure."""
        if not self._command:
            return [in_words(f"Nothing to do: {NOTHING}.")]
        return [in_shell_at(None, self._command, expect="it ends with exit code 0: `echo $?`")]

    def needs(self) -> list[Precondition]:
        """The target's command can be run from here. Pure."""
        commands = [self._command] if self._command else []
        return [self.need("command", "The target's command is here", When.BEFOREHAND, lambda: commands_here(commands))]

    def probe(self) -> Probe:
        """Report whether this run purged the cache; the cache itself does not show it. Read-only."""
        if not self._command:
            return Probe(Effect.DONE, NOTHING)
        if self.is_done:
            return Probe(Effect.DONE, "purged by this run")
        return Probe(Effect.NOT_DONE, "no purge by this run is on record")

    def apply(self) -> Facts:
        """Run the command. Changes the target."""
        purge = self.context.target.cache_purge
        if purge:
            self.context.adapters.processes.run(purge.command, timeout=purge.timeout).require()
        return {"purged": bool(purge)}

    def verify(self) -> list[Result]:
        """Check that the command succeeded; a browser check looks at the files that users get. Read-only."""
        summary = f"`{shown(self._command)}` ended with 0" if self._command else NOTHING
        return [self.result("purged", "The purge command succeeded", Status.PASS, summary)]

    def undo(self) -> Facts:
        """Do nothing: the cache fills itself again."""
        return {}
