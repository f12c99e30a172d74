"""The step that builds anew what was built already, without what the last build left in its caches."""

from runbook_lib.plan import RebuildStep
from runbook_lib.steps.base import Effect, Probe
from runbook_lib.steps.build import Build


class Rebuild(Build):
    """Clear a repository's build caches, more of them than a build does, then build what it has checked out."""

    @property
    def caches(self) -> list[str]:
        """What is removed before the build, where it is there."""
        assert isinstance(self.spec, RebuildStep)
        return list(dict.fromkeys([*super().caches, *self.spec.clear]))

    def probe(self) -> Probe:
        """Whether this run rebuilt it; what is built already says nothing of what it was built from. Read-only."""
        if self.name not in self.context.done:
            return Probe(Effect.NOT_DONE, "no rebuild by this run is on record")
        return super().probe()
