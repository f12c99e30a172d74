"""The seal of a run folder: a hash of every file and the head of the journal, and the check of both."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from runbook_lib.errors import JournalError, ParametersError
from runbook_lib.folder import RunFolder
from runbook_lib.journal import GENESIS, Journal

MANIFEST = "manifest.json"
UNSIGNED = (
    "This manifest is not signed. It shows a file that was damaged or changed by accident; whoever can write here could "
    "also write a new manifest, so it is no proof against forgery. Keep the journal's head elsewhere to have one."
)


@dataclass(frozen=True)
class Problem:
    """One way in which a run folder differs from what was sealed."""

    file: str
    what: str

    def __str__(self) -> str:
        return f"{self.file}: {self.what}"


def seal(folder: RunFolder) -> Path:
    """Write the manifest of the folder as it is now, in the place of an earlier one."""
    seq, head = _head(folder.path)
    manifest = {
        "run": folder.id,
        "sealed_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "signed": False,
        "note": UNSIGNED,
        "journal": {"seq": seq, "head": head},
        "files": _hashes(folder.path),
    }
    return folder.write_json(MANIFEST, manifest)


def verify(path: Path) -> list[Problem]:
    """What differs between the run folder at `path` and its manifest; nothing means intact. Read-only.

    Raises:
        ParametersError: There is no such folder.
    """
    if not path.is_dir():
        raise ParametersError(
            f"{path} is no folder.",
            state="Nothing was checked.",
            safe_next="Name a run's folder, below outputs/ or archived.",
        )
    try:
        manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
        sealed, journal = dict(manifest["files"]), dict(manifest["journal"])
    except FileNotFoundError:
        return [Problem(MANIFEST, "is missing: the run was never sealed, or its seal was taken away.")]
    except (OSError, ValueError, KeyError, TypeError) as error:
        return [Problem(MANIFEST, f"cannot be read: {error}.")]
    found = _hashes(path)
    return [*_file_problems(sealed, found), *_journal_problems(path, journal)]


def _file_problems(sealed: dict[str, str], found: dict[str, str]) -> Iterator[Problem]:
    for name in sorted(sealed.keys() | found.keys()):
        if name not in found:
            yield Problem(name, "is missing.")
        elif name not in sealed:
            yield Problem(name, "was added after the seal.")
        elif found[name] != sealed[name]:
            yield Problem(name, "is not what was sealed.")


def _journal_problems(path: Path, sealed: dict[str, Any]) -> Iterator[Problem]:
    try:
        seq, head = _head(path)
    except JournalError as error:
        yield Problem("journal.jsonl", error.what)
        return
    if (seq, head) != (sealed.get("seq"), sealed.get("head")):
        yield Problem("journal.jsonl", f"ends with event {seq}, which is not the event {sealed.get('seq')} that was sealed.")


def _head(path: Path) -> tuple[int, str]:
    events = Journal(path / "journal.jsonl").events()
    return (events[-1].seq, events[-1].hash) if events else (0, GENESIS)


def _hashes(path: Path) -> dict[str, str]:
    """The SHA-256 of every file but the manifest and the hidden ones, such as locks and half-written files."""
    hashes = {}
    for file in sorted(path.rglob("*")):
        name = file.relative_to(path)
        if file.is_file() and name != Path(MANIFEST) and not any(part.startswith(".") for part in name.parts):
            with open(file, "rb") as content:
                hashes[name.as_posix()] = hashlib.file_digest(content, "sha256").hexdigest()
    return hashes
