"""The step that builds code."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from time import monotonic
from typing import ClassVar, Literal

from runbook_lib.config.compatibility import Rules, State
from runbook_lib.config.plan.steps import About, BuildingStep, Inside, RepositoryStep, StepSpec, Touches
from runbook_lib.context import builds, old_code
from runbook_lib.errors import AdapterError
from runbook_lib.results import Found, Precondition, Result, Status, When
from runbook_lib.steps import Effect, Facts, Preview, Probe
from runbook_lib.steps.code import StepOnRepository


class BuildKeys(BuildingStep):
    """Build a repository's code."""

    kind: Literal["build"]

    about = About(
        title="Build the code",
        estimate=60,
        does="Removes the named caches and runs the target's install and build commands.",
        expect="The build is of the commit that is checked out.",
        if_not="Read the build's output in the evidence; fix its cause and apply again.",
        preserves="An undo of the revert builds what it brings back.",
        reversible=True,
        log_line="",
        starts=False,
        starts_on_undo=False,
        in_the_way=True,
        on_table="",
    )

    def touches(self) -> Touches:
        """It rests on the code; undoing it changes nothing, as the revert builds what it brings back."""
        return Touches(rests_on=self._code)

    def after(self, state: State, rules: Rules) -> State:
        """What is built is what is checked out."""
        return replace(state, built={**state.built, self.repository: state.code[self.repository]})

    def seconds_to_undo(self, others: Iterable[StepSpec]) -> int:
        """None: nothing is undone. Pure."""
        return 0


class Build(StepOnRepository):
    """Build what the deployed checkout holds."""

    Keys: ClassVar[type[StepSpec]] = BuildKeys

    @property
    def caches(self) -> list[str]:
        """What is removed before the build, where it is there."""
        return builds.caches(self.context, self.repository)

    def preview(self) -> Preview:
        """That the old version builds, proven in the scratch clone. Read-only."""
        old = old_code.prepare(self.context, self.repository)
        took, problem = self._proven(old)
        proven = f"it was built in a scratch clone in {took:.1f} s" if not problem else f"it does not build: {problem}"
        target = self.context.target.repositories[self.repository]
        commands = " and ".join(f"`{_named(c)}`" for c in (target.install, target.build) if c)
        would = [f"remove {', '.join(self.caches)}, where it is there"] if self.caches else []
        return Preview(
            self.name,
            self.title,
            would=[*would, f"run {commands} on {old.commit[:12]}; {proven}"],
            undone_by="taking the code forward again, which builds it",
            estimate=self.spec.estimate,
            facts={"commit": old.commit},
        )

    def needs(self) -> list[Precondition]:
        """That the old version builds. Pure."""

        def builds_alone() -> Found:
            took, problem = self._proven(old_code.prepare(self.context, self.repository))
            return (Status.FAIL, problem) if problem else (Status.PASS, f"it does, in {took:.1f} s")

        title = "The old version builds in a scratch clone"
        return [self.need("builds", title, When.BEFOREHAND, builds_alone, waivable=True)]

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

    def _proven(self, old: old_code.OldCode) -> tuple[float, str]:
        """The seconds that building the old code in its scratch clone took, and why it failed; it is built there once."""
        key = f"built {old.path}"
        if key not in self.context.adapters.prepared:
            begun, problem = monotonic(), ""
            try:
                builds.build(self.context, self.repository, old.path, f"evidence/{self.name}-scratch.txt")
            except AdapterError as error:
                problem = error.what
            self.context.adapters.prepared[key] = monotonic() - begun, problem
        proven: tuple[float, str] = self.context.adapters.prepared[key]
        return proven

    def _tell(self, line: str) -> None:
        self.reporter.append("output", step=self.name, line=line)


def _named(command: list[str]) -> str:
    return " ".join(Path(part).name for part in command)


class RebuildKeys(RepositoryStep):
    """Build a repository's code again, its caches cleared, though it may be built already."""

    kind: Literal["rebuild"]
    clear: list[Inside] = []
    """Caches inside the repository that are removed first."""

    about = About(
        title="Build the code again, its caches cleared",
        estimate=90,
        does="Removes all named caches and builds what is checked out, though it may be built already.",
        expect="The build is of the commit that is checked out.",
        if_not="Read the build's output in the evidence; fix its cause and apply again.",
        preserves="An undo of the revert builds what it brings back.",
        reversible=True,
        log_line="",
        starts=False,
        starts_on_undo=False,
        in_the_way=True,
        on_table="",
    )

    def touches(self) -> Touches:
        """It rests on the code; undoing it changes nothing, as the revert builds what it brings back."""
        return Touches(rests_on=self._code)

    def after(self, state: State, rules: Rules) -> State:
        """Nothing of them changes."""
        return state


class Rebuild(Build):
    """Clear a repository's build caches, more of them than a build does, then build what it has checked out."""

    Keys = RebuildKeys

    @property
    def caches(self) -> list[str]:
        """What is removed before the build, where it is there."""
        assert isinstance(self.spec, RebuildKeys)
        return list(dict.fromkeys([*super().caches, *self.spec.clear]))

    def probe(self) -> Probe:
        """Whether this run rebuilt it; what is built already says nothing of what it was built from. Read-only."""
        if not self.is_done:
            return Probe(Effect.NOT_DONE, "no rebuild by this run is on record")
        return super().probe()
