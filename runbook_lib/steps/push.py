"""The step that pushes the reverted code, so that the next deployment does not bring the feature back."""

import re
from pathlib import Path
from tempfile import mkdtemp
from typing import Literal

from runbook_lib.config.compatibility import Rules, State
from runbook_lib.config.plan.steps import About, RepositoryStep, RevertingStep, Touches
from runbook_lib.context import Context, old_code
from runbook_lib.errors import AdapterError, PreconditionError
from runbook_lib.git import Checkout, PushRefused, Remote
from runbook_lib.results import Found, Precondition, Result, Status, When
from runbook_lib.steps import Effect, Facts, Preview, Probe
from runbook_lib.steps.by_hand import Instruction, in_shell_at, in_words
from runbook_lib.steps.code import StepOnRepository

STOP = "stop: "

PUSH = {
    "follow": "push to the checkout's upstream branch",
    "branch": "push to a new branch rollback/… for a pull request: the upstream branch stays as it is",
}


class RollbackBranch:
    """The branch of one run on a remote."""

    def __init__(self, context: Context, remote: Remote) -> None:
        self.into = remote
        self.remote = Remote(remote.git, remote.name, name_of(context))

    def __str__(self) -> str:
        return str(self.remote)

    @property
    def until_merged(self) -> str:
        """The risk until the pull request is merged."""
        return f"until {self} is merged into {self.into}, a deployment from {self.into} brings the feature back"

    def push(self, commit: str) -> Facts:
        """Create the branch at a commit, or move it there. Changes the remote.

        Raises:
            AdapterError: The remote does not answer, or refuses this branch too.
        """
        try:
            self.remote.push(commit)
        except PushRefused as error:
            raise PushRefused(
                error.what,
                where=error.where,
                state=error.state,
                safe_next=f"Push {commit[:12]} by hand to a branch that the remote accepts, and open a pull request into "
                f"{self.into}; then waive the step by its name.",
            ) from error
        return {"remote": str(self), "branch": self.remote.branch, "was": "", "commit": commit}

    def delete(self, commit: str) -> None:
        """Delete the branch if it exists. Changes the remote.

        Raises:
            PreconditionError: Somebody has pushed to it since.
        """
        tip = self.remote.tip()
        if tip and tip != commit:
            raise PreconditionError(
                f"{self} has later pushes: it is at {tip[:12]}.",
                where=str(self.remote.git.path),
                state="Nothing was deleted.",
                safe_next="Inspect the pushed commits, and delete the branch by hand.",
            )
        if tip:
            self.remote.delete(commit)


def name_of(context: Context) -> str:
    """Return the name of a run's branch. Pure."""
    return f"rollback/{re.sub(r'[^A-Za-z0-9_-]+', '-', context.plan.feature).strip('-')}-{context.folder.short}"


class PullRequestStep(StepOnRepository):
    """A step that pushes, and may leave a branch for a pull request until that is merged."""

    LATER = {"PUSH": PUSH}

    @property
    def cleanup(self) -> str:
        """The cleanup item of a branch for a pull request."""
        return f"pull-request-{self.repository}"

    def adopt_existing(self) -> None:
        """Close the pull request's cleanup if the upstream branch is without the feature. Reads the target."""
        if self.cleanup in self.reporter.pending() and self._is_merged():
            self.reporter.close_cleanup(self.cleanup)

    def purge_preview(self, item: str) -> Preview:
        """Show that the branch would be deleted once it is merged. Read-only."""
        remote = self._checkout.remote()
        own, merged = RollbackBranch(self.context, remote), self._is_merged()
        would = (
            f"delete {own}, which is merged"
            if merged
            else f"{STOP}{own} is not merged into {remote}, which still has the feature"
        )
        return Preview(self.name, f"{self.title}: the pull request", would=[would], facts={"merged": merged})

    def purge(self, item: str) -> Facts:
        """Delete the branch if it is merged. Changes the remote.

        Raises:
            PreconditionError: It is not merged.
        """
        own = RollbackBranch(self.context, self._checkout.remote())
        if not self._is_merged():
            raise PreconditionError(
                f"{own} is not merged: {own.until_merged}.",
                where=str(self.path),
                state="Nothing was deleted.",
                safe_next=f"Merge it into {own.into}; or undo the step, which deletes the branch.",
            )
        own.delete(self.left.get("commit", ""))
        self.reporter.close_cleanup(item)
        return {"deleted": str(own)}

    @property
    def _for_pull_request(self) -> bool:
        return self.chosen("PUSH") == "branch"

    def _is_merged(self) -> bool:
        """Report whether the upstream branch is without the feature. Read-only."""
        tip, clone = self._looked(self._checkout.remote())
        return bool(tip) and not old_code.live_commits(self.context, self.repository, clone, tip)

    @property
    def _checkout(self) -> Checkout:
        return self.context.checkout(self.repository)

    def _looked(self, remote: Remote) -> tuple[str, Checkout]:
        """Return the remote branch's commit, and a clone that has it."""
        key = f"clone of {self.repository}"
        if key not in self.context.adapters.prepared:
            path = Path(mkdtemp(prefix=f"{self.repository}-remote-", dir=self.context.adapters.scratch))
            self.context.adapters.prepared[key] = self._checkout.scratch(path)
        clone: Checkout = self.context.adapters.prepared[key]
        tip = remote.tip()
        if tip and not clone.resolved(tip):
            remote.bring(tip, clone.path)
        return tip, clone


MOVED = "holds commits that this checkout did not have"


class PushKeys(RepositoryStep):
    """Push a repository's code to where the next deployment takes it from."""

    kind: Literal["push"]
    push: Literal["follow", "branch"] = "follow"
    """Push to the upstream branch (follow), or to a new branch for a pull request (branch)."""

    about = About(
        title="Push the code",
        estimate=15,
        does="Pushes the code without the feature to the deployed branch, or to a branch for a pull request.",
        expect="The remote branch holds this run's commit.",
        if_not="If the remote refuses, choose PUSH=branch and open the pull request that the step names.",
        preserves="The remote's previous commit is recorded.",
        reversible=True,
        log_line="",
        starts=False,
        starts_on_undo=False,
        in_the_way=True,
        on_table="",
    )

    def touches(self) -> Touches:
        """It changes the remote branch, and depends on the code that it pushed."""
        return Touches(changes=frozenset({f"remote of {self.repository}"}), rests_on=self._code)

    def after(self, state: State, rules: Rules) -> State:
        """Return the state unchanged."""
        return state


class Push(PullRequestStep):
    """Push the deployed checkout's branch to its upstream branch; only a reset replaces commits there."""

    Keys = PushKeys

    def preview(self) -> Preview:
        """Show which commits would be pushed where, and whether the remote has moved. Read-only."""
        self.chosen("PUSH")
        old = old_code.prepared(self.context, self.repository)
        facts: dict[str, object] = {"repository": self.repository, "commit": old.commit, "remote": "none"}
        facts["branch"] = name_of(self.context)  # for a pull request: the same approval covers both
        loses: list[str] = []
        table: list[list[str]] = []
        undone_by = "pushing a commit that brings the feature back; a deployment made from there in between stays deployed"
        try:
            remote = self._checkout.remote()
            facts["remote"] = str(remote)
            tip, clone = self._looked(remote)
            clone.bring(old.path, old.commit)
            own = RollbackBranch(self.context, remote)
            would = self._would(remote, tip, clone, old)
            if self._for_pull_request:
                would, loses = (
                    [f"push {old.commit[:12]} to the branch {own}, for a pull request into {remote}"],
                    [own.until_merged],
                )
            elif not would[0].startswith(STOP):
                would.append(
                    f"this shows whether a rule or a hook of {remote} refuses it; if so, {own} can be pushed instead"
                )
            if hook := self._checkout.hook("pre-push"):
                would.append(f"run the hook {hook} first, for at most {self._checkout.hook_timeout:g} s")
            replaced = clone.between(old.commit, tip) if tip else []
            known = not tip or clone.holds(tip, old.head)  # the remote has no commit that this checkout lacks
            if replaced and (known or tip == self.approved.get("replaces")):
                facts["replaces"] = tip
                undone_by = f"pushing {tip[:12]} back, if nobody has pushed since; clones that fetched it keep it"
            rows = [(i, "goes there") for i in (clone.between(tip, old.commit) if tip else [])]
            rows += [(i, "removed from the branch") for i in replaced]
            subjects = {c.id: c.subject for end in (old.commit, tip) if end for c in clone.log(end)}
            table = [[i[:12], subjects.get(i, ""), what] for i, what in rows]
        except (PreconditionError, AdapterError) as error:  # `needs` reports it too, and refuses the approval
            lost = "" if isinstance(error, PreconditionError) else f"{facts['remote']} does not answer: "
            would = [f"{STOP}{lost}{error.what}"]
        return Preview(
            self.name,
            self.title,
            would=would,
            loses=loses,
            undone_by="deleting that branch" if self._for_pull_request else undone_by,
            irreversible="replaces" in facts and not self._for_pull_request,
            estimate=self.spec.estimate,
            facts=facts,
            table=[["commit", "subject", "result"], *table] if table else [],
        )

    def by_hand(self, preview: Preview) -> list[Instruction]:
        """Return a command that pushes the checked-out commit. Read-only."""
        try:
            remote = self._checkout.remote()
        except (PreconditionError, AdapterError) as error:
            return [in_words(f"Nothing can be pushed from this checkout: {error.what}")]
        if self._for_pull_request:
            remote = RollbackBranch(self.context, remote).remote
        replaces = "" if self._for_pull_request else str(preview.facts.get("replaces", ""))
        command = ["git", "-C", str(self.path), *remote.pushing("HEAD:", replacing=replaces)]
        return [in_shell_at(None, command, expect=f"exit code 0: {remote} is at the commit that is checked out")]

    def probe(self) -> Probe:
        """Report whether the remote branch has the checked-out commit, without the feature. Read-only."""
        try:
            remote = self._checkout.remote()
            tip, clone = self._looked(remote)
        except (PreconditionError, AdapterError) as error:  # pushing a commit again does no harm
            return Probe(Effect.NOT_DONE, error.what)
        head = self._checkout.head()
        if self._for_pull_request and RollbackBranch(self.context, remote).remote.tip() == head:
            return Probe(Effect.DONE, f"{name_of(self.context)} is at {head[:12]}, for a pull request into {remote}")
        if not tip or not clone.holds(head, tip):
            return Probe(Effect.NOT_DONE, f"{remote} is at {tip[:12] or 'nothing'}, without {head[:12]}")
        if live := old_code.live_commits(self.context, self.repository, clone, tip):
            return Probe(Effect.NOT_DONE, f"{remote} is at {tip[:12]}, with {len(live)} commits of the feature in effect")
        return Probe(Effect.DONE, f"{remote} is at {tip[:12]}, without the feature")

    def needs(self) -> list[Precondition]:
        """The code is reverted here and the remote has not moved; a waiver of the step continues without it. Pure."""
        return [
            self.need("code", "The code is reverted here", When.AT_THE_STEP, self._taken_back, waivable=True),
            self.need("", "The remote answers and has not moved", When.BEFOREHAND, self._unmoved),
        ]

    def apply(self) -> Facts:
        """Push, unless the remote has the commit already. Changes the remote."""
        old_code.remove_own_locks(self.context, self.repository)
        remote, head = self._checkout.remote(), self._checkout.head()
        own = RollbackBranch(self.context, remote)
        if self._for_pull_request:
            self.reporter.open_cleanup(self.cleanup, f"open a pull request from {own} into {remote}: {own.until_merged}")
            return own.push(head)
        tip = remote.tip()
        try:
            if tip != head:
                remote.push(head, replacing=self.approved.get("replaces", ""))
        except PushRefused as error:
            raise PushRefused(
                f"{error.what.rstrip('.')}.",
                where=error.where,
                state=f"{error.state} It still has the feature; the reverted code runs.",
                safe_next=f"Push the branch {own} for a pull request instead: the same command with --choose PUSH=branch, "
                "under the same approval. Or let somebody with the right push, and run the step again.",
                offers="PUSH=branch",
            ) from error
        return {"remote": str(remote), "was": tip, "commit": head}

    def verify(self) -> list[Result]:
        """Check that the remote branch has the checked-out commit, without the feature. Read-only."""
        found = self.probe()
        if found.effect is Effect.DONE and self._for_pull_request and not self._is_merged():
            own = RollbackBranch(self.context, self._checkout.remote())
            return [
                self.result("pushed", "The remote has the reverted code, for a pull request", Status.PASS, own.until_merged)
            ]
        status = Status.PASS if found.effect is Effect.DONE else Status.FAIL
        return [self.result("pushed", "The remote no longer has the feature", status, found.detail)]

    def undo(self) -> Facts:
        """Bring the feature back: push a revert of the reverts, or after a reset the previous commit. Changes the remote.

        Raises:
            PreconditionError: Somebody has pushed since a reset, or this run pushed nothing.
        """
        left = self.left
        if why := self.cannot_undo():
            raise PreconditionError(
                f"The push of {self.repository} cannot be undone: {why}.",
                where=str(self.path),
                state="Nothing was pushed.",
                safe_next="Inspect the remote, and bring the feature back there with your own commit.",
            )
        remote = self._checkout.remote()
        if "branch" in left:
            RollbackBranch(self.context, remote).delete(left["commit"])
            self.reporter.close_cleanup(self.cleanup)
            return {"deleted": left["branch"]}
        tip, clone = self._looked(remote)
        if not clone.holds(left["was"], tip):
            remote.push(left["was"], replacing=left["commit"])
            return {"pushed": left["was"]}
        clone.git("checkout", "--quiet", "--detach", tip)
        ours = self._made() & set(clone.between(left["was"], left["commit"]))
        for commit in clone.log(left["commit"]):
            if commit.id in ours:
                clone.revert(commit, self.context.state.author, self.context.state.began)
        remote.push(clone.head(), made_in=clone.path)
        return {"pushed": clone.head()}

    def cannot_undo(self) -> str:
        """Report that somebody has pushed since, or that this run pushed nothing; "" for neither. Read-only."""
        left = self.left
        remote = self._checkout.remote()
        if "branch" in left:
            tip = RollbackBranch(self.context, remote).remote.tip()
            return "" if tip in ("", left["commit"]) else f"{left['branch']} has later pushes: it is at {tip[:12]}"
        tip, clone = self._looked(remote)
        if "was" not in left or not clone.holds(left["commit"], tip):
            return "the remote is not at this run's commit"
        if not left["was"]:
            return f"{remote} did not exist before this run"
        if not clone.holds(left["was"], tip) and tip != left["commit"]:
            return f"{remote} has later pushes: it is at {tip[:12]}"
        return ""

    def _made(self) -> set[str]:
        """Return the ids of the commits in which this run reverted the feature. Read-only."""
        for name, spec in self.context.plan.steps.items():
            left = self.context.state.step(name).outcome
            if isinstance(spec, RevertingStep) and spec.repository == self.repository and "before" in left:
                return set(self._checkout.between(left["before"], left["commit"]))
        return set()

    def _would(self, remote: Remote, tip: str, clone: Checkout, old: old_code.OldCode) -> list[str]:
        if not tip:
            return [f"create the branch {remote} at {old.commit[:12]}"]
        if lost := clone.between(old.head, tip):
            return [f"{STOP}{remote} {MOVED} ({len(lost)}, up to {tip[:12]}). {_pull(remote)}"]
        if clone.holds(tip, old.commit):
            go = len(clone.between(tip, old.commit))
            return [f"push {go} commits to {remote}: {tip[:12]}..{old.commit[:12]}, forward only"]
        return [f"replace {tip[:12]} on {remote} with {old.commit[:12]}, only if it is unchanged (--force-with-lease)"]

    def _taken_back(self) -> Found:
        head = self._checkout.head()
        approved = self.approved
        if head != approved.get("commit", head) or old_code.live_commits(self.context, self.repository):
            return Status.FAIL, f"{self.repository} is at {head[:12]}, which is not the reverted code"
        return Status.PASS, f"{self.repository} is at {head[:12]}, without the feature"

    def _unmoved(self) -> Found:
        remote, head = self._checkout.remote(), self._checkout.head()
        try:
            tip, clone = self._looked(remote)
        except AdapterError as error:
            return Status.UNKNOWN, f"the remote does not answer: {error.what}"
        clone.bring(self.path, head)
        if self._for_pull_request:
            RollbackBranch(self.context, remote).remote.try_push(head, self.path)
            return Status.PASS, f"{remote} answers; only its own rules can still refuse {name_of(self.context)}"
        if tip and not clone.holds(tip, head) and tip != self.approved.get("replaces"):
            return Status.FAIL, f"{remote} {MOVED}: it is at {tip[:12]}. {_pull(remote)}"
        old = old_code.prepared(self.context, self.repository)
        clone.bring(old.path, old.commit)
        remote.try_push(old.commit, old.path, replacing="" if clone.holds(tip or old.commit, old.commit) else tip)
        return Status.PASS, f"{remote} is at {tip[:12] or 'nothing'}; only its own rules can still refuse the push"


def _pull(remote: Remote) -> str:
    return f"Before the code is reverted: `git pull --ff-only`; afterwards: merge {remote} by hand, and push."
