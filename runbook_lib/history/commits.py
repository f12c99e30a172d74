"""Find a repository's commits of a feature, and make the code without them: the work of `runbook commits`.

The code is made in two ways: by git's own reverts in a scratch clone, newest first, and by rebuilding the files from who
wrote each line. If they differ, or the feature's work cannot be separated from others', nothing is made and the files are
named.
"""

from __future__ import annotations

import tempfile
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from runbook_lib.errors import ParametersError
from runbook_lib.git import Checkout, Commit
from runbook_lib.git.command import differences
from runbook_lib.git.scratch_clone import Reverts
from runbook_lib.history.decision import Decision, Finding, Refusal, Status, TakeBack, listed, shown
from runbook_lib.history.graph import Graph
from runbook_lib.history.looking import Answers, names, read
from runbook_lib.history.provenance import hunks, merged
from runbook_lib.system import temporary
from runbook_lib.system.processes import LocalProcesses


def take_back(checkout: Checkout, feature: str, tip: str, answers: Answers | None = None) -> TakeBack:
    """Find the feature's commits at a tip, and decide the action for each. Read-only."""
    given = answers or Answers()
    graph = Graph(checkout.log(tip))
    named = names(graph, feature, given, lambda name: _elsewhere(checkout, name))
    if not named.all:
        return TakeBack(graph.log[0].id)
    return Decision(checkout, read(checkout, graph, named), given).made()


def make(found: TakeBack, clone: Checkout, by: str, at: datetime) -> tuple[list[str], Refusal | None]:
    """Revert the commits in a scratch clone at the tip, and compare with the rebuilt files. Changes the clone.

    Returns the commits that left nothing to revert, and a refusal if the result must not be used.
    """
    order = [commit.id for commit in found.reverts]
    merges, put_off = any(c.is_merge for c in found.reverts), set[str]()
    reverts = Reverts(clone.git, by, at, _solved)
    while order and (conflict := reverts.revert(order, merges=merges)):
        if conflict.commit in put_off:
            subject = next((c.subject for c in found.reverts if c.id == conflict.commit), "")
            because = f"Reverting {conflict.commit[:12]} ({subject}) conflicts with later work in: {listed(conflict.files)}."
            return [], Refusal(because, conflict.files)
        put_off.add(conflict.commit)  # commits of other branches may have to be reverted first
        order = [*(i for i in order if i != conflict.commit), conflict.commit]
        reverts = Reverts(clone.git, by, at, _solved)
    made = differences(clone.git, found.tip, "HEAD")
    expected = found.rebuilt.files
    if unlike := sorted(path for path in {*made, *expected} if made.get(path, "") != expected.get(path, "")):
        files = [shown(path) for path in unlike]
        return [], Refusal(f"git's reverts and the rebuilt history differ in: {listed(files)}.", files)
    return reverts.empty, None


def _elsewhere(checkout: Checkout, name: str) -> Commit | None:
    full = checkout.resolved(name)
    return checkout.log(full, most=1)[0] if full else None


def _solved(base: str, ours: str | None, theirs: str | None) -> str | None:
    """Merge line by line what git calls a conflict; return the text, "" for a deleted file, None if it conflicts here."""
    if ours is not None and theirs is not None:
        text = merged(base.split("\n"), ours.split("\n"), theirs.split("\n"))
        return None if text is None else "\n".join(text)
    if ours is None:
        return ""
    left = hunks(base.split("\n"), ours.split("\n"))
    return "" if all(first == end for _, _, first, end in left) else None


AUTHOR = "runbook"
WIDTH = 100
EXIT_CODES = {Status.READY: 0, Status.NOTHING: 0, Status.ASK: 4, Status.REFUSED: 3}
SAYS = {
    Status.READY: "The feature can be taken back.",
    Status.NOTHING: "Nothing of the feature is in effect: there is nothing to take back.",
    Status.ASK: "First decide whether these commits are the feature's.",
    Status.REFUSED: "The feature cannot be taken back automatically.",
}


@dataclass(frozen=True)
class Report:
    """The findings, the id of the resulting commit ("" if none was made), and the branch that holds it."""

    found: TakeBack
    status: Status
    result: str
    refused: Refusal | None
    branch: str

    @property
    def exit_code(self) -> int:
        """0 if ready or nothing to do, 3 if refused, 4 if somebody must decide."""
        return EXIT_CODES[self.status]

    def as_json(self) -> dict[str, Any]:
        """Return it as plain values."""
        return {
            "status": str(self.status),
            "commits": [_plain(f) for f in self.found.findings],
            "asks": [{"id": f.commit.id, "subject": f.commit.subject, "why": f.why} for f in self.found.asks],
            "result": self.result or None,
            "at": self.found.tip,
            "branch": self.branch or None,
            "refused_because": self.refused.because if self.refused else None,
            "files": list(self.refused.files) if self.refused else [],
        }

    def lines(self) -> Iterator[str]:
        """Yield it as lines for a person, each at most WIDTH characters."""
        for finding in self.found.findings:
            head = f"{finding.commit.id[:12]}  {finding.action:<16}  {finding.found_by:<11}  "
            yield head + textwrap.shorten(finding.commit.subject, WIDTH - len(head), placeholder="…")
            yield from textwrap.wrap(finding.why, WIDTH, initial_indent=" " * 14, subsequent_indent=" " * 14)
        if self.found.findings:
            yield ""
        yield SAYS[self.status]
        if self.refused:
            yield from textwrap.wrap(self.refused.because, WIDTH)
        for finding in self.found.asks:
            yield f"  --include {finding.commit.id[:12]}  or  --exclude {finding.commit.id[:12]}"
        if self.result:
            yield f"Result: {self.result}" + (f" (branch {self.branch})" if self.branch else "")


def report(
    repository: Path,
    feature: str,
    *,
    at: str = "HEAD",
    branch: str = "",
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
) -> Report:
    """Find a feature's commits and make the code without them in a scratch clone; the checkout is only read.

    With a `branch`, adds that branch to the repository, at the result; work tree and index are unchanged.

    Raises:
        ParametersError: The repository or commit does not exist, or the branch already does.
    """
    if not feature.strip():
        raise _wrong("The feature's id is empty.", repository, "Name it with --feature, as in its commits' messages.")
    checkout = _opened(repository)
    tip = _require(checkout, at, branch)
    answers = Answers(
        {commit: "it was named with --include" for commit in _commits(checkout, include)}, _commits(checkout, exclude)
    )
    if both := [commit for commit in answers.include if commit in answers.exclude]:
        raise _wrong(f"{both[0][:12]} is both included and excluded.", repository, "Name it once.")
    if checkout.git.says("rev-parse", "--is-shallow-repository") == "true":
        refusal = Refusal("This is a shallow clone: commits of the feature may be missing. Run `git fetch --unshallow`.")
        return Report(TakeBack(tip), Status.REFUSED, "", refusal, "")
    found = take_back(checkout, feature, tip, answers)
    status, refused, result = found.status, found.refused if found.status is Status.REFUSED else None, ""
    with tempfile.TemporaryDirectory(prefix="commits-", dir=temporary.root(), ignore_cleanup_errors=True) as directory:
        clone = checkout
        if status is Status.NOTHING:
            result = tip
        elif status is Status.READY:
            clone = checkout.scratch(Path(directory, "clone"), tip)
            when = datetime.fromisoformat(checkout.git("show", "--no-patch", "--format=%cI", tip).output.strip())
            _, refused = make(found, clone, AUTHOR, when)
            status, result = (Status.REFUSED, "") if refused else (status, clone.head())
        if branch and result:
            checkout.bring(clone.path, result)
            checkout.git("update-ref", "-m", "runbook commits", f"refs/heads/{branch}", result, "0" * len(result))
    return Report(found, status, result, refused, branch if result else "")


def _plain(finding: Finding) -> dict[str, str]:
    return {
        "id": finding.commit.id,
        "subject": finding.commit.subject,
        "found_by": str(finding.found_by),
        "action": str(finding.action),
        "why": finding.why,
    }


def _opened(path: Path) -> Checkout:
    """Return the whole repository that a path is in, bare or with a work tree."""
    if not path.is_dir():
        raise _wrong(f"There is no directory {path}.", path, "Name the path of a git repository with --repository.")
    given = Checkout(path, LocalProcesses())
    bare = given.git.says("rev-parse", "--is-bare-repository") == "true"
    asked = given.git.attempt("rev-parse", "--absolute-git-dir" if bare else "--show-toplevel")
    if asked.exit_code:
        because = (asked.errors.strip().splitlines() or ["git gives no reason"])[0]
        raise _wrong(f"{path} is not a git repository ({because}).", path, "Name the path of one with --repository.")
    return Checkout(Path(asked.output.rstrip("\n")), given.processes)


def _require(checkout: Checkout, at: str, branch: str) -> str:
    """Return the commit to look at."""
    tip = checkout.resolved(at)
    if not tip:
        raise _wrong(
            f"There is no commit {at} in this repository.", checkout.path, "Name a branch, tag or commit with --at."
        )
    if branch and checkout.git.attempt("check-ref-format", "--branch", branch).exit_code:
        raise _wrong(f"{branch!r} is not a valid branch name.", checkout.path, "Choose another name.")
    if branch and checkout.git.says("rev-parse", "--verify", "--quiet", f"refs/heads/{branch}"):
        raise _wrong(f"The branch {branch} exists already.", checkout.path, "Choose another name, or delete it first.")
    return tip


def _commits(checkout: Checkout, names: Sequence[str]) -> list[str]:
    found = {name: checkout.resolved(name) for name in names}
    if unknown := [name for name, full in found.items() if not full]:
        raise _wrong(f"There is no commit {unknown[0]} in this repository.", checkout.path, "Name commits by their ids.")
    return list(found.values())


def _wrong(what: str, where: Path, way_on: str) -> ParametersError:
    return ParametersError(what, where=str(where), state="Nothing was changed.", safe_next=way_on)
