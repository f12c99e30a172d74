"""The step that builds code."""

from collections.abc import Mapping
from dataclasses import replace
from math import ceil
from pathlib import Path
from typing import Any, ClassVar, Literal

from runbook_lib.config.compatibility import Rules, State
from runbook_lib.config.plan.steps import About, BuildingStep, Inside, RepositoryStep, StepSpec, Touches
from runbook_lib.context import builds, old_code, staged_build
from runbook_lib.context.staged_build import Proof, StagedBuild, some
from runbook_lib.results import Found, Precondition, Result, Status, When
from runbook_lib.steps import Effect, Facts, Preview, Probe
from runbook_lib.steps.by_hand import Instruction, in_shell_at
from runbook_lib.steps.code import PUT_BACK, StepOnRepository
from runbook_lib.system.machine import free_memory, megabytes


class BuildKeys(BuildingStep):
    """Build a repository's code."""

    kind: Literal["build"]

    about = About(
        title="Build the code",
        estimate=5,
        does="Installs the build that was proven in the scratch clone, without building again, and removes caches.",
        expect="The build is of the checked-out commit.",
        if_not="Read the build's output in the evidence, fix the cause, then apply the step again.",
        preserves="The previous build is kept for an undo until you purge it.",
        reversible=True,
        log_line="",
        starts=False,
        starts_on_undo=False,
        in_the_way=True,
        on_table="",
    )

    def touches(self) -> Touches:
        """It depends on the code, which its undo does not change."""
        return Touches(rests_on=self._code)

    def after(self, state: State, rules: Rules) -> State:
        """What is built is what is checked out."""
        return replace(state, built={**state.built, self.repository: state.code[self.repository]})


class Build(StepOnRepository):
    """Install the old version's build that a scratch clone has proven; or build in the checkout, if it must."""

    Keys: ClassVar[type[StepSpec]] = BuildKeys

    @property
    def caches(self) -> list[str]:
        """The paths that are removed before the build, if they exist."""
        return builds.caches(self.context, self.repository)

    @property
    def item(self) -> str:
        """The cleanup item: the build, and later the build that it replaced."""
        return f"built-before-{self.name}"

    def preview(self) -> Preview:
        """Show that the old version builds in a scratch clone, and what is put in place. Read-only."""
        commit = old_code.commit_without(self.context, self.repository)
        proof, checkout = self._proof(commit), self.context.checkout(self.repository)
        for cache in self.caches:
            builds.require_cache(checkout, cache)
        made_from = self._approvable(commit).get("built_from") or staged_build.built_from(self.context, self.repository)
        how = (
            {"outputs": list(proof.outputs)} if proof.is_movable else {"in place": proof.not_movable or "it does not build"}
        )
        return Preview(
            self.name,
            self.title,
            would=self._would(commit, proof),
            undone_by="putting the previous build back" if proof.is_movable else "building the restored code",
            estimate=self.spec.estimate if proof.is_movable else max(self.spec.estimate, ceil(proof.seconds)),
            facts={"commit": commit, **how, "built from": made_from},
        )

    def by_hand(self, preview: Preview) -> list[Instruction]:
        """Return the target's commands for a build in the checkout. Pure."""
        target = self.context.target.repositories[self.repository]
        commands = [command for command in (target.install, target.build) if command]
        cleared = [["rm", "-rf", "--", *self.caches]] if self.caches else []
        said = f", and {target.artifact} names the commit that is checked out" if target.artifact else ""
        return [in_shell_at(self.path, *cleared, *commands, expect=f"each line ends with exit code 0{said}")]

    def needs(self) -> list[Precondition]:
        """The old version builds, and from the same files as in the checkout. Pure."""

        def proof() -> Proof:
            return self._proof(old_code.commit_without(self.context, self.repository))

        def builds_alone() -> Found:
            found = proof()
            return (Status.FAIL, found.problem) if found.problem else (Status.PASS, f"it does, {found.need}")

        def has_its_files() -> Found:
            built = proof()
            if not built.is_movable:
                return Status.PASS, "it is built in the checkout"
            found = staged_build.unnamed_files(self.context, self.repository, built)
            if not found:
                return Status.PASS, "it was"
            key = f"repositories.{self.repository}.build_files"
            return (
                Status.UNKNOWN,
                f"the checkout has {some(found)}, which git ignores, so the scratch clone lacks them: list in {key} of "
                "the target those that a build reads, or [] if it reads none",
            )

        title = "The old version builds in a scratch clone"
        files = "The old version was built from all files that a build in the checkout reads"
        return [
            self.need("builds", title, When.BEFOREHAND, builds_alone, waivable=True),
            self.need("files", files, When.ONLY_BEFOREHAND, has_its_files, waivable=True),
        ]

    def make_ready(self) -> None:
        """Keep the proven build next to the checkout. Changes only the checkout's git directory."""
        commit = old_code.commit_without(self.context, self.repository)
        staged, proof = self._staged(commit), self._proof(commit)
        is_there = self.context.checkout(self.repository).head() == commit and self.probe().effect is Effect.DONE
        if is_there or self._approvable(commit):
            return
        staged.remove()
        if proof.is_movable and self.item not in self.reporter.pending():
            outputs = ", ".join(proof.outputs)
            self.reporter.open_cleanup(self.item, f"{staged.directory} keeps what was built before: {outputs}")
        made_from = staged_build.built_from(self.context, self.repository)
        staged_build.stage(self.context, self.name, proof, staged, self.caches, made_from)

    def probe(self) -> Probe:
        """Report whether the build is of the checked-out commit. Read-only."""
        head = self.context.checkout(self.repository).head()
        staged = self._staged(head)
        if staged.is_begun and not staged.is_in_place:
            return Probe(Effect.HALF_DONE, f"the build of {head[:12]} is partly in place")
        if staged.is_in_place or builds.built_version(self.context, self.repository, self.path, head):
            return Probe(Effect.DONE, f"the build is of {head[:12]}")
        return Probe(Effect.NOT_DONE, f"no build of {head[:12]} is known")

    def apply(self) -> Facts:
        """Put the proven build in place; if it cannot be moved, build there. Changes the target."""
        checkout = self.context.checkout(self.repository)
        head = checkout.head()
        for cache in self.caches:
            builds.require_cache(checkout, cache)
        staged = self._staged(head)
        if not staged.manifest():
            self.make_ready()
        if staged.manifest() and staged.proof.is_movable:
            moved = staged.put_in_place()
            self._tell(f"put in place: {', '.join(staged.proof.outputs)}")
            return {"commit": head, "output": self._evidence, "replaced": moved}
        evidence = f"evidence/{self.name}.txt"
        built = builds.build(self.context, self.repository, self.path, evidence, self._tell, self.caches)
        staged.remove()
        return {"commit": head, "output": evidence, "removed": built.removed}

    def verify(self) -> list[Result]:
        """Check that the build is of the checked-out commit. Read-only."""
        head = self.context.checkout(self.repository).head()
        right = builds.built_version(self.context, self.repository, self.path, head)
        if right is None and self._staged(head).is_in_place:
            right = True
        summary = {
            True: f"the build is of {head[:12]}",
            False: f"the build is not of {head[:12]}",
            None: "the build command succeeded; the target names no artifact, so the service's version decides",
        }[right]
        return [self.result("built", "The old version is built", Status.FAIL if right is False else Status.PASS, summary)]

    def undo(self) -> Facts:
        """Put the previous build back; if it is not kept, undoing the revert builds it. Changes the target."""
        kept = [staged for staged in self._kept() if staged.proof.is_movable]
        for staged in kept:
            staged.take_back()
        for staged in self._kept():
            staged.remove()
        if self.item in self.reporter.pending():
            self.reporter.close_cleanup(self.item)
        return {PUT_BACK: self.repository} if kept else {}

    def purge_preview(self, item: str) -> Preview:
        """Show which previous builds would be deleted. Read-only."""
        return Preview(
            self.name,
            f"{self.title}: delete what was built before",
            would=[f"delete {staged.directory}; an undo builds it again" for staged in self._kept()],
            undone_by="nothing",
            irreversible=True,
        )

    def purge(self, item: str) -> Facts:
        """Delete the previous builds. Changes only the checkout's git directory."""
        kept = self._kept()
        for staged in kept:
            staged.remove()
        self.reporter.close_cleanup(item)
        return {"deleted": [str(staged.directory) for staged in kept]}

    @property
    def _evidence(self) -> str:
        return f"evidence/{self.name}-scratch.txt"

    def _staged(self, commit: str) -> StagedBuild:
        directory = staged_build.kept_in(self.context, self.repository) / f"{self._own}{commit[:12]}"
        return StagedBuild(directory, self.path)

    @property
    def _own(self) -> str:
        return f"{self.name}-{self.context.folder.short}-"

    def _kept(self) -> list[StagedBuild]:
        """Return the kept builds of this run's step, for any commit. Read-only."""
        directory = staged_build.kept_in(self.context, self.repository)
        return [StagedBuild(path, self.path) for path in sorted(directory.glob(f"{self._own}*"))]

    def _approvable(self, commit: str) -> Mapping[str, Any]:
        """Return the staged build's record; empty if there is none, or it would be built differently now. Read-only."""
        manifest = self._staged(commit).manifest()
        if self.context.state.begun_since or not manifest:
            return manifest
        return manifest if manifest["built_from"] == staged_build.built_from(self.context, self.repository) else {}

    def _proof(self, commit: str) -> Proof:
        if self._approvable(commit):
            return self._staged(commit).proof
        return staged_build.prove(self.context, self.name, self.repository, commit)

    def _would(self, commit: str, proof: Proof) -> list[str]:
        target = self.context.target.repositories[self.repository]
        commands = " and ".join(f"`{_named(c)}`" for c in (target.install, target.build) if c)
        removed = [f"remove {', '.join(self.caches)} if present"] if self.caches else []
        if proof.problem:
            return [*removed, f"run {commands} on {commit[:12]}; it does not build: {proof.problem}"]
        proven = (
            f"{commands} on {commit[:12]}, in a scratch clone {proof.need}; {megabytes(free_memory())} of memory are free"
        )
        if proof.is_movable:
            return [
                *removed,
                f"put {', '.join(proof.outputs)} in place, each by a rename, as proven by {proven}",
                "keep the previous build for an undo",
            ]
        return [
            *removed,
            f"build in the checkout, because {proof.not_movable}: {proven}",
            f"a service that runs from these files lacks some for about {ceil(proof.seconds)} s, unless it is stopped first",
        ]

    def _tell(self, line: str) -> None:
        self.reporter.append("output", step=self.name, line=line)


def _named(command: list[str]) -> str:
    return " ".join(Path(part).name for part in command)


class RebuildKeys(RepositoryStep):
    """Build a repository's code again, its caches cleared, though it may be built already."""

    builds = True
    kind: Literal["rebuild"]
    clear: list[Inside] = []
    """Caches inside the repository that are removed first."""

    about = About(
        title="Build the code again, its caches cleared",
        estimate=5,
        does="Installs a build made without caches in the scratch clone, even if the commit is built already.",
        expect="The build is of the checked-out commit.",
        if_not="Read the build's output in the evidence, fix the cause, then apply the step again.",
        preserves="The previous build is kept for an undo until you purge it.",
        reversible=True,
        log_line="",
        starts=False,
        starts_on_undo=False,
        in_the_way=True,
        on_table="",
    )

    def touches(self) -> Touches:
        """It depends on the code, which its undo does not change."""
        return Touches(rests_on=self._code)

    def after(self, state: State, rules: Rules) -> State:
        """Return the state unchanged."""
        return state


class Rebuild(Build):
    """Clear more of a repository's build caches than a build does, then build the checked-out commit."""

    Keys = RebuildKeys

    @property
    def caches(self) -> list[str]:
        """The paths that are removed before the build, if they exist."""
        assert isinstance(self.spec, RebuildKeys)
        return list(dict.fromkeys([*super().caches, *self.spec.clear]))

    def probe(self) -> Probe:
        """Report whether this run rebuilt it; an existing build does not show which caches it used. Read-only."""
        if not (self.is_done or self._kept_begun()):
            return Probe(Effect.NOT_DONE, "no rebuild by this run is on record")
        return super().probe()

    def _kept_begun(self) -> bool:
        return any(staged.is_begun for staged in self._kept())
