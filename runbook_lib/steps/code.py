"""Steps that take code back and build it."""

from pathlib import Path
from time import monotonic

from runbook_lib import oldcode
from runbook_lib.errors import PreconditionError
from runbook_lib.plan import RepositoryStep
from runbook_lib.results import Result, Status
from runbook_lib.steps.base import Effect, Facts, Preview, Probe, Step


class _RepositoryStep(Step):
    @property
    def repository(self) -> str:
        assert isinstance(self.spec, RepositoryStep)
        return self.spec.repository


class Revert(_RepositoryStep):
    """Move the deployed checkout forward to a commit in which the feature's commits are taken back."""

    def preview(self) -> Preview:
        """Which commits would be taken back, tried in a scratch clone. Read-only."""
        old = oldcode.prepare(self.context, self.repository)
        would = [
            f"take back {c.id[:12]} {c.subject}" + (" (a merge, by its first parent)" if c.is_merge else "")
            for c in old.reverted
        ]
        if old.kept_files:
            would.append(f"keep {', '.join(old.kept_files)}: its schema stays")
        return Preview(
            self.name,
            self.title,
            would=would or ["nothing: no commit of the feature is in effect"],
            undone_by=f"moving the branch back to {old.head[:12]}",
            estimate=self.spec.estimate,
            facts={"head": old.head, "commit": old.commit, "reverted": [c.id for c in old.reverted]},
        )

    def probe(self) -> Probe:
        """Whether any commit of the feature is still in effect. Read-only."""
        head = self.context.checkout(self.repository).head()
        approved = self.context.approved.get(self.name, {})
        if head == approved.get("commit"):
            return Probe(Effect.DONE, f"{self.repository} is at {head[:12]}, as approved")
        if not oldcode.live_commits(self.context, self.repository):
            return Probe(Effect.DONE, f"no commit of the feature is in effect at {head[:12]}")
        if approved and head != approved["head"]:
            return Probe(
                Effect.UNKNOWN, f"{self.repository} is at {head[:12]}, neither the commit approved nor the one before it"
            )
        return Probe(Effect.NOT_DONE, f"{self.repository} is at {head[:12]}, with the feature")

    def apply(self) -> Facts:
        """Move the branch forward to the prepared commit. Changes the target."""
        old = oldcode.prepare(self.context, self.repository)
        wanted = self.context.approved.get(self.name, {}).get("commit", old.commit)
        if old.commit != wanted:
            raise PreconditionError(
                f"Taking the feature back gives {old.commit[:12]}, but {wanted[:12]} was approved.",
                where=str(self.context.checkout(self.repository).path),
                state="The checkout was not touched.",
                safe_next="Take a new preview and approve it.",
            )
        self.context.checkout(self.repository).forward_to(old.path, old.commit)
        return {"before": old.head, "commit": old.commit, "reverted": len(old.reverted)}

    def verify(self) -> list[Result]:
        """That the feature's commits are out of effect and the tree is clean. Read-only."""
        left = oldcode.live_commits(self.context, self.repository)
        changed = self.context.checkout(self.repository).changed_files()
        return [
            self.result(
                "gone",
                "The feature's commits are taken back and the work tree is clean",
                Status.FAIL if left or changed else Status.PASS,
                f"{len(left)} commits of the feature in effect, {len(changed)} changed files",
            )
        ]

    def undo(self) -> Facts:
        """Move the branch back to where it was, and build that. Changes the target.

        Raises:
            PreconditionError: Work was added since, or this run did not move the branch.
        """
        left = self.context.outcomes.get(self.name, {})
        checkout = self.context.checkout(self.repository)
        if checkout.head() != left.get("commit") or "before" not in left:
            raise PreconditionError(
                f"{self.repository} is not at the commit this run left it at; moving it back could lose later work.",
                where=str(checkout.path),
                state="The checkout was not touched.",
                safe_next="Revert this run's commits by hand.",
            )
        checkout.back_to(left["before"])
        oldcode.build(self.context, self.repository, checkout.path)
        return {"commit": left["before"]}


class Build(_RepositoryStep):
    """Build what the deployed checkout holds."""

    @property
    def path(self) -> Path:
        """The deployed checkout."""
        return self.context.checkout(self.repository).path

    def preview(self) -> Preview:
        """That the old version builds, proven in the scratch clone. Read-only."""
        old = oldcode.prepare(self.context, self.repository)
        begun = monotonic()
        if not oldcode.built_version(self.context, self.repository, old.path, old.commit):
            oldcode.build(self.context, self.repository, old.path)
        command = " ".join(Path(part).name for part in self.context.target.repositories[self.repository].build)
        return Preview(
            self.name,
            self.title,
            would=[f"run `{command}` on {old.commit[:12]}; it was built in a scratch clone in {monotonic() - begun:.1f} s"],
            undone_by="taking the code forward again, which builds it",
            estimate=self.spec.estimate,
            facts={"commit": old.commit},
        )

    def probe(self) -> Probe:
        """Whether what is built is what is checked out. Read-only."""
        head = self.context.checkout(self.repository).head()
        if oldcode.built_version(self.context, self.repository, self.path, head):
            return Probe(Effect.DONE, f"the build is of {head[:12]}")
        return Probe(Effect.NOT_DONE, f"no build of {head[:12]} is known")

    def apply(self) -> Facts:
        """Build. Changes the target."""
        output = oldcode.build(self.context, self.repository, self.path)
        self.context.folder.write_text(f"evidence/{self.name}.txt", output)
        return {"commit": self.context.checkout(self.repository).head(), "output": f"evidence/{self.name}.txt"}

    def verify(self) -> list[Result]:
        """That the build is of the commit checked out. Read-only."""
        head = self.context.checkout(self.repository).head()
        right = oldcode.built_version(self.context, self.repository, self.path, head)
        summary = {
            True: f"the build is of {head[:12]}",
            False: f"the build is not of {head[:12]}",
            None: "the build command succeeded; the target names no artifact, so the service's own word counts",
        }[right]
        return [self.result("built", "The old version is built", Status.FAIL if right is False else Status.PASS, summary)]

    def undo(self) -> Facts:
        """Nothing: undoing the revert builds what it brings back. Read-only."""
        return {"built": self.context.checkout(self.repository).head()}
