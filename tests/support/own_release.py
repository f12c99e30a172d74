"""A repository as a team has it, with a release to rehearse: tests/support/own, committed and drafted."""

import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from .bare import runbook

FILES = Path(__file__).with_name("own")
RELEASE = "SHOP-41 Fees"


@dataclass(frozen=True)
class Team:
    """The team's repository, whose folder `rehearsal` has the plan, the stack and what they name."""

    root: Path

    @property
    def plan(self) -> Path:
        return self.root / "rehearsal" / "plan.yaml"

    @property
    def stack(self) -> Path:
        return self.root / "rehearsal" / "stack.yaml"

    def change(self, file: Path, **keys: Any) -> None:
        """Change keys of a YAML file; None takes one out."""
        data = {**yaml.safe_load(file.read_text()), **keys}
        file.write_text(yaml.safe_dump({key: value for key, value in data.items() if value is not None}, sort_keys=False))

    def git(self, *words: str) -> str:
        """What git says in the repository."""
        person = ["-c", "user.name=Ann", "-c", "user.email=ann@shop.example"]
        environment = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull}
        done = subprocess.run(
            ["git", *person, *words], cwd=self.root, env=environment, capture_output=True, text=True, check=True
        )
        return done.stdout.strip()


def team(root: Path) -> Team:
    """Make the repository, with its release and the draft of that."""
    shutil.copytree(FILES / "shop", root)
    after = {name: (root / name).read_text() for name in ("app.py", "migrations/002_fees.sql")}
    (root / "app_before.py").rename(root / "app.py")
    (root / "migrations" / "002_fees.sql").unlink()
    made = Team(root)
    made.git("init", "--quiet", "--initial-branch=main")
    made.git("add", ".")
    made.git("commit", "--quiet", "--message", "Orders")
    for name, text in after.items():
        (root / name).write_text(text)
    made.git("add", ".")
    made.git("commit", "--quiet", "--message", RELEASE)
    shutil.copytree(FILES / "rehearsal", root / "rehearsal")
    words = ["--before", root / "rehearsal" / "before.sql", "--migration", root / "migrations" / "002_fees.sql"]
    ended = runbook("draft", "--feature", "SHOP-41", *words, "--folder", root / "rehearsal", "--json")
    drafted = json.loads(ended.text.splitlines()[-1])
    made.change(made.plan, draft={"changes": "SHOP-41.changes.yaml", "sha256": drafted["sha256"]})
    return made
