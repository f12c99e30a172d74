"""A repository whose history a test writes."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

FEATURE = "SHOP-41"
ENVIRONMENT = {
    **{name: value for name, value in os.environ.items() if not name.startswith("GIT_")},
    **{f"GIT_{who}_{what}": "ada@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")},
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_EDITOR": "true",
}
Look = Callable[..., dict[str, Any]]


class Repository:
    """A repository in which a commit writes one line to one file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.clock = 1_700_000_000
        path.mkdir()
        self.git("init", "--quiet", "--initial-branch=main", "--template=")
        self.write("shared.js", *(f"line {n}" for n in range(12)))
        self.commit("Base")

    def git(self, *arguments: str) -> str:
        self.clock += 60
        dates = {f"GIT_{who}_DATE": f"{self.clock} +0000" for who in ("AUTHOR", "COMMITTER")}
        command = ["git", "-c", "core.hooksPath=/dev/null", *arguments]
        done = subprocess.run(command, cwd=self.path, env=ENVIRONMENT | dates, check=True, capture_output=True, text=True)
        return done.stdout.strip()

    def write(self, name: str, *lines: str) -> None:
        (self.path / name).parent.mkdir(parents=True, exist_ok=True)
        (self.path / name).write_text("".join(f"{line}\n" for line in lines))

    def commit(self, *message: str) -> str:
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", *(f"--message={part}" for part in message))
        return self.git("rev-parse", "HEAD")

    def change(self, name: str, line: str, *message: str) -> str:
        """Append a line to a file, and commit that."""
        path = self.path / name
        before = path.read_text().splitlines() if path.exists() else []
        self.write(name, *before, line)
        return self.commit(*message)

    def on(self, branch: str) -> None:
        """Switch to a branch, a new one where there is none."""
        known = self.git("branch", "--list", branch)
        self.git("switch", "--quiet", *([] if known else ["--create"]), branch)

    def merge(self, *branches: str, message: tuple[str, ...] = ()) -> str:
        said = [f"--message={part}" for part in message] or ["--no-edit"]
        self.git("merge", "--quiet", "--no-ff", *said, *branches)
        return self.git("rev-parse", "HEAD")

    def files(self, commit: str) -> dict[str, str]:
        names = self.git("ls-tree", "-r", "--name-only", commit).splitlines()
        return {name: self.git("show", f"{commit}:{name}") for name in names if name != "shared.js"}


def actions(found: dict[str, Any]) -> dict[str, str]:
    return {commit["subject"]: commit["action"] for commit in found["commits"]}


def refused(found: dict[str, Any]) -> tuple[str, list[str]]:
    assert (found["exit"], found["result"]) == (3, None)
    return found["status"], found["files"]
