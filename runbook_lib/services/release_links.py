"""Whether a manager that remembers paths starts what a rollback takes back, or a release that a link has left behind."""

import os
from pathlib import Path

from runbook_lib.results import Found, Status

TOP = (Path("/"), Path("/usr"))  # where links are the system's own
DEEPEST = 4  # folders from a release to a program in it


def starts_from(name: str, script: Path, cwd: Path, checkout: Path | None, command: str) -> Found:
    """Whether a service starts from the reverted checkout, or through a link to the current release. Read-only.

    Args:
        name: The service.
        script: The path of its program, as the manager remembers it.
        cwd: Its working directory, the same.
        checkout: What the service is built from, None where it is not built here.
        command: How the manager is run, for the remedy.
    """
    if not script.exists():
        return Status.FAIL, f"{name} was started from {script}, which is gone: after a stop it could not be started again"
    if checkout and any(path.resolve().is_relative_to(checkout.resolve()) for path in (script, cwd)):
        return Status.PASS, f"{name} starts from {checkout}"
    if any(map(_is_link, (script, cwd, *script.parents, *cwd.parents))):
        return Status.PASS, f"{name} starts through a link"
    if found := next(filter(None, map(_release_link, (script, cwd))), None):
        link, release = found
        through = [str(link / path.relative_to(release) if path.is_relative_to(release) else path) for path in (script, cwd)]
        return Status.FAIL, (
            f"{name} was started from {release} itself; {link} leads to {link.resolve()}, and a restart does not follow it. "
            f"Start it through the link beforehand: `{command} delete {name}`, then "
            f"`{command} start {through[0]} --name {name} --cwd {through[1]}` with its options and environment"
        )
    if checkout:
        return Status.UNKNOWN, (
            f"{name} was started from {script} in {cwd}, outside {checkout}: whether a start runs what is built is unknown"
        )
    return Status.PASS, f"{name} is not built here"


def _release_link(path: Path) -> tuple[Path, Path] | None:
    """Return a link to the release that holds `path`, or to one next to it; and the release."""
    for release in (path, *path.parents)[:DEEPEST]:
        releases = release.parent
        for place in (releases, releases.parent):
            if place not in TOP and os.access(place, os.R_OK):
                for entry in sorted(place.iterdir()):
                    if entry.is_symlink() and entry.is_dir() and entry.resolve().parent == releases.resolve():
                        return entry, release
    return None


def _is_link(path: Path) -> bool:
    return path.parent not in TOP and path.is_symlink() and path.is_dir()
