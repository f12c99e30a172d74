"""Runs git: never asking, never with an editor, never taking a lock that a look does not need."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from runbook_lib.adapters.processes import Completed, Processes

TIMEOUT = 120.0
SILENT = {"GIT_TERMINAL_PROMPT": "0", "GIT_EDITOR": "true", "GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C"}


@dataclass(frozen=True)
class Git:
    """git in one directory."""

    path: Path
    processes: Processes

    def __call__(self, *arguments: str, at: datetime | None = None, env: Mapping[str, str] | None = None) -> Completed:
        """Run a command of git's. Changes what it changes.

        Raises:
            AdapterError: It failed.
        """
        return self.attempt(*arguments, at=at, env=env).require()

    def attempt(self, *arguments: str, at: datetime | None = None, env: Mapping[str, str] | None = None) -> Completed:
        """The same where failing is an answer; `at` is the date of a commit that it makes. Changes what it changes."""
        environment = {**SILENT, **(env or {})}
        if at:
            environment |= {"GIT_AUTHOR_DATE": at.isoformat(), "GIT_COMMITTER_DATE": at.isoformat()}
        directory = self.path if self.path.exists() else self.path.parent
        return self.processes.run(["git", *arguments], cwd=directory, timeout=TIMEOUT, env=environment)

    def says(self, *arguments: str) -> str:
        """What a command prints, "" where it fails. Read-only."""
        done = self.attempt(*arguments)
        return done.output.strip() if done.exit_code == 0 else ""
