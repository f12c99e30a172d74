"""Records on a branch of a git repository that has no history in common with others; no checkout is touched."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from runbook_lib.config.loading import ROOT, like
from runbook_lib.config.plan.steps import Name
from runbook_lib.config.target import RecordsTarget
from runbook_lib.errors import AdapterError
from runbook_lib.git.command import Git, contents
from runbook_lib.system import temporary
from runbook_lib.system.processes import Processes

TRIES = 3  # where somebody else adds a record at the same time
AUTHOR = {
    f"GIT_{who}_{what}": value
    for who in ("AUTHOR", "COMMITTER")
    for what, value in (("NAME", "runbook"), ("EMAIL", "runbook@localhost"))
}


class BranchKeys(RecordsTarget):
    """A branch that keeps the records of rehearsals, a JSON file each; it has no history in common with others."""

    kind: Literal["branch"]
    repository: Annotated[str, Field(min_length=1)]
    """A git repository on this machine."""
    branch: Annotated[str, AfterValidator(like(r"^\w[\w./-]*\Z", "the name of a branch"))] = "runbook-records"
    """The branch; it is made where it is not there."""
    remote: Name | None = None
    """The remote that has the branch: it is asked and pushed to; the repository's own branch if None."""


class BranchRecords:
    """Records on a branch."""

    Keys = BranchKeys

    def __init__(self, keys: BranchKeys, service: str, processes: Processes) -> None:
        self.path = ROOT / keys.repository
        self.git = Git(self.path, processes)
        self.branch, self.remote = keys.branch, keys.remote
        self.ref = f"refs/heads/{keys.branch}"

    def __str__(self) -> str:
        return f"the branch {'/'.join(filter(None, [self.remote, self.branch]))} of {self.path}"

    def add(self, name: str, text: str) -> None:
        """Commit a file to the branch; one that is there stays. Changes the branch, here or on its remote.

        Raises:
            AdapterError: There is no such repository, or the branch cannot be moved.
        """
        blob = self.git("hash-object", "-w", "--stdin", input=text).output.strip()
        for left in reversed(range(TRIES)):
            tip = self._tip()
            if f"{name}.json" in self._blobs(tip):
                return
            commit = self._commit(tip, f"{name}.json", blob)
            moved = self.git.attempt(*self._moves(commit, tip))
            if moved.exit_code == 0:
                return
            if not left:
                moved.require()

    def texts(self) -> Mapping[str, str]:
        """Return every record; none where there is no such branch. Read-only, but for git's objects.

        Raises:
            AdapterError: There is no such repository, or its remote does not answer.
        """
        blobs = self._blobs(self._tip())
        texts = contents(self.git, blobs.values())
        return {
            name.removesuffix(".json"): texts[blob].encode("latin-1").decode("utf-8", "replace")
            for name, blob in blobs.items()
            if name.endswith(".json")
        }

    def _tip(self) -> str:
        if not self.path.is_dir():
            raise AdapterError(
                f"There is no repository {self.path}, which is to keep the records of rehearsals.",
                where=str(self.path),
                state="Nothing was changed; what was rehearsed is unknown.",
                safe_next="Correct records.repository in the target.",
            )
        if self.remote is None:
            self.git("rev-parse", "--git-dir")
            return self.git.says("rev-parse", "--verify", "--quiet", f"{self.ref}^{{commit}}")
        found = self.git("ls-remote", "--refs", self.remote, self.ref).output.split()
        if found and self.git.attempt("cat-file", "-e", f"{found[0]}^{{commit}}").exit_code:
            quiet = ("--quiet", "--no-tags", "--no-write-fetch-head", "--no-auto-maintenance", "--refmap=")
            self.git("fetch", *quiet, self.remote, self.ref)
        return found[0] if found else ""

    def _blobs(self, tip: str) -> dict[str, str]:
        """Return the files of the branch, and git's id of each."""
        listed = self.git("ls-tree", "-z", "--full-tree", tip).output if tip else ""
        split = (line.split("\t", 1) for line in listed.split("\0") if line)
        return {name: head.split(" ")[2] for head, name in split if head.split(" ")[1] == "blob"}

    def _commit(self, tip: str, file: str, blob: str) -> str:
        with temporary.directory() as own:
            index = {"GIT_INDEX_FILE": str(Path(own) / "index")}
            self.git("read-tree", *([tip] if tip else ["--empty"]), env=index)
            self.git("update-index", "--add", "--cacheinfo", f"100644,{blob},{file}", env=index)
            tree = self.git("write-tree", env=index).output.strip()
        parents = ["-p", tip] if tip else []
        return self.git("commit-tree", tree, *parents, "-m", f"Record {file}", env=AUTHOR).output.strip()

    def _moves(self, commit: str, tip: str) -> list[str]:
        """Return the command that moves the branch, refused where it is not at `tip` any more."""
        if self.remote:
            return [
                "push",
                "--quiet",
                "--no-verify",
                f"--force-with-lease={self.ref}:{tip}",
                self.remote,
                f"{commit}:{self.ref}",
            ]
        return ["update-ref", "-m", "runbook: record", self.ref, commit, tip or "0" * len(commit)]
