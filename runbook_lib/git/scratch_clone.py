"""A scratch clone, complete with submodules and filtered files, in which git reverts commits.

A filter (Git LFS, git-crypt) stores one content in git and another in the work tree. If the clone cannot get a file, it is
refused.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from runbook_lib.errors import PreconditionError
from runbook_lib.git.checkout import Checkout
from runbook_lib.git.command import BYTES, Git
from runbook_lib.git.obstacle import names, settings_of_clone, some

POINTER = b"version https://git-lfs.github.com/spec/"  # starts a Git LFS pointer
GITLINK = "160000"
AT_ONCE = 500  # files whose attributes one command asks for
STATE = "The checkout was not touched."
EVERY_FILTERED = ":(exclude,attr:!filter)"


def complete(deployed: Checkout, clone: Checkout, *, as_built: bool) -> None:
    """Fill a clone's submodules from the deployed checkout, and check that filtered files are the same in both.

    Files that a build may have changed there (`as_built`) are not compared. Changes the clone.

    Raises:
        PreconditionError: The revert moves a submodule, or some files are not available here.
    """
    before, after = submodules(deployed.git), submodules(clone.git)
    if moved := sorted(path for path in {*before, *after} if before.get(path) != after.get(path)):
        moves = [f"{p} from {before.get(p, 'nothing')[:12]} to {after.get(p, 'nothing')[:12]}" for p in moved]
        raise _refused(
            deployed,
            f"Reverting the feature moves submodules: {', '.join(moves)}. git moves no submodule's files with the branch.",
            "Revert that by a commit of your own on the branch, update the submodule in the checkout, and plan again.",
        )
    _fill(deployed, clone, after)
    if not as_built:
        _require_alike(deployed, clone)


def _fill(deployed: Checkout, clone: Checkout, commits: dict[str, str]) -> None:
    for path, commit in commits.items():
        if not (deployed.path / path / ".git").exists():  # missing in the deployed checkout, so no build needs it
            continue
        there, here = Git(deployed.path / path, deployed.processes), Git(clone.path / path, clone.processes)
        if not there.says("rev-parse", "--verify", "--quiet", f"{commit}^{{commit}}"):
            raise _refused(
                deployed,
                f"The submodule {path} does not have its commit {commit[:12]} in the deployed checkout.",
                f"Fetch it there: git submodule update --init {path}",
            )
        options = ("--quiet", "--shared", "--no-checkout", "--no-tags", "--template=", *settings_of_clone(there))
        there("clone", *options, str(there.path.resolve()), str(here.path))
        here("checkout", "--quiet", "--detach", commit)
        _fill(type(deployed)(there.path, deployed.processes), type(clone)(here.path, clone.processes), submodules(here))


def _require_alike(deployed: Checkout, clone: Checkout) -> None:
    filtered = names(clone.git, "ls-files", "-z", "--", EVERY_FILTERED)
    if not filtered:
        return
    changed = clone.differing(deployed.head(), clone.head())
    pointers = [f for f in filtered if _begins(clone.path / f, POINTER) and not _begins(deployed.path / f, POINTER)]
    unlike = [f for f in filtered if f not in changed and _content(clone.path / f) != _content(deployed.path / f)]
    if pointers or unlike:
        raise _refused(
            deployed,
            f"A scratch clone does not get the content of {some(pointers or unlike)}: a filter "
            f"({', '.join(_filters(clone.git, pointers or unlike))}) keeps that outside git.",
            "Fetch it into the deployed checkout, with the filter's settings (`git lfs fetch --all`, `git-crypt unlock`); "
            "then plan again.",
        )


def _filters(git: Git, files: Sequence[str]) -> list[str]:
    """Return the names of the filters of some files. Read-only."""
    found = set()
    for begin in range(0, len(files), AT_ONCE):
        words = git("check-attr", "-z", "filter", "--", *files[begin : begin + AT_ONCE]).output.split("\0")
        found |= set(words[2::3])
    return sorted(found)


def submodules(git: Git) -> dict[str, str]:
    """Map each submodule in the index to its recorded commit. Read-only."""
    return dict(_gitlinks(git("ls-files", "--stage", "-z").output))


def _gitlinks(listed: str) -> Iterator[tuple[str, str]]:
    for entry in listed.split("\0"):
        about, _, path = entry.partition("\t")
        if about.startswith(GITLINK):
            yield path, about.split()[1]


def _content(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None


def _begins(path: Path, with_: bytes) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(with_)) == with_


def _refused(deployed: Checkout, what: str, way_on: str) -> PreconditionError:
    return PreconditionError(what, where=str(deployed.path), state=STATE, safe_next=way_on)


PLAIN = (  # what a user's settings must not change
    *("-c", "core.hooksPath=/dev/null", "-c", "commit.gpgSign=false", "-c", "rerere.enabled=false"),
    *("-c", "revert.reference=false", "-c", "merge.renames=true", "-c", "merge.directoryRenames=false"),
    *("-c", "merge.conflictStyle=merge", "-c", "advice.mergeConflict=false", "-c", "core.editor=true"),
)
Solve = Callable[[str, str | None, str | None], str | None]  # base, ours, theirs: the merged text, or None if there is none


@dataclass(frozen=True)
class Conflict:
    """Files in which a revert conflicts with later work."""

    commit: str
    files: list[str]


class Reverts:
    """Reverts commits in the work tree of a scratch clone."""

    def __init__(self, git: Git, by: str, at: datetime, solve: Solve) -> None:
        self.git = git
        self.identity = (*PLAIN, "-c", f"user.name={by}", "-c", "user.email=runbook@localhost")
        self.at = at
        self.solve = solve
        self.empty: list[str] = []  # commits that left nothing to revert

    def revert(self, commits: Sequence[str], *, merges: bool) -> Conflict | None:
        """Revert and commit each, merges by their first parent; stop at the first conflict. Changes the clone."""
        mainline = ["--mainline", "1"] if merges else []
        done = self.git.attempt(*self.identity, "revert", "--no-edit", *mainline, *commits, at=self.at)
        for _ in commits:
            if done.exit_code == 0:
                return None
            at = self.git.says("rev-parse", "--verify", "--quiet", "REVERT_HEAD")
            unmerged = self._unmerged()
            if not at and not unmerged:
                done.require()
            if not unmerged and not self.git("diff", "--cached", "--name-only").output:
                self.empty.append(at)
                done = self.git.attempt(*self.identity, "revert", "--skip", at=self.at)
                continue
            if left := [path for path, stages in unmerged.items() if not self._solved(path, stages)]:
                self.git.attempt("revert", "--abort")
                return Conflict(at, [path.encode(BYTES).decode(errors="replace") for path in left])
            done = self.git.attempt(*self.identity, "revert", "--continue", at=self.at)
        done.require()
        return None

    def _unmerged(self) -> dict[str, dict[str, tuple[str, str]]]:
        found: dict[str, dict[str, tuple[str, str]]] = {}
        for line in self.git("ls-files", "--unmerged", "-z", encoding=BYTES).output.split("\0"):
            if line:
                head, path = line.split("\t", 1)
                mode, blob, stage = head.split(" ")
                found.setdefault(path, {})[stage] = (mode, blob)
        return found

    def _solved(self, path: str, stages: dict[str, tuple[str, str]]) -> bool:
        if "1" not in stages or any(not mode.startswith("100") for mode, _ in stages.values()):
            return False
        texts = {s: self.git("cat-file", "blob", blob, encoding=BYTES).output for s, (_, blob) in stages.items()}
        name = path.encode(BYTES).decode("utf-8", "surrogateescape")
        text = self.solve(texts["1"], texts.get("2"), texts.get("3"))
        if text is None:
            return False
        if "2" in stages and "3" in stages:
            blob = self.git("hash-object", "-w", "--stdin", input=text, encoding=BYTES).output.strip()
            mode = stages["2"][0] if stages["2"][0] != stages["1"][0] else stages["3"][0]
            self.git("update-index", "--cacheinfo", f"{mode},{blob},{name}")
            self.git("checkout-index", "--force", "--", name)
        else:
            self.git("rm", "--quiet", "--force", "--", name)
        return True
