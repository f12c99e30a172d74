"""What the runbook asks of git, through its own command line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from runbook_lib.adapters.processes import Completed, Processes
from runbook_lib.errors import PreconditionError

TIMEOUT = 120.0
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

    def head(self) -> str:
        """The id of the commit that is checked out. Read-only."""
        return self._git("rev-parse", "HEAD").output.strip()

    def changed_files(self) -> list[str]:
        """Tracked files that differ from the commit checked out. Read-only."""
        return self._git("status", "--porcelain", "--untracked-files=no").output.splitlines()

    def log(self) -> list[Commit]:
        """Every commit that HEAD holds, newest first. Read-only."""
        form = _FIELD.join(("%H", "%P", "%s", "%b")) + _RECORD
        records = self._git("log", "--topo-order", f"--format={form}").output.split(_RECORD)
        fields = (record.strip("\n").split(_FIELD) for record in records if record.strip())
        return [Commit(i, tuple(p.split()), s, b) for i, p, s, b in fields]

    def brought_by(self, merge: Commit) -> set[str]:
        """The ids of the commits that a merge brought to its first parent. Read-only."""
        return set(self._git("rev-list", f"{merge.parents[0]}..{merge.id}").output.split())

    def scratch(self, path: Path) -> Checkout:
        """A clone at `path` that shares this one's objects and writes nothing into it. Read-only."""
        self._git("clone", "--quiet", "--shared", "--no-tags", str(self.path), str(path))
        return Checkout(path, self.processes)

    def revert(self, commit: Commit, by: str, at: datetime) -> None:
        """Commit the reverse of a commit, a merge by its first parent. Changes this work tree.

        Raises:
            PreconditionError: It conflicts with later work; the work tree is as it was.
        """
        mainline = ["--mainline", "1"] if commit.is_merge else []
        done = self._git_try(*_identity(by), "revert", "--no-edit", *mainline, commit.id, at=at)
        if done.exit_code != 0:
            files = self._git("diff", "--name-only", "--diff-filter=U").output.split()
            self._git_try("revert", "--abort")
            raise PreconditionError(
                f"Taking back {commit.id[:12]} ({commit.subject}) conflicts with later work in: "
                f"{', '.join(files) or done.errors.strip()}.",
                where=str(self.path),
                state="The deployed checkout was not touched.",
                safe_next="Resolve it by hand on a branch, or take the later commit back too, and run the preview again.",
            )

    def deleted_below(self, since: str, directory: str) -> list[str]:
        """The files below a directory that are there at `since` and gone at HEAD. Read-only."""
        return self._git("diff", "--name-only", "--diff-filter=D", since, "HEAD", "--", directory).output.splitlines()

    def keep(self, files: Sequence[str], since: str, message: str, by: str, at: datetime) -> None:
        """Commit some files as they were at `since`. Changes this work tree."""
        self._git("checkout", since, "--", *files)
        self._git(*_identity(by), "commit", "--quiet", f"--message={message}", at=at)

    def forward_to(self, source: Path, commit: str) -> None:
        """Move the branch forward to a commit of another repository, without a merge. Changes this work tree.

        Raises:
            AdapterError: That commit does not follow from HEAD, or files stand in the way; nothing was changed.
        """
        self._git("fetch", "--quiet", "--no-tags", str(source), commit)
        self._git("merge", "--quiet", "--ff-only", commit)

    def back_to(self, commit: str) -> None:
        """Move the branch back to a commit, keeping local changes; refuses where they clash. Changes this work tree."""
        self._git("reset", "--quiet", "--keep", commit)

    def files(self, directory: str) -> list[str]:
        """The names of tracked files below a directory at HEAD. Read-only."""
        return self._git("ls-files", "--", directory).output.splitlines()

    def _git(self, *arguments: str, at: datetime | None = None) -> Completed:
        return self._git_try(*arguments, at=at).require()

    def _git_try(self, *arguments: str, at: datetime | None = None) -> Completed:
        environment = {"GIT_TERMINAL_PROMPT": "0", "GIT_EDITOR": "true", "GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C"}
        if at:
            environment |= {"GIT_AUTHOR_DATE": at.isoformat(), "GIT_COMMITTER_DATE": at.isoformat()}
        directory = self.path if self.path.exists() else self.path.parent
        return self.processes.run(["git", *arguments], cwd=directory, timeout=TIMEOUT, env=environment)


def _identity(by: str) -> list[str]:
    return ["-c", f"user.name={by}", "-c", "user.email=runbook@localhost", "-c", "commit.gpgsign=false"]
