"""The step that pushes code taken back, so that the next deployment does not return the feature."""

from pathlib import Path
from tempfile import mkdtemp

from runbook_lib import oldcode
from runbook_lib.adapters.git import Checkout, Remote
from runbook_lib.errors import AdapterError, PreconditionError
from runbook_lib.results import Result, Status
from runbook_lib.steps.base import Effect, Facts, Preview, Probe
from runbook_lib.steps.code import StepOnRepository

MOVED = "holds commits that this checkout did not have"


class Push(StepOnRepository):
    """Push the deployed checkout's branch to the remote branch that it follows; only a reset replaces anything there."""

    def preview(self) -> Preview:
        """Which commits would go where, and whether the remote has moved. Read-only."""
        old = oldcode.prepare(self.context, self.repository)
        facts: dict[str, object] = {"repository": self.repository, "commit": old.commit, "remote": "none"}
        table: list[list[str]] = []
        undone_by = "pushing a commit that brings the feature back; what was deployed from there meanwhile stays deployed"
        try:
            remote = self._checkout.remote()
            facts["remote"] = str(remote)
            tip, clone = self._looked(remote)
            clone.bring(old.path, old.commit)
            would = self._would(remote, tip, clone, old)
            if replaced := clone.between(old.commit, tip) if tip else []:
                facts["replaces"] = tip
                undone_by = f"pushing {tip[:12]} back, while nobody has pushed since; IRREVERSIBLE for whoever fetched it"
            rows = [(i, "goes there") for i in (clone.between(tip, old.commit) if tip else [])]
            rows += [(i, "leaves the branch there") for i in replaced]
            subjects = {c.id: c.subject for end in (old.commit, tip) if end for c in clone.log(end)}
            table = [[i[:12], subjects.get(i, ""), what] for i, what in rows]
        except PreconditionError as error:
            would = [f"stop: {error.what} {error.safe_next} Only a waiver of {self.name} goes on without."]
        except AdapterError as error:
            would = [f"push {self.repository} to {facts['remote']}, which does not answer now: {error.what}"]
        return Preview(
            self.name,
            self.title,
            would=would,
            undone_by=undone_by,
            estimate=self.spec.estimate,
            facts=facts,
            table=[["commit", "subject", "what becomes of it"], *table] if table else [],
        )

    def probe(self) -> Probe:
        """Whether the remote branch holds what is checked out here, and the feature no more. Read-only."""
        try:
            remote = self._checkout.remote()
            tip, clone = self._looked(remote)
        except (PreconditionError, AdapterError) as error:  # pushing what is there already does no harm
            return Probe(Effect.NOT_DONE, error.what)
        head = self._checkout.head()
        if not tip or not clone.holds(head, tip):
            return Probe(Effect.NOT_DONE, f"{remote} is at {tip[:12] or 'nothing'}, without {head[:12]}")
        if live := oldcode.live_commits(self.context, self.repository, clone, tip):
            return Probe(Effect.NOT_DONE, f"{remote} is at {tip[:12]}, with {len(live)} commits of the feature in effect")
        return Probe(Effect.DONE, f"{remote} is at {tip[:12]}, without the feature")

    def preconditions(self) -> list[Result]:
        """That the code is taken back here and the remote has not moved; a waiver of the step goes on without. Read-only."""
        title = "The code is taken back, and the remote answers and has not moved"
        try:
            status, summary = self._fit()
        except PreconditionError as error:
            status, summary = Status.FAIL, f"{error.what} {error.safe_next}"
        except AdapterError as error:
            status, summary = Status.UNKNOWN, f"the remote does not answer: {error.what}"
        return [Result(self.name, title, status, summary)]

    def apply(self) -> Facts:
        """Push; a commit that is there already is not pushed again. Changes the remote."""
        remote, head = self._checkout.remote(), self._checkout.head()
        tip = remote.tip()
        if tip != head:
            replacing = self.context.approved.get(self.name, {}).get("replaces", "")
            remote.push(head, replacing=replacing)
        return {"remote": str(remote), "was": tip, "commit": head}

    def verify(self) -> list[Result]:
        """That the remote branch holds what is checked out here, and the feature no more. Read-only."""
        found = self.probe()
        status = Status.PASS if found.effect is Effect.DONE else Status.FAIL
        return [self.result("pushed", "The remote no longer holds the feature", status, found.detail)]

    def undo(self) -> Facts:
        """Push what brings the feature back: a revert of the reverts, or after a reset what was there. Changes the remote.

        Raises:
            PreconditionError: Somebody pushed since a reset, or this run pushed nothing.
        """
        left = self.context.outcomes.get(self.name, {})
        remote = self._checkout.remote()
        tip, clone = self._looked(remote)
        if "was" not in left or not clone.holds(left["commit"], tip):
            raise self._refused("this run's commit is not what the remote holds", "Look at the remote by hand.")
        if not left["was"]:
            raise self._refused("there was no such branch before", f"Delete {remote} by hand, if it is to go.")
        if not clone.holds(left["was"], tip):
            if tip != left["commit"]:
                raise self._refused(
                    f"{remote} was pushed to since: it is at {tip[:12]}", "Bring the feature back by a commit of your own."
                )
            remote.push(left["was"], replacing=left["commit"])
            return {"pushed": left["was"]}
        clone.git("checkout", "--quiet", "--detach", tip)
        ours = self._made() & set(clone.between(left["was"], left["commit"]))
        for commit in clone.log(left["commit"]):
            if commit.id in ours:
                clone.revert(commit, self.context.opened_by or "runbook", self.context.opened_at)
        remote.push(clone.head(), made_in=clone.path)
        return {"pushed": clone.head()}

    @property
    def _checkout(self) -> Checkout:
        return self.context.checkout(self.repository)

    def _made(self) -> set[str]:
        """The ids of the commits by which this run took the feature back. Read-only."""
        for name, spec in self.context.plan.steps.items():
            left = self.context.outcomes.get(name, {})
            if spec.kind == "revert" and getattr(spec, "repository", "") == self.repository and "before" in left:
                return set(self._checkout.between(left["before"], left["commit"]))
        return set()

    def _looked(self, remote: Remote) -> tuple[str, Checkout]:
        """Where the remote branch is, and a clone that holds it."""
        key = f"clone of {self.repository}"
        if key not in self.context.prepared:
            path = Path(mkdtemp(prefix=f"{self.repository}-remote-", dir=self.context.scratch))
            self.context.prepared[key] = self._checkout.scratch(path)
        clone: Checkout = self.context.prepared[key]
        tip = remote.tip()
        remote.bring(tip, clone.path)
        return tip, clone

    def _would(self, remote: Remote, tip: str, clone: Checkout, old: oldcode.OldCode) -> list[str]:
        if not tip:
            return [f"make the branch {remote} at {old.commit[:12]}"]
        if lost := clone.between(old.head, tip):
            return [f"stop: {remote} {MOVED} ({len(lost)}, up to {tip[:12]}). {_pull(remote)}"]
        if clone.holds(tip, old.commit):
            go = len(clone.between(tip, old.commit))
            return [f"push {go} commits to {remote}: {tip[:12]}..{old.commit[:12]}, forward only"]
        return [f"replace {tip[:12]} on {remote} by {old.commit[:12]}, only if it is still there (--force-with-lease)"]

    def _fit(self) -> tuple[Status, str]:
        remote, head = self._checkout.remote(), self._checkout.head()
        approved = self.context.approved.get(self.name, {})
        if head != approved.get("commit", head) or oldcode.live_commits(self.context, self.repository):
            return Status.FAIL, f"{self.repository} is at {head[:12]}, which is not the code taken back"
        tip, clone = self._looked(remote)
        clone.bring(self.path, head)
        if tip and not clone.holds(tip, head) and tip != approved.get("replaces"):
            return Status.FAIL, f"{remote} {MOVED}: it is at {tip[:12]}. {_pull(remote)}"
        return Status.PASS, f"{remote} is at {tip[:12] or 'nothing'}, and answers"

    def _refused(self, what: str, way_on: str) -> PreconditionError:
        return PreconditionError(
            f"The push of {self.repository} cannot be undone: {what}.",
            where=str(self.path),
            state="Nothing was pushed.",
            safe_next=way_on,
        )


def _pull(remote: Remote) -> str:
    return f"Before the code is taken back: `git pull --ff-only`; after it: merge {remote} by hand, and push."
