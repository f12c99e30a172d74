"""The step that builds anew what was built already, without what the last build left in its caches."""

from dataclasses import replace

from runbook_lib import builds
from runbook_lib.plan import RebuildStep
from runbook_lib.steps.base import Effect, Facts, Preview, Probe
from runbook_lib.steps.build import Build


class Rebuild(Build):
    """Clear a repository's build caches, then build what it has checked out."""

    def preview(self) -> Preview:
        """Which caches would be cleared, and that the build works, proven in the scratch clone. Read-only."""
        found = [name for name in self._caches if (self.path / name).exists()]
        built = super().preview()
        return replace(built, would=[f"remove {', '.join(found) or 'no cache: none is there'}", *built.would])

    def probe(self) -> Probe:
        """Whether this run rebuilt it; what is built already says nothing of what it was built from. Read-only."""
        if self.name not in self.context.done:
            return Probe(Effect.NOT_DONE, "no rebuild by this run is on record")
        return super().probe()

    def apply(self) -> Facts:
        """Remove the caches, then build. Changes the target."""
        removed = [name for name in self._caches if (self.path / name).exists()]
        for name in removed:
            builds.clear(self.context.checkout(self.repository), name)
        return {**super().apply(), "removed": removed}

    @property
    def _caches(self) -> list[str]:
        assert isinstance(self.spec, RebuildStep)
        return list(self.spec.clear)
