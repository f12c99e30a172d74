"""The CI file of a team: the template of the service that its repository is on, filled in."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from runbook_lib.config.installed import packaged
from runbook_lib.init.team import Team

MIGRATIONS = "migrations/**"  # as the templates name them
GITHUB, GITLAB = "github-actions.yml", "gitlab-ci.yml"
OURS = "Written by `runbook init`"
PLACES = {GITHUB: ".github/workflows/rollback-rehearsal.yml", GITLAB: ".gitlab-ci.yml"}
INCLUDED = ".gitlab/rollback-rehearsal.yml"  # where there is a .gitlab-ci.yml already, which includes it


def files(path: Path, team: Team) -> dict[str, str]:
    """Return the CI files for a repository: of the service that it shows, else of both. Read-only."""
    shown = [name for name, is_on in ((GITHUB, _on_github(path)), (GITLAB, _on_gitlab(path))) if is_on]
    return {place(path, name): filled(name, team) for name in shown or PLACES}


def place(path: Path, template: str) -> str:
    """Return where a template's file goes. Read-only."""
    taken = path / PLACES[GITLAB]
    is_another = template == GITLAB and taken.exists() and OURS not in taken.read_text(errors="replace")
    return INCLUDED if is_another else PLACES[template]


def filled(template: str, team: Team) -> str:
    """Return a template for a team. Read-only."""
    text = packaged("init", "templates", template).read_text(encoding="utf-8")
    directory = team.migrations.directory if team.migrations else "**/migrations"
    return text.replace(f'"{MIGRATIONS}"', f'"{directory}/**"')


def _on_github(path: Path) -> bool:
    return (path / ".github").is_dir() or "github" in _remotes(path)


def _on_gitlab(path: Path) -> bool:
    return (path / ".gitlab-ci.yml").exists() or (path / ".gitlab").is_dir() or "gitlab" in _remotes(path)


def _remotes(path: Path) -> str:
    """Return the hosts of the repository's remotes. Read-only."""
    said = subprocess.run(["git", "-C", str(path), "remote", "-v"], capture_output=True, text=True, check=False).stdout
    return " ".join(re.findall(r"(?:@|//)([\w.-]+)[:/]", said))
