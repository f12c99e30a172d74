"""A site for quick rollbacks by the command line: real repositories with remotes, services that are files, no browser."""

import json
import os
import shutil
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import yaml
from click.testing import CliRunner

from runbook_lib import cli
from runbook_lib.documents import resolved
from runbook_lib.journal import Journal
from runbook_lib.journal.state import RunState, replay
from runbook_lib.run import lifecycle

from .commands import words
from .made_once import sample_repositories
from .places import PLAN, TARGET
from .sample import SOUND

BUILD = f"{sys.executable} build.py"
NOBODY = "no-such-service"  # a libpq service that leads nowhere: the database is down


@dataclass
class Site:
    """Where the files are, and the environment that its commands run in."""

    root: Path
    environment: dict[str, str]

    @property
    def frontend(self) -> Path:
        return self.root / "frontend"

    @property
    def frozen(self) -> bool:
        return (self.root / "deploys-frozen").exists()

    @property
    def plan_file(self) -> Path:
        return self.root / "plan.yaml"

    @property
    def target_file(self) -> Path:
        return self.root / "target.yaml"

    def change_plan(self, **keys: Any) -> None:
        _change(self.plan_file, keys)

    def change_target(self, **keys: Any) -> None:
        _change(self.target_file, keys)

    def git(self, *arguments: str, path: Path | None = None) -> str:
        return git(path or self.frontend, *arguments)

    def remote(self, *arguments: str) -> str:
        return git(self.root / "frontend.git", *arguments)

    def serve(self, repository: str, *services: str) -> None:
        """Build a repository, and have services run that."""
        path = self.root / repository
        subprocess.run([sys.executable, "build.py"], cwd=path, env={**os.environ, **self.environment}, check=True)
        for service in services:
            shutil.copy(path / "dist" / "version.json", self.root / "state" / service)

    def hook(self, name: str, script: str, path: Path | None = None) -> None:
        """Put a hook into the checkout, or into another repository's hooks."""
        directory = (path or self.frontend / ".git") / "hooks"
        directory.mkdir(exist_ok=True)
        (directory / name).write_text(f"#!/bin/sh\n{script}\n")
        (directory / name).chmod(0o755)

    def plan(self, *arguments: str, operator: str = "Ann", type_name: str = "frontend") -> "Planned":
        """`runbook plan`, as Ann types it."""
        command = ["plan", "--plan", str(self.plan_file), "--target", str(self.target_file), "--type", type_name]
        command += ["--operator", operator, "--reason", "pictures are missing", *arguments]
        defaults, before = lifecycle.open_new.__kwdefaults__ or {}, dict(os.environ)
        default = defaults["outputs"]
        try:
            os.environ.update(self.environment)
            defaults["outputs"] = self.root / "outputs"
            done = CliRunner().invoke(cli.commands, [*command, "--json"])
        finally:
            defaults["outputs"] = default
            os.environ.clear()
            os.environ.update(before)
        said = json.loads(done.output.splitlines()[-1]) if done.output.startswith("{") else {}
        newest = max((self.root / "outputs").iterdir(), key=lambda path: path.stat().st_mtime_ns, default=None)
        return Planned(self, Path(said["run"]) if said else newest, said, done.exception)

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """A command of the runbook in a process group of its own."""
        return subprocess.Popen(
            [sys.executable, "-P", "-c", "from runbook_lib.cli import main; main()", *arguments],
            env={**os.environ, **self.environment},
            cwd=self.root,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def command(self, *arguments: str) -> tuple[int, str]:
        """A command of the runbook: its exit code and what it printed, broken lines joined."""
        process = self.start(*arguments)
        out, errors = process.communicate(timeout=120)
        return process.returncode, out + errors if "--json" in arguments else words(out + errors)


@dataclass(frozen=True)
class Planned:
    """A run that was planned: its folder, what `plan --json` printed, and the error that it ended with."""

    site: Site
    folder: Path
    said: dict[str, Any]
    error: BaseException | None

    @property
    def state(self) -> RunState:
        return replay(Journal(self.folder / "journal.jsonl").events())

    @property
    def kinds(self) -> list[str]:
        return [event.kind for event in Journal(self.folder / "journal.jsonl").events()]

    def arguments(self, *more: str) -> list[str]:
        return ["run", str(self.folder), "--approve", self.said["digest"], *more]

    def run(self, *more: str) -> tuple[int, str]:
        return self.site.command(*self.arguments(*more))

    def start(self, *more: str) -> subprocess.Popen[str]:
        return self.site.start(*self.arguments(*more))

    def would(self, step: str) -> list[str]:
        return next(p["would"] for p in self.said["previews"] if p["step"] == step)


def make(root: Path, service: str = NOBODY) -> Site:
    """Make a site below `root`."""
    (root / "outputs").mkdir(parents=True)
    (root / "state").mkdir()
    sample_repositories(root, SOUND)
    plan = resolved(PLAN)
    plan["types"]["frontend"] |= {"checks": [], "escalates_on": []}
    del plan["types"]["frontend"]["escalates_to"]
    (root / "plan.yaml").write_text(yaml.safe_dump(plan, sort_keys=False))
    target = yaml.safe_load(TARGET.read_text())
    target["database"]["service"] = service
    target["services"] = {
        "manager": "commands",
        "directory": str(root / "state"),
        "timeout": 5,
        "commands": {
            "list": ["ls"],
            "running": ["sh", "-c", "! test -e {service} || echo yes"],
            "stop": ["rm", "-f", "{service}"],
            "start": ["sh", "-c", "cat ../{service}/dist/version.json >{service}"],
            "logs": ["true"],
            "version": ["sh", "-c", r"sed 's/.*\"version\": *\"\([0-9a-f]*\)\".*/\1/' {service}"],
        },
        "versions": {name: {"by": "manager"} for name in ("backend", "frontend", "worker")},
        "built_from": {"backend": "backend", "frontend": "frontend", "worker": "backend"},
    }
    (root / "target.yaml").write_text(yaml.safe_dump(target, sort_keys=False))
    names = ("BACKEND_URL", "FRONTEND_URL", "PG_BIN")
    environment = {f"REHEARSAL_{name}": "http://localhost:1" for name in names}
    environment |= {
        "REHEARSAL_ROOT": str(root),
        "REHEARSAL_PYTHON": sys.executable,
        "REHEARSAL_API_TOKEN": "a-token-of-the-site",
        "REHEARSAL_APPLICATION_ROLE": "app",
        "GIT_CONFIG_GLOBAL": os.devnull,
    }
    site = Site(root, environment)
    site.serve("frontend", "frontend")
    return site


def killed(process: subprocess.Popen[str]) -> None:
    """Kill a command with all its descendants, as the loss of its machine does."""
    family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    for stop in (psutil.Process.suspend, psutil.Process.kill):
        for one in family:
            with suppress(psutil.NoSuchProcess):  # it ended by itself
                stop(one)
    process.communicate(timeout=10)


def git(path: Path, *arguments: str) -> str:
    environment = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull}
    command = ["git", "-c", "user.name=t", "-c", "user.email=t@t", "-c", "protocol.file.allow=always", *arguments]
    done = subprocess.run(command, cwd=path, env=environment, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def _change(file: Path, keys: dict[str, Any]) -> None:
    """Change keys of a YAML file, each named with two underscores for each level: steps__push-frontend__push."""
    data = yaml.safe_load(file.read_text())
    for name, value in keys.items():
        *path, last = name.split("__")
        place = data
        for part in path:
            place = place[part]
        place[last] = value
    file.write_text(yaml.safe_dump(data, sort_keys=False))
