"""The git repositories of a stack, built with the same histories and commit ids every time."""

import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from runbook_lib.rehearsal.managers import filled
from runbook_lib.rehearsal.stack_file import Added, Branched, Event, Fault, Merged, Patched, StackFile, Tagged
from runbook_lib.rehearsal.workspace import StackError

SETTINGS = {"user.name": "Rehearsal Operator", "user.email": "operator@social-selling.example", "gc.auto": "0"}
MAIN = "main"


def build(described: StackFile, root: Path, fault: Fault, environment: Mapping[str, str]) -> None:
    """Create the repositories of a stack below `root`, and build what each has checked out.

    Raises StackError when that fails.
    """
    for name in described.repositories:
        create(described, name, root / name, fault)
        for file, text in described.ignored.get(name, {}).items():
            (root / name / file).write_text(text)
        for command in filled(described.builds.get(name, []), environment, name):
            result = subprocess.run(
                command, cwd=root / name, env={**os.environ, **environment}, capture_output=True, text=True, check=False
            )
            if result.returncode:
                raise StackError(
                    f"{' '.join(command)} failed: {(result.stderr or result.stdout).strip()}",
                    where=str(root / name),
                    state="the stack is being brought down",
                    safe_next="mend what the build names and start again",
                )


def create(described: StackFile, name: str, directory: Path, fault: Fault) -> None:
    """Build a repository of a stack in `directory`, its remote next to it. Raises StackError when git fails."""
    repository = _Repository(described, name, directory, fault.patches.get(name, ""))
    directory.mkdir()
    repository.git("init", "--quiet", f"--initial-branch={MAIN}", "--template=")
    for setting, value in SETTINGS.items():
        repository.git("config", setting, value)
    for event in described.repositories[name].history:
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


def _git(directory: Path, *arguments: str, date: str = "") -> None:
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
            state="the sample application is incomplete",
            safe_next="mend what git names and start again",
        )
