"""The step that reverts code."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Literal

from runbook_lib.config.compatibility import BEFORE, Rules, State
from runbook_lib.config.plan.steps import About, RepositoryStep, RevertingStep, ServicesStep, Touches
from runbook_lib.context import builds, old_code
from runbook_lib.context.old_code import services_of
from runbook_lib.errors import AdapterError, PreconditionError
from runbook_lib.git import Checkout
from runbook_lib.history.decision import Action
from runbook_lib.history.matching import How
from runbook_lib.results import Found, Precondition, Result, Status, When
from runbook_lib.steps import Effect, Facts, Preview, Probe, Step
from runbook_lib.steps.by_hand import Instruction, in_shell_at, in_words
from runbook_lib.system.processes import typed

PUT_BACK = "put back"  # a key in the result of a build's undo: the repository whose previous build is in place again
MODES = {
    "revert": "commit the reverse of each of the feature's commits; later work stays",
    "reset": "move the branch back below them, if no other commit is on top",
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


class RevertKeys(RevertingStep):
    """Revert a repository's code."""

    kind: Literal["revert"]

    about = About(
        title="Take the code back",
        estimate=10,
        does="Reverts the feature's commits, or resets to the commit before them, as previewed in a scratch clone.",
        expect="The checkout holds the commit that the preview named. Other people's files are unchanged.",
        if_not="Read what blocks the checkout. Apply the step again, or undo it to return to the previous commit.",
        preserves="The previous commit stays reachable; an undo returns to it.",
        reversible=True,
        log_line="{repository} code reverted",
        starts=False,
        starts_on_undo=False,
        in_the_way=True,
        on_table="",
    )

    def touches(self) -> Touches:
        """It changes the code."""
        return Touches(changes=self._code)

    def after(self, state: State, rules: Rules) -> State:
        """Return the state with the previous code."""
        return replace(state, code={**state.code, self.repository: frozenset({BEFORE})})


class Revert(StepOnRepository):
    """Move the deployed checkout to a commit without the feature's changes."""

    Keys = RevertKeys

    def choices(self) -> Mapping[str, Mapping[str, str]]:
        """Return how to revert, and for each undecided commit, whether it is the feature's. Read-only."""
        try:
            asked = old_code.questions(self.context, self.repository)
        except (PreconditionError, AdapterError):  # the preview reports what is wrong with the checkout
            asked = {}
        subjects = {name: f"“{commit.subject}”: " for name, commit in asked.items()}
        decided = {name: {v: of + text for v, text in old_code.ANSWERS.items()} for name, of in subjects.items()}
        return {"CODE": MODES, **self.LATER, **decided}

    def default(self, choice: str) -> str:
        """Return the plan's value of a choice; "" for a commit. Read-only."""
        return old_code.UNDECIDED if choice.startswith(old_code.QUESTION) else super().default(choice)

    @property
    def cleanup(self) -> str:
        """The cleanup item of a reset."""
        return f"former-head-{self.repository}"

    @property
    def ref(self) -> str:
        """The ref that keeps the previous head after a reset."""
        return f"refs/runbook/{self.context.folder.id}/{self.name}"

    def preview(self) -> Preview:
        """Show which commits would be reverted, tried in a scratch clone. Read-only."""
        self.chosen("CODE")
        old = old_code.prepare(self.context, self.repository)
        would = [f"{_way(old.mode)} {c.id[:12]} {c.subject}{_merge(c.is_merge, old.mode)}" for c in old.reverted]
        would += [f"nothing of {commit[:12]} was left to revert" for commit in old.nothing_left]
        if old.kept_files:
            would.append(f"keep {', '.join(old.kept_files)}: its schema stays")
        if old.mode == "reset" and old.reverted:
            would.append(f"keep the previous head {old.head[:12]} as {self.ref}")
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

    def by_hand(self, preview: Preview) -> list[Instruction]:
        """Return git commands that revert the same commits, and the expected tree to compare. Read-only."""
        old = old_code.prepared(self.context, self.repository)
        checkout = self.context.checkout(self.repository)
        if not old.reverted:
            return [in_words("Nothing to do: no commit of the feature is in effect.")]
        tree = Checkout(old.path, checkout.processes).git.says("rev-parse", f"{old.commit}^{{tree}}")
        git = ["git", "-C", str(self.path)]
        look = [*git, "rev-parse", "HEAD^{tree}"]
        if old.mode == "reset":
            commands = [[*git, "update-ref", self.ref, old.head], [*git, "reset", "--keep", old.commit]]
        else:
            commands = [
                [*git, "revert", "--no-edit", *(["--mainline", "1"] if commit.is_merge else []), commit.id]
                for commit in old.reverted
                if commit.id not in old.nothing_left
            ]
            if old.brought_back and (migration := self.context.plan.migration):
                kept = ["commit", "--message", old_code.message_of_kept(migration)]
                commands += [[*git, "checkout", old.head, "--", *old.brought_back], [*git, *kept]]
        return [
            in_shell_at(
                None,
                *commands,
                look,
                expect=f"the last line prints {tree}; if git stops or the tree differs, "
                f"go back by `{typed([*git, 'reset', '--keep', old.head])}` and leave the code as it is",
            )
        ]

    def needs(self) -> list[Precondition]:
        """Every service that is built from changed files is stopped or started; the preview shows all else. Pure."""
        title = "Every service that is built from what changes is stopped or started by this rollback"
        return [self.need("services", title, When.BEFOREHAND, self._none_left, waivable=True)]

    def _none_left(self) -> Found:
        checkout, specs = self.context.checkout(self.repository), self.context.specs.values()
        old = old_code.prepared(self.context, self.repository)
        handled = {service for spec in specs if isinstance(spec, ServicesStep) for service in spec.services}
        files = Checkout(old.path, checkout.processes).differing(old.head, old.commit)
        touched = services_of(self.context.plan, self.context.target.services.built_from, self.repository, files)
        if left := {service: file for service, file in touched.items() if service not in handled}:
            return (
                Status.FAIL,
                f"it changes {'; '.join(f'{f}, from which {s} is built' for s, f in left.items())}, and neither stops nor "
                "starts them. Choose a type that does, or list the files of each service in "
                f"repositories.{self.repository}.paths of the plan",
            )
        return Status.PASS, f"it changes {len(files)} files, of {', '.join(touched) or 'no service'}"

    def make_ready(self) -> None:
        """Fetch the prepared commit into the checkout and inspect it, so that the step only moves to it.

        Changes the repository's objects.
        """
        old = old_code.prepared(self.context, self.repository)
        self.context.checkout(self.repository).bring(old.path, old.commit)
        old_code.live_commits(self.context, self.repository, tip=old.commit)

    def probe(self) -> Probe:
        """Report whether any commit of the feature is still in effect. Read-only."""
        checkout = self.context.checkout(self.repository)
        head = checkout.head()
        approved = self.approved
        if head == approved.get("commit"):
            return Probe(Effect.DONE, f"{self.repository} is at {head[:12]}, as approved")
        if head == approved.get("head") and checkout.half_way_to(approved["commit"]):
            return Probe(Effect.HALF_DONE, f"the move of {self.repository} to {approved['commit'][:12]} was interrupted")
        if not old_code.live_commits(self.context, self.repository):
            return Probe(Effect.DONE, f"no commit of the feature is in effect at {head[:12]}")
        if approved and head != approved["head"]:
            return Probe(
                Effect.UNKNOWN, f"{self.repository} is at {head[:12]}, neither the commit approved nor the one before it"
            )
        return Probe(Effect.NOT_DONE, f"{self.repository} is at {head[:12]}, with the feature")

    def apply(self) -> Facts:
        """Move the branch to the prepared commit. Changes the target."""
        checkout = self.context.checkout(self.repository)
        approved = self.approved
        old_code.remove_own_locks(self.context, self.repository)
        old_code.put_back(self.context, self.repository)
        if approved and checkout.half_way_to(approved["commit"]):
            checkout.end_move_to(approved["commit"])
            return {"before": approved["head"], "commit": approved["commit"], "reverted": len(approved["reverted"])}
        checkout.require_ready()
        old = old_code.prepared(self.context, self.repository)
        expected = approved.get("commit", old.commit)
        if old.commit != expected:
            raise PreconditionError(
                f"Reverting the feature gives {old.commit[:12]}, but {expected[:12]} was approved.",
                where=str(checkout.path),
                state=old_code.NOT_TOUCHED,
                safe_next="Preview again and approve that.",
            )
        checkout.bring(old.path, old.commit)
        if old.mode == "reset":
            self.reporter.open_cleanup(
                self.cleanup, f"{self.ref} keeps {old.head[:12]}, where {self.repository} was before its reset"
            )
            checkout.keep_ref(self.ref, old.head)
            checkout.back_to(old.commit)
        else:
            checkout.forward_to(old.commit)
        return {"before": old.head, "commit": old.commit, "reverted": len(old.reverted)}

    def verify(self) -> list[Result]:
        """Check that the files are as approved, without the feature, and that the work tree is clean. Read-only."""
        checkout = self.context.checkout(self.repository)
        left, changed = old_code.live_commits(self.context, self.repository), checkout.changed_files()
        unlike = self._unlike(checkout)
        return [
            self.result(
                "gone",
                "The files are as approved, without the feature's work, and the work tree is clean",
                Status.FAIL if left or changed or unlike else Status.PASS,
                f"{len(left)} commits of the feature in effect, {len(unlike)} files unlike the approved ones, "
                f"{len(changed)} changed files",
            )
        ]

    def _unlike(self, checkout: Checkout) -> set[str]:
        """Return the feature's files that differ from the approved ones. Read-only."""
        approved = self.approved
        before, expected = approved.get("head", ""), approved.get("commit", "")
        if checkout.head() == expected:
            return set()
        if not (checkout.resolved(before) and checkout.resolved(expected)):
            return set()
        return {*checkout.differing(before, expected)} & {*checkout.differing(expected, "HEAD")}

    def undo(self) -> Facts:
        """Move the branch back to its previous commit, and build that if no build of it is kept. Changes the target.

        Raises:
            PreconditionError: Work was added since, or this run did not move the branch.
        """
        left = self.left
        checkout = self.context.checkout(self.repository)
        if why := self.cannot_undo():
            raise PreconditionError(
                f"{why}.",
                where=str(checkout.path),
                state=old_code.NOT_TOUCHED,
                safe_next="Revert this run's commits by hand.",
            )
        old_code.remove_own_locks(self.context, self.repository)
        if checkout.half_way_to(left["before"]):
            checkout.end_move_to(left["before"])
        else:
            checkout.back_to(left["before"])
        if not self._is_built():
            builds.build(self.context, self.repository, checkout.path, f"evidence/{self.name}-undone.txt")
        self._forget()
        return {"commit": left["before"]}

    def _is_built(self) -> bool:
        """Report whether every build of this run was undone, so that the previous build is in place. Read-only."""
        specs = {n: s for n, s in self.context.plan.steps.items() if isinstance(s, RepositoryStep) and s.builds}
        done = [self.context.state.step(name) for name, spec in specs.items() if spec.repository == self.repository]
        return all(step.outcome.get(PUT_BACK) for step in done if step.status != "pending")

    def cannot_undo(self) -> str:
        """Report that the branch has moved since this run, "" if it has not. Read-only."""
        left = self.left
        if self.context.checkout(self.repository).head() in (left.get("commit"), left.get("before")) and "before" in left:
            return ""
        return f"{self.repository} is not at the commit where this run left it; moving it back could lose later work"

    def purge_preview(self, item: str) -> Preview:
        """Show that the previous head would be deleted. Read-only."""
        return Preview(
            self.name,
            f"{self.title}: delete the previous head",
            would=[f"delete {self.ref}; git later removes the commits that only it holds"],
            undone_by="nothing",
            irreversible=True,
        )

    def purge(self, item: str) -> Facts:
        """Delete the ref of the previous head. Changes the target."""
        self._forget()
        return {"deleted": self.ref}

    def _forget(self) -> None:
        if self.cleanup in self.reporter.pending():
            self.context.checkout(self.repository).drop_ref(self.ref)
            self.reporter.close_cleanup(self.cleanup)


def _way(mode: str) -> str:
    return "take back" if mode == "revert" else "reset away"


def _merge(is_merge: bool, mode: str) -> str:
    return " (a merge, by its first parent)" if is_merge and mode == "revert" else ""


def _table(old: old_code.OldCode) -> list[list[str]]:
    rows = [[f.commit.id[:12], f.commit.subject, str(f.found_by), f"{f.action}: {f.why}"] for f in old.findings]
    rows += [[c.id[:12], c.subject, str(How.INCLUDED), f"{Action.KEEP}: {old_code.ELSEWHERE}"] for c in old.elsewhere]
    return [["commit", "subject", "found by", "what is done, and why"], *rows] if rows else []
