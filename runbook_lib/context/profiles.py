"""The browser profile of the returning user; it has pages and cookies, so it is not in a run's folder.

It exists in a private temporary directory from the visit before the first change until the run has ended. A resumed run
needs it, so it outlives its process. The next start removes the profiles of ended runs.
"""

import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

from runbook_lib.errors import JournalError
from runbook_lib.journal import Journal
from runbook_lib.journal.state import replay

PREFIX = "runbook-profile-"
OWNER = "run"  # the file that names the folder of the run
FINAL = ("verified", "waived", "undone", "ended")  # outcomes after which no visit follows


def made(folder: Path) -> Path:
    """Return a new, empty profile of the run in `folder`, in place of an earlier one."""
    remove(folder)
    directory = Path(tempfile.mkdtemp(prefix=PREFIX, dir=tempfile.gettempdir()))  # outlives this process
    (directory / OWNER).write_text(str(folder.resolve()), encoding="utf-8")
    profile = directory / "profile"
    profile.mkdir()
    return profile


def of(folder: Path) -> Path | None:
    """Return the profile of the run in `folder`, if there is one. Read-only."""
    return next((owner.parent / "profile" for owner in _owners() if _run(owner) == folder.resolve()), None)


def remove(folder: Path) -> None:
    """Remove the profile of the run in `folder`."""
    if profile := of(folder):
        shutil.rmtree(profile.parent, ignore_errors=True)


def sweep() -> None:
    """Remove the profiles of runs that have ended or are gone."""
    for owner in _owners():
        folder = _run(owner)
        if folder is not None and has_ended(folder):
            shutil.rmtree(owner.parent, ignore_errors=True)


def has_ended(folder: Path) -> bool:
    """Check whether the run in `folder` needs no more visits, or is gone. Read-only."""
    journal = Journal(folder / "journal.jsonl")
    if not journal.path.exists():
        return True
    with suppress(JournalError):
        outcome = replay(journal.events()).outcome
        return outcome is not None and outcome["status"] in FINAL
    return False


def _owners() -> list[Path]:
    return sorted(Path(tempfile.gettempdir()).glob(f"{PREFIX}*/{OWNER}"))


def _run(owner: Path) -> Path | None:
    try:
        return Path(owner.read_text(encoding="utf-8")) if owner.stat().st_uid == os.geteuid() else None
    except OSError:
        return None
