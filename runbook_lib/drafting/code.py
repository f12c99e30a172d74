"""Find a feature's commits in each repository of a target, and the files they add."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from runbook_lib.config.target import Target
from runbook_lib.errors import ParametersError, RunbookError
from runbook_lib.git import Checkout, Commit
from runbook_lib.history import commits
from runbook_lib.history.decision import Action, Finding, Status
from runbook_lib.system.processes import LocalProcesses

OWN = (Action.REVERT, Action.REVERT_MERGE, Action.GOES_WITH_MERGE)


@dataclass(frozen=True)
class Code:
    """What a repository holds of a feature."""

    repository: str
    checkout: Checkout
    report: commits.Report
    added: tuple[str, ...]
    """Existing files that the feature added."""

    @property
    def own(self) -> list[Commit]:
        """The feature's commits in the order of the log: newest first."""
        return [each.commit for each in self.report.found.findings if each.action in OWN]

    @property
    def asks(self) -> list[Finding]:
        """The commits that somebody must decide about."""
        return self.report.found.asks

    def knew(self, word: str) -> bool:
        """Whether the code before the feature has a word that the feature's own lines do not. Read-only."""
        below = self.report.found.below
        if not below:
            return True
        return word not in self.words and not self.checkout.git.attempt("grep", "-qwF", "-e", word, below).exit_code

    @cached_property
    def words(self) -> frozenset[str]:
        """The words of the lines the feature adds, minus those of the lines it replaces. Read-only."""
        ids = [commit.id for commit in self.own]
        shown = self.checkout.git("show", "--format=", "--unified=0", "--no-ext-diff", *ids).output if ids else ""
        added, replaced = (
            frozenset(re.findall(r"\w+", "\n".join(line for line in shown.splitlines() if line.startswith(sign))))
            for sign in "+-"
        )
        return added - replaced


def look(target: Target, feature: str) -> tuple[list[Code], list[str]]:
    """Find the feature in each repository with commits of it; note each repository that cannot be read. Read-only."""
    found, notes = list[Code](), list[str]()
    for name, described in target.repositories.items():
        try:
            report = commits.report(Path(described.path), feature)
        except RunbookError as error:
            notes.append(f"{name} could not be read: {error.what}")
            continue
        if report.found.findings and report.status is not Status.NOTHING:
            checkout = Checkout(Path(described.path), LocalProcesses())
            found.append(Code(name, checkout, report, _added(checkout, report)))
        elif report.refused:
            notes.append(f"{name} could not be searched: {report.refused.because}")
    return found, notes


def require(found: list[Code], target: Target, feature: str, notes: list[str]) -> None:
    """Check that there is a feature to draft a plan for. Read-only.

    Raises:
        ParametersError: No repository holds a commit of the feature.
    """
    if not found:
        raise ParametersError(
            f"No repository of the target {target.name} holds a commit that names {feature}"
            + (f": {'; '.join(notes)}" if notes else "."),
            where=", ".join(each.path for each in target.repositories.values()) or f"target {target.name}",
            state="Nothing was written.",
            safe_next="Check the feature's id, or check out the release that has it; `runbook commits` shows what is found.",
        )


def _added(checkout: Checkout, report: commits.Report) -> tuple[str, ...]:
    """Return the files that the feature's commits added and that still exist."""
    ids = [each.commit.id for each in report.found.findings if each.action in OWN]
    if not ids:
        return ()
    words = ("show", "-m", "--first-parent", "--no-renames", "--diff-filter=A", "--name-only", "--format=", *ids)
    added = set(checkout.git(*words).output.splitlines())
    return tuple(path for path in checkout.files(".") if path in added)
