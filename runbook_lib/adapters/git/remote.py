"""The branch on a remote that a checkout's own branch follows."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from runbook_lib.adapters.git.command import Git
from runbook_lib.errors import PreconditionError


@dataclass(frozen=True)
class Remote:
    """A branch on a remote, reached with the checkout's own settings and credentials."""

    git: Git
    name: str
    branch: str

    def __str__(self) -> str:
        return f"{self.name}/{self.branch}"

    def tip(self) -> str:
        """The commit that the branch is at there, "" where there is no such branch. Read-only.

        Raises:
            AdapterError: The remote does not answer.
        """
        told = self.git("ls-remote", "--refs", self.name, f"refs/heads/{self.branch}").output.split()
        return told[0] if told else ""

    def bring(self, tip: str, into: Path) -> None:
        """Have the objects of `tip` in the clone `into`; the checkout itself is only read. Read-only.

        Raises:
            AdapterError: The remote does not answer.
        """
        clone = Git(into, self.git.processes)
        if not tip or clone.attempt("cat-file", "-e", f"{tip}^{{commit}}").exit_code == 0:
            return
        quiet = ("--quiet", "--no-tags", "--no-write-fetch-head", "--no-auto-maintenance", "--no-recurse-submodules")
        self.git(
            *("fetch", *quiet, "--refmap=", self.name, f"refs/heads/{self.branch}"),
            env={
                "GIT_OBJECT_DIRECTORY": str(into / ".git" / "objects"),
                "GIT_ALTERNATE_OBJECT_DIRECTORIES": str(self._objects()),
            },
        )

    def push(self, commit: str, *, replacing: str = "", made_in: Path | None = None) -> None:
        """Move the branch there to `commit`, forward only; `replacing` names the one commit that it may replace instead.

        Changes the remote.

        Args:
            made_in: The clone that holds the commit, where the checkout does not.

        Raises:
            AdapterError: The remote does not answer, or refuses; it is as it was.
        """
        lease = [f"--force-with-lease=refs/heads/{self.branch}:{replacing}"] if replacing else []
        env = {"GIT_ALTERNATE_OBJECT_DIRECTORIES": str(made_in / ".git" / "objects")} if made_in else None
        self.git("push", "--quiet", *lease, self.name, f"{commit}:refs/heads/{self.branch}", env=env)

    def _objects(self) -> Path:
        return Path(self.git.path, self.git("rev-parse", "--git-common-dir").output.strip(), "objects").resolve()


def followed_by(git: Git) -> Remote:
    """The remote branch that the checked out branch follows. Read-only.

    Raises:
        PreconditionError: It follows none.
    """
    branch = git.says("symbolic-ref", "--quiet", "--short", "HEAD")
    name = git.says("config", "--get", f"branch.{branch}.remote")
    merge = git.says("config", "--get", f"branch.{branch}.merge")
    if not (branch and merge and name not in ("", ".") and git.says("remote", "get-url", name)):
        raise PreconditionError(
            f"The branch {branch or 'HEAD'} of {git.path} follows no branch of a remote.",
            where=str(git.path),
            state="Nothing was pushed.",
            safe_next="Name the remote with `git remote add`, and the branch with "
            f"`git branch --set-upstream-to=REMOTE/{branch or 'BRANCH'}`; or take the push steps out of the plan.",
        )
    return Remote(git, name, merge.removeprefix("refs/heads/"))
