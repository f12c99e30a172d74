"""The two git repositories of the sample application, built with the same histories and commit ids every time."""

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from runbook_lib.config.installed import packaged
from runbook_lib.rehearsal.scenarios import Fault
from runbook_lib.rehearsal.workspace import StackError

SOURCE = packaged("rehearsal", "application")
FEATURE = "FEAT-2025-20251103111429"
RELEASE = "v1.4.0"
SETTINGS = {"user.name": "Rehearsal Operator", "user.email": "operator@social-selling.example", "gc.auto": "0"}


def create_backend(directory: Path, fault: Fault) -> None:
    """Build the backend's repository in `directory`, its remote beside it. Raises StackError when git fails."""
    repository = _create(directory)
    repository.add("API, worker and first migration", "2025-09-15T08:00:00Z", *BACKEND_BASE)
    repository.add(
        "Index messages by conversation", "2025-10-06T09:00:00Z", "migrations/038_index_messages_by_conversation.sql"
    )
    repository.tag(RELEASE, "2025-10-27T08:00:00Z")
    repository.add(
        f"Add replies and attachments to messages\n\n{FEATURE}",
        "2025-11-03T11:14:29Z",
        "migrations/039_message_replies_and_attachments.sql",
    )
    repository.git("switch", "--quiet", "--create", "message-attachments")
    repository.apply("backend-serve-attachments", spoiled_by=fault.backend)
    repository.apply("backend-accept-attachments")
    repository.git("switch", "--quiet", "main")
    repository.merge("message-attachments", f"Merge branch 'message-attachments'\n\n{FEATURE}", "2025-11-03T14:00:00Z")
    repository.add(
        f"Backfill attachments from media_url\n\n{FEATURE}", "2025-11-03T14:30:00Z", "scripts/backfill_attachments.sql"
    )
    repository.apply("backend-slow-requests")
    repository.push()


def create_frontend(directory: Path, fault: Fault) -> None:
    """Build the frontend's repository in `directory`, its remote beside it. Raises StackError when git fails."""
    repository = _create(directory)
    repository.add("Message threads", "2025-09-16T08:00:00Z", *FRONTEND_BASE)
    repository.apply("frontend-show-time")
    repository.tag(RELEASE, "2025-10-27T08:30:00Z")
    repository.apply("frontend-render-attachments", spoiled_by=fault.frontend)
    repository.apply("frontend-quote-replies")
    repository.apply("frontend-page-title")
    repository.push()


BACKEND_BASE = (
    ".gitignore",
    "README.md",
    "access_log.py",
    "api.py",
    "build.py",
    "main.py",
    "messages.py",
    "migrate.py",
    "version.py",
    "worker.py",
    "migrations/037_create_messaging.sql",
)
FRONTEND_BASE = (
    ".gitignore",
    "README.md",
    "build.py",
    "serve.py",
    "src/app.js",
    "src/favicon.svg",
    "src/index.html",
    "src/style.css",
)


@dataclass(frozen=True)
class _Repository:
    directory: Path

    def add(self, message: str, date: str, *files: str) -> None:
        """Commit files of the sample application."""
        for name in files:
            target = self.directory / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(SOURCE / self.directory.name / name, target)
        self.git("add", *files)
        self.git("commit", "--quiet", "--message", message, date=date)

    def apply(self, patch: str, spoiled_by: str = "") -> None:
        """Commit a patch, with a fault inside the same commit if one is named."""
        self.git(
            *("am", "--quiet", "--committer-date-is-author-date", str(SOURCE / "patches" / f"{patch}.patch")),
        )
        if spoiled_by:
            self.git("apply", "--index", str(SOURCE / "faults" / f"{spoiled_by}.patch"))
            self.git("commit", "--quiet", "--amend", "--no-edit", date="2025-11-03T16:00:00Z")

    def merge(self, branch: str, message: str, date: str) -> None:
        self.git("merge", "--quiet", "--no-ff", "--message", message, branch, date=date)
        self.git("branch", "--quiet", "--delete", branch)

    def tag(self, name: str, date: str) -> None:
        self.git("tag", "--annotate", "--message", f"Release {name}", name, date=date)

    def push(self) -> None:
        remote = self.directory.with_name(f"{self.directory.name}.git")
        _git(remote.parent, "init", "--quiet", "--bare", "--initial-branch=main", "--template=", str(remote))
        self.git("remote", "add", "origin", str(remote))
        self.git("push", "--quiet", "--set-upstream", "origin", "main", RELEASE)

    def git(self, *arguments: str, date: str = "") -> None:
        _git(self.directory, *arguments, date=date)


def _create(directory: Path) -> _Repository:
    directory.mkdir()
    repository = _Repository(directory)
    repository.git("init", "--quiet", "--initial-branch=main", "--template=")
    for name, value in SETTINGS.items():
        repository.git("config", name, value)
    return repository


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
