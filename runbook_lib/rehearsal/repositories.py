"""The git repositories of a stack: made with the same histories and commit ids every time, or cloned at a release."""

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from runbook_lib.config.target import Target
from runbook_lib.documents import load_plan, load_target
from runbook_lib.errors import ParametersError
from runbook_lib.rehearsal.stack_file import (
    Added,
    Branched,
    Cloned,
    Event,
    Fault,
    Made,
    Merged,
    Patched,
    StackFile,
    Tagged,
)
from runbook_lib.rehearsal.workspace import StackError

SETTINGS = {"user.name": "Rehearsal Operator", "user.email": "operator@social-selling.example", "gc.auto": "0"}
MAIN = "main"
TAIL = 10  # lines of what a command printed, the last one first


def build(described: StackFile, root: Path, fault: Fault, environment: Mapping[str, str]) -> None:
    """Create the repositories of a stack below `root`, and build what each has checked out, as the target says it.

    Raises StackError when that fails.
    """
    target = load_target(described.target_file, {**os.environ, **environment})
    for name in described.repositories:
        create(described, name, root / name, fault)
        for file, text in described.ignored.get(name, {}).items():
            (root / name / file).write_text(text)
        build_checkout(target, name, root / name, environment)


def build_checkout(target: Target, name: str, directory: Path, environment: Mapping[str, str]) -> None:
    """Build what a repository has checked out, as the target says it. Changes the checkout.

    Raises StackError when that fails.
    """
    repository = target.repositories[name]
    for command in filter(None, (repository.install, repository.build)):
        carried_out(command, directory, environment)


def put_back(directory: Path, commit: str) -> None:
    """Have a checkout hold a commit, and its remote too. Changes both. Raises StackError when git fails."""
    _git(directory, "reset", "--quiet", "--hard", commit)
    _git(directory, "push", "--quiet", "--force", "origin", MAIN)


def git_says(directory: Path, *arguments: str) -> str:
    """Return what git prints in a repository of a stack. Read-only. Raises StackError when it fails."""
    return _git(directory, *arguments)


def carried_out(command: Sequence[str], directory: Path, environment: Mapping[str, str], where: str = "") -> None:
    """Run a command of a stack to its end. Changes what the command changes.

    Raises StackError when it fails.
    """
    variables = {**os.environ, **environment}
    try:
        done = subprocess.run(command, cwd=directory, env=variables, capture_output=True, text=True, check=False)
        lines = (done.stderr.strip() or done.stdout.strip()).splitlines()[-TAIL:] or [f"it ended with {done.returncode}"]
        said = "" if done.returncode == 0 else "\n".join([lines[-1].strip(), *lines[:-1]])
    except OSError as error:
        said = f"it cannot be started: {error.strerror}"
    if said:
        raise StackError(
            f"{' '.join(command)} failed: {said}",
            where=where or str(directory),
            state="the stack is being brought down",
            safe_next="correct what the command names and start again",
        )


def create(described: StackFile, name: str, directory: Path, fault: Fault) -> None:
    """Make a repository of a stack, or clone it, in `directory`, its remote next to it. Raises StackError when git fails."""
    match described.repositories[name]:
        case Made() as made:
            _make(described, name, made, directory, fault)
        case Cloned():
            _clone(described, name, directory)
            if patch := fault.patches.get(name):
                _spoil(described, directory, patch, fault)


def release(described: StackFile, name: str) -> str:
    """Return the commit at which a repository of a stack is cloned, "" where it is made. Read-only.

    Raises:
        ParametersError: There is none, or its history is not all there.
    """
    cloned = described.repositories[name]
    if not isinstance(cloned, Cloned):
        return ""
    source, where = described.folder / cloned.clone, described.line("repositories", name, "clone")
    found = _asked(source, "rev-parse", "--is-shallow-repository")
    if not found:
        raise ParametersError(
            f"{source} is not a readable git repository.",
            where=where,
            state="Nothing was started.",
            safe_next="Name the folder of a checkout; a relative path starts from the stack's file.",
        )
    if found == "true":
        raise ParametersError(
            f"{source} is a shallow clone: the code from before the release is not in it.",
            where=where,
            state="Nothing was started.",
            safe_next="Fetch all of its history: `git fetch --unshallow`; in CI, set the depth of the checkout to 0.",
        )
    if commit := _asked(source, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{cloned.ref}^{{commit}}"):
        return commit
    raise ParametersError(
        f"{source} has no branch, tag or commit {cloned.ref!r}.",
        where=described.line("repositories", name, "ref"),
        state="Nothing was started.",
        safe_next="Name the release as the repository does, or fetch it there.",
    )


def _clone(described: StackFile, name: str, directory: Path) -> None:
    cloned, commit = described.repositories[name], release(described, name)
    remote = directory.with_name(f"{directory.name}.git")
    _git(remote.parent, "init", "--quiet", "--bare", f"--initial-branch={MAIN}", "--template=", str(remote))
    source = described.folder / cloned.clone  # type: ignore[union-attr]
    _git(source, "push", "--quiet", "--no-verify", str(remote), f"{commit}:refs/heads/{MAIN}", "refs/tags/*:refs/tags/*")
    _git(remote.parent, "clone", "--quiet", "--template=", str(remote), str(directory))
    for setting, value in SETTINGS.items():
        _git(directory, "config", setting, value)


def _spoil(described: StackFile, directory: Path, patch: str, fault: Fault) -> None:
    """Commit a fault on top of the release, as a commit of the feature, in the checkout and its remote."""
    _git(directory, "apply", "--index", str(described.source("faults", f"{patch}.patch")))
    feature = load_plan(described.plan_file).feature
    _git(directory, "commit", "--quiet", "--message", f"{fault.about}\n\n{feature}")
    _git(directory, "push", "--quiet", "origin", MAIN)


def _asked(directory: Path, *arguments: str) -> str:
    """Return what git prints in a repository of the user's, "" where it refuses. Read-only."""
    if not directory.is_dir():
        return ""
    done = subprocess.run(["git", *arguments], cwd=directory, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else ""


def _make(described: StackFile, name: str, made: Made, directory: Path, fault: Fault) -> None:
    repository = _Repository(described, name, directory, fault.patches.get(name, ""))
    directory.mkdir()
    repository.git("init", "--quiet", f"--initial-branch={MAIN}", "--template=")
    for setting, value in SETTINGS.items():
        repository.git("config", setting, value)
    for event in made.history:
        repository.happens(event)
    repository.push()


@dataclass(frozen=True)
class _Repository:
    described: StackFile
    name: str
    directory: Path
    fault: str

    def happens(self, event: Event) -> None:
        match event:
            case Added():
                self._add(event)
            case Patched():
                self._apply(event)
            case Branched():
                self.git("switch", "--quiet", "--create", event.branch)
            case Merged():
                self.git("switch", "--quiet", MAIN)
                self.git("merge", "--quiet", "--no-ff", "--message", event.message, event.merge, date=event.date)
                self.git("branch", "--quiet", "--delete", event.merge)
            case Tagged():
                self.git("tag", "--annotate", "--message", f"Release {event.tag}", event.tag, date=event.date)

    def _add(self, event: Added) -> None:
        for name in event.add:
            target = self.directory / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(self.described.source(self.name, name), target)
        self.git("add", *event.add)
        self.git("commit", "--quiet", "--message", event.message, date=event.date)

    def _apply(self, event: Patched) -> None:
        patch = self.described.source("patches", f"{event.patch}.patch")
        self.git("am", "--quiet", "--committer-date-is-author-date", str(patch))
        if event.faulty and self.fault:
            self.git("apply", "--index", str(self.described.source("faults", f"{self.fault}.patch")))
            self.git("commit", "--quiet", "--amend", "--no-edit", date="2025-11-03T16:00:00Z")

    def push(self) -> None:
        remote = self.directory.with_name(f"{self.directory.name}.git")
        _git(remote.parent, "init", "--quiet", "--bare", f"--initial-branch={MAIN}", "--template=", str(remote))
        self.git("remote", "add", "origin", str(remote))
        self.git("push", "--quiet", "--tags", "--set-upstream", "origin", MAIN)

    def git(self, *arguments: str, date: str = "") -> None:
        _git(self.directory, *arguments, date=date)


def _git(directory: Path, *arguments: str, date: str = "") -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    environment |= {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull, "LC_ALL": "C"}
    for person in ("AUTHOR", "COMMITTER"):
        environment[f"GIT_{person}_NAME"] = "Release Bot"
        environment[f"GIT_{person}_EMAIL"] = "release@social-selling.example"
        if date:
            environment[f"GIT_{person}_DATE"] = date
    result = subprocess.run(["git", *arguments], cwd=directory, env=environment, capture_output=True, text=True, check=False)
    if result.returncode:
        raise StackError(
            f"git {arguments[0]} failed: {result.stderr.strip()}",
            where=str(directory),
            state="the stack is being brought down",
            safe_next="fix what git names and start again",
        )
    return result.stdout.strip()
