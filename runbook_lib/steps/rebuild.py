"""The step that builds anew what was built already, without what the last build left in its caches."""

import shutil
from dataclasses import replace

from runbook_lib.errors import PreconditionError
from runbook_lib.plan import RebuildStep
from runbook_lib.steps.base import Effect, Facts, Preview, Probe
from runbook_lib.steps.code import Build


class Rebuild(Build):
    """Clear a repository's build caches, then build what it has checked out."""

    def preview(self) -> Preview:
        """Which caches would be cleared, and that the build works, proven in the scratch clone. Read-only."""
        found = [name for name in self._caches() if (self.path / name).exists()]
        built = super().preview()
        return replace(built, would=[f"remove {', '.join(found) or 'no cache: none is there'}", *built.would])

    def probe(self) -> Probe:
        """Whether this run rebuilt it; what is built already says nothing of what it was built from. Read-only."""
        if self.name not in self.context.done:
            return Probe(Effect.NOT_DONE, "no rebuild by this run is on record")
        return super().probe()

    def apply(self) -> Facts:
        """Remove the caches, then build. Changes the target."""
        removed = []
        for name in self._caches():
            if (self.path / name).exists():
                shutil.rmtree(self.path / name)
                removed.append(name)
        return {**super().apply(), "removed": removed}

    def _caches(self) -> list[str]:
        """The plan's caches of this repository.

        Raises:
            PreconditionError: One is not ignored by git, so it may hold more than a build leaves.
        """
        assert isinstance(self.spec, RebuildStep)
        for name in self.spec.caches:
            ignored = self.context.processes.run(["git", "check-ignore", "--quiet", f"{name}/"], cwd=self.path, timeout=20)
            if (self.path / name).exists() and ignored.exit_code != 0:
                raise PreconditionError(
                    f"{self.path / name} is not ignored by git, so it may hold more than a build leaves.",
                    state="Nothing was removed.",
                    safe_next="Mend the step's `caches` in the plan.",
                )
        return list(self.spec.caches)
