"""A work tree with its repository."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from runbook_lib.adapters.git.command import Git
from runbook_lib.adapters.git.obstacle import obstacle
from runbook_lib.adapters.git.remote import Remote, followed_by
from runbook_lib.adapters.processes import Processes
from runbook_lib.errors import PreconditionError

_FIELD, _RECORD = "\x1f", "\x1e"


@dataclass(frozen=True)
class Commit:
    """A commit: its full id, its parents' ids, and its message."""

    id: str
    parents: tuple[str, ...]
    subject: str
    body: str

    @property
    def is_merge(self) -> bool:
        """Whether it has more than one parent."""
        return len(self.parents) > 1


@dataclass(frozen=True)
class Checkout:
    """A work tree with its repository."""

    path: Path
    processes: Processes

    @property
    def git(self) -> Git:
        """git in this work tree."""
        return Git(self.path, self.processes)

    def require_ready(self) -> None:
        """See that code can be taken back here. Read-only.

        Raises:
            PreconditionError: There is no such work tree, it is dirty or on no branch, or something was left unfinished.
        """
        if found := obstacle(self.git):
            raise PreconditionError(
                found.what, where=str(self.path), state="The checkout was not touched.", safe_next=found.way_on
            )

    def head(self) -> str:
        """The id of the commit that is checked out. Read-only."""
        return self.git("rev-parse", "HEAD").output.strip()

    def remote(self) -> Remote:
        """The remote branch that the checked out branch follows; PreconditionError where it follows none. Read-only."""
        return followed_by(self.git)

    def changed_files(self) -> list[str]:
        """Tracked files that differ from the commit checked out. Read-only."""
        return self.git("status", "--porcelain", "--untracked-files=no").output.splitlines()

    def log(self, tip: str = "HEAD", most: int | None = None) -> list[Commit]:
        """Every commit that `tip` holds, newest first, or the `most` newest. Read-only."""
        form = _FIELD.join(("%H", "%P", "%s", "%b")) + _RECORD
        limit = [f"--max-count={most}"] if most else []
        records = self.git("log", "--topo-order", f"--format={form}", *limit, tip, "--").output.split(_RECORD)
        fields = (record.strip("\n").split(_FIELD) for record in records if record.strip())
        return [Commit(i, tuple(p.split()), s, b) for i, p, s, b in fields]

    def resolved(self, name: str) -> str:
        """The full id of a commit, "" where there is none of that name. Read-only."""
        return self.git.says("rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}")

    def between(self, older: str, newer: str) -> list[str]:
        """The ids of the commits that `newer` holds and `older` does not, newest first. Read-only."""
        return self.git("rev-list", "--topo-order", newer, f"^{older}", "--").output.split()

    def holds(self, commit: str, tip: str = "HEAD") -> bool:
        """Whether a commit is among those that `tip` holds. Read-only."""
        return self.git.attempt("merge-base", "--is-ancestor", commit, tip).exit_code == 0

    def brought_by(self, merge: Commit) -> set[str]:
        """The ids of the commits that a merge brought to its first parent. Read-only."""
        return set(self.between(merge.parents[0], merge.id))

    def scratch(self, path: Path) -> Checkout:
        """A clone at `path` that shares this one's objects and writes nothing into it. Read-only."""
        self.git("clone", "--quiet", "--shared", "--no-tags", str(self.path), str(path))
        return Checkout(path, self.processes)

    def revert(self, commit: Commit, by: str, at: datetime) -> bool:
        """Commit the reverse of a commit, a merge by its first parent. Changes this work tree.

        Returns whether anything of it was left to take back.

        Raises:
            PreconditionError: It conflicts with later work; the work tree is as it was.
        """
        mainline = ["--mainline", "1"] if commit.is_merge else []
        done = self.git.attempt(*_identity(by), "revert", "--no-edit", *mainline, commit.id, at=at)
        if done.exit_code == 0:
            return True
        files = self.git("diff", "--name-only", "--diff-filter=U").output.splitlines()
        nothing_left = not files and not self.changed_files() and "nothing to commit" in done.output
        self.git.attempt("revert", "--abort")
        if nothing_left:
            return False
        raise PreconditionError(
            f"Taking back {commit.id[:12]} ({commit.subject}) conflicts with later work in: "
            f"{', '.join(files) or done.errors.strip()}.",
            where=str(self.path),
            state="The deployed checkout was not touched.",
            safe_next="Resolve it by hand on a branch, or take the later commit back too, and run the preview again.",
        )

    def deleted_below(self, since: str, directory: str) -> list[str]:
        """The files below a directory that are there at `since` and gone at HEAD. Read-only."""
        return self.git("diff", "--name-only", "--diff-filter=D", since, "HEAD", "--", directory).output.splitlines()

    def keep(self, files: Sequence[str], since: str, message: str, by: str, at: datetime) -> None:
        """Commit some files as they were at `since`. Changes this work tree."""
        self.git("checkout", since, "--", *files)
        self.git(*_identity(by), "commit", "--quiet", f"--message={message}", at=at)

    def bring(self, source: Path, commit: str) -> None:
        """Have a commit of another repository in this one, where it is not yet. Changes the repository's objects only."""
        if not self.resolved(commit):
            self.git("fetch", "--quiet", "--no-tags", str(source), commit)

    def forward_to(self, commit: str) -> None:
        """Move the branch forward to a commit, without a merge. Changes this work tree.

        Raises:
            AdapterError: That commit does not follow from HEAD, or files stand in the way; nothing was changed.
        """
        self.git("merge", "--quiet", "--ff-only", commit)

    def back_to(self, commit: str) -> None:
        """Move the branch to a commit, keeping local changes; refuses where they clash. Changes this work tree."""
        self.git("reset", "--quiet", "--keep", commit)

    def half_way_to(self, commit: str) -> bool:
        """Whether a move to `commit` was cut short: every changed file is as it is there already. Read-only."""
        changed = set(self.git("diff", "--name-only", "HEAD").output.splitlines())
        if not changed or not self.resolved(commit):
            return False
        return not changed & set(self.git("diff", "--name-only", commit).output.splitlines())

    def end_move_to(self, commit: str) -> None:
        """End a move that was cut short, as `half_way_to` tells it. Changes this work tree."""
        self.git("reset", "--quiet", "--hard", commit)

    def keep_ref(self, name: str, commit: str) -> None:
        """Have a name hold a commit, so that it cannot get lost. Changes the repository's references only."""
        self.git("update-ref", name, commit)

    def drop_ref(self, name: str) -> None:
        """Take a name away, where it is there. Changes the repository's references only."""
        self.git("update-ref", "-d", name)

    def files(self, directory: str) -> list[str]:
        """The names of tracked files below a directory at HEAD. Read-only."""
        return self.git("ls-files", "--", directory).output.splitlines()


def _identity(by: str) -> list[str]:
    return ["-c", f"user.name={by}", "-c", "user.email=runbook@localhost", "-c", "commit.gpgsign=false"]
