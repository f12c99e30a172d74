"""Repositories as two teams would have them, release by release: each folder of a team is a commit over the one before."""

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from ..repository import ENVIRONMENT

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Commit:
    """The files of a folder, and the message."""

    folder: str
    message: str
    date: str


@dataclass(frozen=True)
class Team:
    """A team's code; `feature` comes with the second release."""

    name: str
    files: str
    feature: str
    releases: dict[str, list[Commit]]

    def repository(self, place: Path) -> Path:
        """A clone of the team's repository in `place`, its remote next to it, before the first release."""
        remote = place / f"{self.name}.git"
        git(place, "init", "--quiet", "--bare", "--initial-branch=main", "--template=", str(remote))
        return cloned(remote, place / self.name)

    def release(self, clone: Path, tag: str) -> None:
        """Commit a release in a clone and push it."""
        for commit in self.releases[tag]:
            shutil.copytree(HERE / self.files / commit.folder, clone, dirs_exist_ok=True)
            git(clone, "add", "--all")
            git(clone, "commit", "--quiet", f"--message={commit.message}", date=commit.date)
        git(clone, "tag", tag)
        push(clone)


def cloned(remote: Path, place: Path, *options: str) -> Path:
    """A clean clone."""
    git(place.parent, "clone", "--quiet", "--template=", *options, str(remote), place.name)
    return place


def push(clone: Path, message: str = "") -> None:
    """Push the branch of a clone, with a commit of all that is new where that has a message."""
    if message:
        git(clone, "add", "--all")
        git(clone, "commit", "--quiet", f"--message={message}")
    git(clone, "push", "--quiet", "--tags", "origin", "HEAD")


def git(folder: Path, *arguments: str, date: str = "") -> str:
    """What git prints in a folder."""
    dates = {f"GIT_{who}_DATE": date for who in ("AUTHOR", "COMMITTER")} if date else {}
    done = subprocess.run(
        ["git", *arguments], cwd=folder, env=ENVIRONMENT | dates, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


SHOP = Team(
    "shop",
    "alembic_fastapi",
    "SHOP-41",
    {
        "v1.0.0": [Commit("1-orders", "Orders over HTTP", "2026-01-12T09:00:00Z")],
        "v1.1.0": [
            Commit("2-migration", "Give orders a discount\n\nSHOP-41", "2026-03-02T10:15:00Z"),
            Commit("2-code", "Serve discounts\n\nSHOP-41", "2026-03-02T14:40:00Z"),
        ],
        "v1.2.0": [
            Commit("3-migration", "Give orders a note\n\nSHOP-52", "2026-04-06T08:30:00Z"),
            Commit("3-code", "Serve notes\n\nSHOP-52", "2026-04-06T11:05:00Z"),
        ],
    },
)
PARCELS = Team(
    "parcels",
    "prisma_node",
    "PARCEL-7",
    {
        "v1.0.0": [Commit("1-parcels", "Parcels over HTTP, and a worker that sends them", "2026-01-05T09:00:00Z")],
        "v1.1.0": [
            Commit("2-migration", "Give parcels a weight\n\nPARCEL-7", "2026-03-02T10:15:00Z"),
            Commit("2-code", "Serve weights\n\nPARCEL-7", "2026-03-02T14:40:00Z"),
        ],
        "v1.2.0": [
            Commit("3-migration", "Give parcels a depot\n\nPARCEL-9", "2026-04-06T08:30:00Z"),
            Commit("3-code", "Serve depots\n\nPARCEL-9", "2026-04-06T11:05:00Z"),
        ],
    },
)
