"""Obstacles to reverting code in a work tree, each with its remedy."""

import os
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from runbook_lib.git.command import Git
from runbook_lib.system.processes import until

LFS = "lfs"
MOST_NAMED = 5  # files that a message lists


def settings_of_clone(git: Git) -> list[str]:
    """Return the `git clone` options that give a clone the same filters. Read-only."""
    listed = git.says("config", "--local", "--null", "--get-regexp", r"^filter\.")
    found = ["=".join(pair.split("\n", 1)) for pair in listed.split("\0") if "\n" in pair]
    storage = Path(git.path, git.says("rev-parse", "--git-common-dir"), LFS).resolve()
    return [f"--config={setting}" for setting in [*found, *([f"lfs.storage={storage}"] if storage.is_dir() else [])]]


def pointers_in_place(git: Git) -> str:
    """Return why a checkout would write Git LFS pointers instead of files, "" if it would not. Read-only."""
    files = names(git, "ls-files", "-z", "--", f":(attr:filter={LFS})")
    if not files:
        return ""
    configured = git.says("config", "--get-regexp", rf"^filter\.{LFS}\.(process|smudge)$")
    if configured and git.says("lfs", "version"):
        return ""
    missing = "is not set up (`git lfs install`)" if git.says("lfs", "version") else "is not installed here"
    return f"{some(files)} are kept with Git LFS, which {missing}: git would write pointers instead of the files"


def names(git: Git, *arguments: str) -> list[str]:
    """Return the names that a git command prints, separated by NUL. Read-only."""
    return [name for name in git(*arguments).output.split("\0") if name]


def some(files: Sequence[str]) -> str:
    """List some of the files, and how many more there are. Pure."""
    more = f" and {len(files) - MOST_NAMED} more" if len(files) > MOST_NAMED else ""
    return f"{', '.join(files[:MOST_NAMED])}{more}"


PROC = Path("/proc")
SUFFIX = ".lock"
DEEP = ("refs", "logs", "reftable", "objects/info")  # searched at any depth; other directories only at the top
SHALLOW = (".", "objects", "objects/pack")
TOP, GIT_DIRECTORY, COMMON_DIRECTORY = "--show-toplevel", "--absolute-git-dir", "--git-common-dir"  # of `git rev-parse`
IS_SHALLOW = "--is-shallow-repository"


@dataclass(frozen=True)
class Lock:
    """A lock file: its creation time (seconds since 1970), and the visible processes that hold it."""

    path: Path
    made: float
    owners: tuple[str, ...]

    def __str__(self) -> str:
        age = max(0, round(time.time() - self.made))
        held = f"held by {', '.join(self.owners)}" if self.owners else "no visible process holds it"
        return f"{self.path} ({_span(age)} old, {held})"


def locks(git: Git) -> list[Lock]:
    """Return every lock file of the repository and of this work tree, the index's first. Read-only."""
    return _locks(git, _answers(git, GIT_DIRECTORY, COMMON_DIRECTORY))


def _locks(git: Git, places: Iterable[str]) -> list[Lock]:
    directories = {Path(git.path, place).resolve() for place in places if place}
    found = {path.resolve() for directory in directories for path in _below(directory)}
    made = {path: mtime for path in found if (mtime := _made(path)) is not None}
    owners = _owners(git, set(made)) if made else {}
    listed = [Lock(path, mtime, tuple(owners.get(path, ()))) for path, mtime in made.items()]
    return sorted(listed, key=lambda lock: (lock.path.name != "index.lock", str(lock.path)))


def _answers(git: Git, *options: str) -> list[str]:
    """Return what `git rev-parse` prints for each option, "" for nothing; one command unless an answer has a line end."""
    said = git.says("rev-parse", *options).split("\n")
    return said if len(said) == len(options) else [git.says("rev-parse", option) for option in options]


def _below(directory: Path) -> Iterator[Path]:
    for place in SHALLOW:
        yield from (directory / place).glob(f"*{SUFFIX}")
    for place in DEEP:
        yield from (directory / place).rglob(f"*{SUFFIX}")


def _made(path: Path) -> float | None:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return None


def _owners(git: Git, paths: set[Path]) -> dict[Path, list[str]]:
    """Return which processes have each file open; a git working in the same work tree holds all of them. Read-only."""
    found: dict[Path, list[str]] = {}
    for process in PROC.glob("[0-9]*"):
        if process.name == str(os.getpid()):
            continue
        with suppress(OSError):
            words = (process / "cmdline").read_bytes().decode(errors="replace").split("\0")
            name = f"pid {process.name} ({' '.join(words).strip()})"
            works_here = os.path.basename(words[0]) == "git" and _is_in(process, git.path)
            held = paths if works_here else paths & _open_files(process)
            for path in held:
                found.setdefault(path, []).append(name)
    return found


def _is_in(process: Path, work_tree: Path) -> bool:
    return Path(os.readlink(process / "cwd")).is_relative_to(work_tree.resolve())


def _open_files(process: Path) -> set[Path]:
    found = set()
    for entry in (process / "fd").iterdir():
        with suppress(OSError):
            found.add(Path(os.readlink(entry)))
    return found


def _span(seconds: int) -> str:
    for size, unit in ((86400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"


UNFINISHED = {
    "MERGE_HEAD": ("merge", "git merge --abort"),
    "REVERT_HEAD": ("revert", "git revert --abort"),
    "CHERRY_PICK_HEAD": ("cherry-pick", "git cherry-pick --abort"),
    "rebase-merge": ("rebase", "git rebase --abort"),
    "rebase-apply": ("rebase", "git rebase --abort"),
}
MOST = 5  # files that a message lists
PATIENCE, INTERVAL = 2.0, 0.1  # seconds to wait for a lock, and between two looks at it


@dataclass(frozen=True)
class Obstacle:
    """An obstacle, and its safe remedy."""

    what: str
    way_on: str


def obstacle(git: Git, ignoring: Collection[Path] = (), *, may_differ: bool = False) -> Obstacle | None:
    """Return the first obstacle to reverting code here, the most basic first. Read-only.

    Args:
        ignoring: Lock files known to be abandoned.
        may_differ: Whether the work tree may differ from HEAD, as during a move.
    """
    if not git.path.is_dir():
        return Obstacle(f"There is no directory {git.path}.", "Fix the path in the target file.")
    top, own, common, is_shallow = _answers(git, TOP, GIT_DIRECTORY, COMMON_DIRECTORY, IS_SHALLOW)
    found = _not_a_work_tree(git, top) or _unfinished(git, Path(own)) or _locked(git, (own, common), ignoring)
    found = found or _adrift(git, is_shallow) or _filtered(git)
    return found or (None if may_differ else _dirty(git))


def _not_a_work_tree(git: Git, top: str) -> Obstacle | None:
    if not top:
        said = git.attempt("rev-parse", "--show-toplevel").errors.strip().splitlines()
        return Obstacle(
            f"{git.path} is not the work tree of a git repository ({said[0] if said else 'git says nothing of it'}).",
            "Fix the path in the target file: it must be the checkout that you deploy from.",
        )
    if Path(top) != git.path.resolve():
        return Obstacle(
            f"{git.path} is a folder inside the work tree {top}, whose commits may cover more than this folder.",
            f"Name {top} in the target file, and one repository in the plan for all of it.",
        )
    return None


def _unfinished(git: Git, directory: Path) -> Obstacle | None:
    for name, (what, abort) in UNFINISHED.items():
        if (directory / name).exists():
            return Obstacle(
                f"A {what} was begun in {git.path} and not finished.", f"Finish it there, or abort it with `{abort}`."
            )
    return None


def _locked(git: Git, places: Collection[str], ignoring: Collection[Path]) -> Obstacle | None:
    found: list[Lock] = []

    def is_free() -> bool:
        found[:] = [lock for lock in _locks(git, places) if lock.path not in ignoring]
        return not found

    if until(is_free, PATIENCE, INTERVAL):  # an editor or a prompt may read the repository just now
        return None
    what = f"Another git runs in {git.path}, or was killed there: {'; '.join(map(str, found[:MOST]))}."
    if any(lock.owners for lock in found):
        return Obstacle(what, "Wait until that process ends, or end it by its pid.")
    files = " ".join(str(lock.path) for lock in found)
    return Obstacle(what, f"Make sure that no git runs there, also not on another machine; then remove it: rm {files}")


def _adrift(git: Git, is_shallow: str) -> Obstacle | None:
    if is_shallow == "true":
        return Obstacle(
            f"{git.path} is a shallow clone: commits of the feature may be missing.",
            "Complete it with `git fetch --unshallow`.",
        )
    if not git.says("symbolic-ref", "--quiet", "HEAD"):
        head = git.says("rev-parse", "--short", "HEAD")
        return Obstacle(
            f"{git.path} is on no branch (detached at {head or 'nothing'}): commits made there belong to none.",
            "Check out the branch that you deploy from, as with `git switch main`, or make one with `git switch -c NAME`.",
        )
    return None


def _filtered(git: Git) -> Obstacle | None:
    if found := pointers_in_place(git):
        return Obstacle(f"{found}.", "Install Git LFS, run `git lfs install` and `git lfs pull` there, and plan again.")
    return None


def _dirty(git: Git) -> Obstacle | None:
    changed = [line[3:] for line in git("status", "--porcelain", "--untracked-files=no").output.splitlines()]
    if not changed:
        return None
    more = f" and {len(changed) - MOST} more" if len(changed) > MOST else ""
    return Obstacle(
        f"{git.path} has uncommitted changes: {', '.join(changed[:MOST])}{more}.",
        "Commit or stash them; otherwise they would be built into the old version.",
    )


CUT = "\ufffd"  # how a character cut in two is decoded


def is_half_moved(git: Git, commit: str) -> bool:
    """Whether the work tree is between HEAD and `commit`, with no other difference from HEAD. Read-only.

    git deletes a file before it writes the new one. So each file that differs from HEAD is missing, or equals the one at
    `commit` or its beginning.
    """
    shown = git.attempt("diff", "--name-status", "--no-renames", "-z", "HEAD", f"{commit}^{{commit}}", "--")
    if shown.exit_code != 0:
        return False
    fields = shown.output.split("\0")
    moving = dict(zip(fields[1::2], fields[::2], strict=False))
    added = {name for name, status in moving.items() if status == "A"}
    changed = _names(git, "diff", "--name-only", "--no-renames", "-z", "HEAD")
    changed |= {name for name in added if os.path.lexists(git.path / name)}
    return bool(changed) and changed <= moving.keys() and all(_is_on_its_way(git, commit, name) for name in changed)


def _is_on_its_way(git: Git, commit: str, name: str) -> bool:
    file = git.path / name
    if not os.path.lexists(file):
        return True
    blob = git.says("rev-parse", "--verify", "--quiet", f"{commit}:{name}")
    if not blob or file.is_dir():
        return False
    if file.is_symlink():
        return git.attempt("cat-file", "blob", blob).output == os.readlink(file)
    if git.says("hash-object", f"--path={name}", "--", str(file)) == blob:
        return True
    begun = file.read_bytes().decode(errors="replace").rstrip(CUT)
    return git.attempt("cat-file", "--filters", f"{commit}:{name}").output.startswith(begun)


def _names(git: Git, *arguments: str) -> set[str]:
    return {name for name in git(*arguments).output.split("\0") if name}
