"""The step that takes code back."""

from pathlib import Path

from runbook_lib import builds, oldcode
from runbook_lib.errors import PreconditionError
from runbook_lib.plan import RepositoryStep
from runbook_lib.results import Result, Status
from runbook_lib.steps.base import Effect, Facts, Preview, Probe, Step

MODES = {
    "revert": "commit the reverse of each of the feature's commits; later work stays",
    "reset": "move the branch back below them, where nothing else lies on top",
}


class StepOnRepository(Step):
    """A step that works on one of the plan's repositories."""

    @property
    def repository(self) -> str:
        """Which one."""
        assert isinstance(self.spec, RepositoryStep)
        return self.spec.repository

    @property
    def path(self) -> Path:
        """The deployed checkout."""
        return self.context.checkout(self.repository).path


class Revert(StepOnRepository):
    """Move the deployed checkout to a commit in which the feature's commits are taken back."""

    CHOICES = {"CODE": MODES}

    @property
    def debt(self) -> str:
        """What a reset leaves."""
        return f"former-head-{self.repository}"

    @property
    def ref(self) -> str:
        """What keeps the former head of a reset."""
        return f"refs/runbook/{self.context.folder.id}/{self.name}"

    def preview(self) -> Preview:
        """Which commits would be taken back, tried in a scratch clone. Read-only."""
        self.chosen("CODE")
        old = oldcode.prepare(self.context, self.repository)
        would = [f"{_way(old.mode)} {c.id[:12]} {c.subject}{_merge(c.is_merge, old.mode)}" for c in old.reverted]
        would += [f"nothing of {commit[:12]} was left to take back" for commit in old.nothing_left]
        if old.kept_files:
            would.append(f"keep {', '.join(old.kept_files)}: its schema stays")
        if old.mode == "reset" and old.reverted:
            would.append(f"keep the former head {old.head[:12]} as {self.ref}")
        facts = {"repository": self.repository, "head": old.head, "commit": old.commit, "mode": old.mode}
        return Preview(
            self.name,
            self.title,
            would=would or ["nothing: no commit of the feature is in effect"],
            undone_by=f"moving the branch back to {old.head[:12]}",
            estimate=self.spec.estimate,
            facts={**facts, "reverted": [c.id for c in old.reverted], "nothing left": list(old.nothing_left)},
            table=_table(old),
        )

    def probe(self) -> Probe:
        """Whether any commit of the feature is still in effect. Read-only."""
        checkout = self.context.checkout(self.repository)
        head = checkout.head()
        approved = self.context.approved.get(self.name, {})
        if head == approved.get("commit"):
            return Probe(Effect.DONE, f"{self.repository} is at {head[:12]}, as approved")
        if head == approved.get("head") and checkout.half_way_to(approved["commit"]):
            return Probe(Effect.HALF_DONE, f"the move of {self.repository} to {approved['commit'][:12]} was cut short")
        if not oldcode.live_commits(self.context, self.repository):
            return Probe(Effect.DONE, f"no commit of the feature is in effect at {head[:12]}")
        if approved and head != approved["head"]:
            return Probe(
                Effect.UNKNOWN, f"{self.repository} is at {head[:12]}, neither the commit approved nor the one before it"
            )
        return Probe(Effect.NOT_DONE, f"{self.repository} is at {head[:12]}, with the feature")

    def apply(self) -> Facts:
        """Move the branch to the prepared commit. Changes the target."""
        checkout = self.context.checkout(self.repository)
        approved = self.context.approved.get(self.name, {})
        if approved and checkout.half_way_to(approved["commit"]):
            checkout.end_move_to(approved["commit"])
            return {"before": approved["head"], "commit": approved["commit"], "reverted": len(approved["reverted"])}
        old = oldcode.prepare(self.context, self.repository)
        wanted = approved.get("commit", old.commit)
        if old.commit != wanted:
            raise PreconditionError(
                f"Taking the feature back gives {old.commit[:12]}, but {wanted[:12]} was approved.",
                where=str(checkout.path),
                state=oldcode.NOT_TOUCHED,
                safe_next="Take a new preview and approve it.",
            )
        checkout.bring(old.path, old.commit)
        if old.mode == "reset":
            self.owe(self.debt, f"{self.ref} keeps {old.head[:12]}, where {self.repository} was before its reset")
            checkout.keep_ref(self.ref, old.head)
            checkout.back_to(old.commit)
        else:
            checkout.forward_to(old.commit)
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
        if checkout.head() not in (left.get("commit"), left.get("before")) or "before" not in left:
            raise PreconditionError(
                f"{self.repository} is not at the commit this run left it at; moving it back could lose later work.",
                where=str(checkout.path),
                state=oldcode.NOT_TOUCHED,
                safe_next="Revert this run's commits by hand.",
            )
        checkout.back_to(left["before"])
        builds.build(self.context, self.repository, checkout.path, f"evidence/{self.name}-undone.txt")
        self._forget()
        return {"commit": left["before"]}

    def purge_preview(self, debt: str) -> Preview:
        """That the former head would be given up. Read-only."""
        return Preview(
            self.name,
            f"IRREVERSIBLE: {self.title}: give up the former head",
            would=[f"delete {self.ref}; what only it holds is removed by git in time"],
            undone_by="nothing: IRREVERSIBLE",
        )

    def purge(self, debt: str) -> Facts:
        """Give the former head up. Changes the target."""
        self._forget()
        return {"deleted": self.ref}

    def _forget(self) -> None:
        if self.debt in self.context.debts():
            self.context.checkout(self.repository).drop_ref(self.ref)
            self.paid(self.debt)


def _way(mode: str) -> str:
    return "take back" if mode == "revert" else "reset away"


def _merge(is_merge: bool, mode: str) -> str:
    return " (a merge, by its first parent)" if is_merge and mode == "revert" else ""


def _table(old: oldcode.OldCode) -> list[list[str]]:
    rows = [[f.commit.id[:12], f.commit.subject, f.by, _fate(old, f.commit.id, f.fate)] for f in old.account]
    return [["commit", "subject", "found by", "what becomes of it"], *rows] if rows else []


def _fate(old: oldcode.OldCode, commit: str, fate: str) -> str:
    return "was taken back before, without a word of it" if commit in old.nothing_left else fate
