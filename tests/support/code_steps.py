"""A run whose code steps act on real repositories with a remote each."""

import os
import subprocess
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from runbook_lib.context import Context
from runbook_lib.journal.control import Reporter
from runbook_lib.journal.state import StepState
from runbook_lib.steps import Step, step_named

REVERT, BUILD, PUSH, REBUILD = "revert-frontend", "build-frontend", "push-frontend", "rebuild-frontend"

BUILT_BEFORE = {"built-before-build-backend", "built-before-build-frontend"}  # what a full rollback keeps for its undo


class Run:
    """A run's record of a few steps, without its loop."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.debts: dict[str, str] = {}
        self.told: list[str] = []
        context.reporter = Reporter(self._told, lambda: self.debts)

    def step(self, name: str) -> Step:
        return step_named(self.context, name)

    def approve(self, *names: str) -> None:
        agreed = {name: {"facts": dict(self.step(name).preview().facts)} for name in names}
        self.now(previews={"d": agreed}, approved="d")

    def apply(self, name: str) -> Mapping[str, Any]:
        left = dict(self.step(name).apply())
        self.now(steps={**self.context.state.steps, name: StepState(name, name, outcome=left)})
        return left

    def now(self, **changed: Any) -> None:
        """The state of the run becomes another."""
        self.context.state = replace(self.context.state, **changed)

    def path(self, repository: str = "frontend") -> Path:
        return self.context.checkout(repository).path

    def git(self, *arguments: str, repository: str = "frontend") -> str:
        return git(self.path(repository), *arguments)

    def commit(self, message: str, **files: str) -> str:
        for name, text in files.items():
            (self.path() / name).write_text(text)
            self.git("add", name)
        self.git("commit", "--quiet", "--allow-empty", f"--message={message}")
        return self.git("rev-parse", "HEAD")

    def remote_tip(self, repository: str = "frontend") -> str:
        return git(self.path().with_name(f"{repository}.git"), "rev-parse", "main")

    def _told(self, kind: str, **data: Any) -> None:
        if kind == "owed":
            self.debts[data["debt"]] = data["text"]
        elif kind == "paid":
            self.debts.pop(data["debt"])
        elif kind == "output":
            self.told.append(data["line"])


def git(path: Path, *arguments: str) -> str:
    environment = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull}
    command = ["git", "-c", "user.name=t", "-c", "user.email=t@t", *arguments]
    done = subprocess.run(command, cwd=path, env=environment, check=True, capture_output=True, text=True)
    return done.stdout.strip()
