"""The step that empties a cache between the services and their users."""

from runbook_lib.adapters.processes import shown
from runbook_lib.results import Result, Status
from runbook_lib.steps.base import Effect, Facts, Preview, Probe, Step

NOTHING = "the target names no cache to purge"


class PurgeCache(Step):
    """Run the target's command that purges the caches in front of it; what users get then is a check of its own."""

    @property
    def _command(self) -> list[str]:
        purge = self.context.target.cache_purge
        return purge.command if purge else []

    def preview(self) -> Preview:
        """The command. Read-only."""
        return Preview(
            self.name,
            self.title,
            would=[f"run `{shown(self._command)}`" if self._command else f"do nothing: {NOTHING}"],
            undone_by="nothing to put back: a cache fills itself again",
            estimate=self.spec.estimate,
            facts={"command": self._command},
        )

    def probe(self) -> Probe:
        """Whether this run purged it; a cache does not tell. Read-only."""
        if not self._command:
            return Probe(Effect.DONE, NOTHING)
        if self.name in self.context.done:
            return Probe(Effect.DONE, "purged by this run")
        return Probe(Effect.NOT_DONE, "no purge by this run is on record")

    def apply(self) -> Facts:
        """Run the command. Changes the target."""
        purge = self.context.target.cache_purge
        if purge:
            self.context.processes.run(purge.command, timeout=purge.timeout).require()
        return {"purged": bool(purge)}

    def verify(self) -> list[Result]:
        """That it was run; whether users are given the new files is looked at in a browser. Read-only."""
        summary = f"`{shown(self._command)}` ended with 0" if self._command else NOTHING
        return [self.result("purged", "The purge command succeeded", Status.PASS, summary)]

    def undo(self) -> Facts:
        """Nothing: the cache fills itself again."""
        return {}
