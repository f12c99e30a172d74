"""The step that builds code."""

from pathlib import Path
from time import monotonic

from runbook_lib import builds, oldcode
from runbook_lib.results import Result, Status
from runbook_lib.steps.base import Effect, Facts, Preview, Probe
from runbook_lib.steps.code import StepOnRepository


class Build(StepOnRepository):
    """Build what the deployed checkout holds."""

    @property
    def caches(self) -> list[str]:
        """What is removed before the build, where it is there."""
        return builds.caches(self.context, self.repository)

    def preview(self) -> Preview:
        """That the old version builds, proven in the scratch clone. Read-only."""
        old = oldcode.prepare(self.context, self.repository)
        took = self._proven(old)
        target = self.context.target.repositories[self.repository]
        commands = " and ".join(f"`{_named(c)}`" for c in (target.install, target.build) if c)
        would = [f"remove {', '.join(self.caches)}, where it is there"] if self.caches else []
        return Preview(
            self.name,
            self.title,
            would=[*would, f"run {commands} on {old.commit[:12]}; it was built in a scratch clone in {took:.1f} s"],
            undone_by="taking the code forward again, which builds it",
            estimate=self.spec.estimate,
            facts={"commit": old.commit},
        )

    def probe(self) -> Probe:
        """Whether what is built is what is checked out. Read-only."""
        head = self.context.checkout(self.repository).head()
        if builds.built_version(self.context, self.repository, self.path, head):
            return Probe(Effect.DONE, f"the build is of {head[:12]}")
        return Probe(Effect.NOT_DONE, f"no build of {head[:12]} is known")

    def apply(self) -> Facts:
        """Build. Changes the target."""
        evidence = f"evidence/{self.name}.txt"
        removed = builds.build(self.context, self.repository, self.path, evidence, self._tell, self.caches)
        return {"commit": self.context.checkout(self.repository).head(), "output": evidence, "removed": removed}

    def verify(self) -> list[Result]:
        """That the build is of the commit checked out. Read-only."""
        head = self.context.checkout(self.repository).head()
        right = builds.built_version(self.context, self.repository, self.path, head)
        summary = {
            True: f"the build is of {head[:12]}",
            False: f"the build is not of {head[:12]}",
            None: "the build command succeeded; the target names no artifact, so the service's own word counts",
        }[right]
        return [self.result("built", "The old version is built", Status.FAIL if right is False else Status.PASS, summary)]

    def undo(self) -> Facts:
        """Nothing: undoing the revert builds what it brings back. Read-only."""
        return {"built": self.context.checkout(self.repository).head()}

    def _proven(self, old: oldcode.OldCode) -> float:
        """The seconds that building the old code in its scratch clone took; it is built there once."""
        key = f"built {old.path}"
        if key not in self.context.prepared:
            begun = monotonic()
            builds.build(self.context, self.repository, old.path, f"evidence/{self.name}-scratch.txt")
            self.context.prepared[key] = monotonic() - begun
        seconds: float = self.context.prepared[key]
        return seconds

    def _tell(self, line: str) -> None:
        self.context.report("output", step=self.name, line=line)


def _named(command: list[str]) -> str:
    return " ".join(Path(part).name for part in command)
