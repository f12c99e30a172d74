"""What can be in the way of taking code back in a work tree, each told with a way on."""

from dataclasses import dataclass
from pathlib import Path

from runbook_lib.adapters.git.command import Git

UNFINISHED = {
    "MERGE_HEAD": ("merge", "git merge --abort"),
    "REVERT_HEAD": ("revert", "git revert --abort"),
    "CHERRY_PICK_HEAD": ("cherry-pick", "git cherry-pick --abort"),
    "rebase-merge": ("rebase", "git rebase --abort"),
    "rebase-apply": ("rebase", "git rebase --abort"),
}
MOST = 5  # files that a message names


@dataclass(frozen=True)
class Obstacle:
    """What is in the way, and what is safe to do about it."""

    what: str
    way_on: str


def obstacle(git: Git) -> Obstacle | None:
    """The first thing that is in the way of taking code back here, the most basic first. Read-only."""
    return _not_a_work_tree(git) or _busy(git) or _adrift(git) or _dirty(git)


def _not_a_work_tree(git: Git) -> Obstacle | None:
    if not git.path.is_dir():
        return Obstacle(f"There is no directory {git.path}.", "Mend the path in the target file.")
    top = git.says("rev-parse", "--show-toplevel")
    if not top:
        said = git.attempt("rev-parse", "--show-toplevel").errors.strip().splitlines()
        return Obstacle(
            f"{git.path} is not the work tree of a git repository ({said[0] if said else 'git says nothing of it'}).",
            "Mend the path in the target file; it is the checkout that is deployed from.",
        )
    if Path(top) != git.path.resolve():
        return Obstacle(
            f"{git.path} is a folder inside the work tree {top}, whose commits may hold more than it.",
            f"Name {top} in the target file, and one repository in the plan for all that is in it.",
        )
    return None


def _busy(git: Git) -> Obstacle | None:
    directory = Path(git.says("rev-parse", "--absolute-git-dir"))
    for name, (what, abort) in UNFINISHED.items():
        if (directory / name).exists():
            return Obstacle(
                f"A {what} was begun in {git.path} and not ended.", f"End it there, or give it up with `{abort}`."
            )
    if (directory / "index.lock").exists():
        return Obstacle(
            f"Another git works in {git.path}, or one was killed there: {directory / 'index.lock'} is there.",
            "Make sure that no git runs there; then remove that file.",
        )
    return None


def _adrift(git: Git) -> Obstacle | None:
    if git.says("rev-parse", "--is-shallow-repository") == "true":
        return Obstacle(
            f"{git.path} is a shallow clone: commits of the feature may lie before its end.",
            "Complete it with `git fetch --unshallow`.",
        )
    if not git.says("symbolic-ref", "--quiet", "HEAD"):
        head = git.says("rev-parse", "--short", "HEAD")
        return Obstacle(
            f"{git.path} is on no branch (detached at {head or 'nothing'}): what is committed there belongs to none.",
            "Check out the branch that is deployed from, as with `git switch main`, or make one with `git switch -c NAME`.",
        )
    return None


def _dirty(git: Git) -> Obstacle | None:
    changed = [line[3:] for line in git("status", "--porcelain", "--untracked-files=no").output.splitlines()]
    if not changed:
        return None
    more = f" and {len(changed) - MOST} more" if len(changed) > MOST else ""
    return Obstacle(
        f"{git.path} has uncommitted changes: {', '.join(changed[:MOST])}{more}.",
        "Commit or stash them; they would otherwise be built into the old version.",
    )
