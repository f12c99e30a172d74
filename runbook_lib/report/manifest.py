"""Seal a run folder: the journal lists every file with its hash, and the manifest names the journal's head."""

import hashlib
import json
import os
import re
import stat
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from runbook_lib.errors import JournalError, ParametersError
from runbook_lib.journal import GENESIS, VERSION, Journal
from runbook_lib.journal.event import Event
from runbook_lib.journal.folder import DIRECTORY_MODE, FILE_MODE, RunFolder

MANIFEST = "manifest.json"
REQUIRED = ("journal.jsonl", "report.html", "rollback-log.md")  # of every sealed run, whatever its manifest says


def _none(_: Sequence[Event]) -> Collection[str]:
    return ()


@dataclass(frozen=True)
class Layout:
    """The files and folders that a sealed folder may hold: a run's, or that of a parent of runs."""

    journal: str
    files: re.Pattern[str]  # that are sealed
    folders: Callable[[Sequence[Event]], Collection[str]]  # by the journal
    sealed_folders: Callable[[Sequence[Event]], Collection[str]] = _none  # each with a seal, of which the manifest counts


RUN = Layout(
    "journal.jsonl",
    re.compile(
        r"journal\.jsonl|report\.html|rollback-log\.md|postmortem\.md|edited-rows(?:-[\w-]+)?\.csv"
        r"|evidence/[\w:-][\w.:-]*\.(?:json|png|svg|txt)"
        r"|salvage/(?:manifest\.json|[\w-][\w.-]*\.[0-9a-f]{6}\.copy\.gz)"
    ),
    lambda _: ("evidence", "lab", "salvage"),
)
_UNSEALED = [  # they change while a process acts, so nothing but this may be in them
    (re.compile(r"(?:runs/[^/]+/)?\.lock"), re.compile(rb"(?:pid \d{1,10}\n)?")),
    (re.compile(r"\.parts-[\w-]+"), re.compile(rb"")),
    (re.compile(r"\.parts-[\w-]+\.wanted"), re.compile(rb"go on|resume|pause|abort")),  # older versions wrote the first
]
_OLDER = re.compile(r"\.profile/.*|(?:.*/)?\.ipynb_checkpoints/.*")  # older versions left these, hidden and unsealed
_KINDS = {
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


@dataclass(frozen=True)
class Problem:
    """One way in which a run folder differs from what was sealed."""

    file: str
    what: str

    def __str__(self) -> str:
        return f"{self.file}: {self.what}"


class Contents:
    """The files of a run folder; `is_older` for a folder that an older version sealed with fewer rules."""

    def __init__(self, root: Path, events: Sequence[Event], layout: Layout = RUN, *, is_older: bool = False) -> None:
        self.root = root
        self.is_older = is_older
        self._files, self._folders = layout.files, set(layout.folders(events))
        self._sealed_folders = set(layout.sealed_folders(events))
        self._notebooks = set(_notebooks(events))

    def files(self) -> dict[str, Path]:
        """Return the regular files that are sealed: name -> path. Read-only."""
        found = {name: path for name, path in self._walked() if stat.S_ISREG(path.lstat().st_mode)}
        return {name: path for name, path in found.items() if self._is_sealed(name)}

    def problems(self) -> Iterator[Problem]:
        """Yield every foreign entry, and every entry whose kind, mode, owner or attributes changed. Read-only."""
        owner = self.root.lstat().st_uid
        yield from self._rights(".", self.root, owner)
        for name, path in self._walked():
            if not (self.is_older and _OLDER.fullmatch(f"{name}/")):
                yield from self._problems(name, path, owner)

    def _problems(self, name: str, path: Path, owner: int) -> Iterator[Problem]:
        mode = path.lstat().st_mode
        if kind := _KINDS.get(stat.S_IFMT(mode)):
            yield Problem(name, f"is {kind}, which no run folder holds.")
        elif stat.S_ISDIR(mode):
            if name not in self._folders | self._sealed_folders:
                yield Problem(name, "does not belong in a run folder.")
            yield from self._rights(name, path, owner)
        elif name != MANIFEST and not self._is_sealed(name) and not _is_unsealed(name, path):
            yield Problem(name, "does not belong in a run folder.")
        else:
            if path.lstat().st_nlink > 1:
                yield Problem(name, "has another name elsewhere: it is a hard link.")
            yield from self._rights(name, path, owner)

    def _rights(self, name: str, path: Path, owner: int) -> Iterator[Problem]:
        if self.is_older:
            return
        status = path.lstat()
        wanted = DIRECTORY_MODE if stat.S_ISDIR(status.st_mode) else FILE_MODE
        if stat.S_IMODE(status.st_mode) != wanted:
            yield Problem(name, f"its mode is {stat.S_IMODE(status.st_mode):04o}, not {wanted:04o}.")
        if status.st_uid != owner:
            yield Problem(name, f"belongs to the user {status.st_uid}, the folder to {owner}.")
        with suppress(OSError):  # a file system without them
            extra = [each for each in os.listxattr(path, follow_symlinks=False) if not each.startswith("security.")]
            if extra:
                yield Problem(name, f"has extended attributes: {', '.join(sorted(extra))}.")

    def _is_sealed(self, name: str) -> bool:
        return bool(self._files.fullmatch(name)) or name in self._notebooks or (self.is_older and not _is_hidden(name))

    def _walked(self) -> Iterator[tuple[str, Path]]:
        """Yield each entry below the folder without following links; a foreign directory counts as one entry."""
        pending = [self.root]
        while pending:
            for entry in sorted(os.scandir(pending.pop()), key=lambda entry: entry.name):
                name = Path(entry.path).relative_to(self.root).as_posix()
                if name != MANIFEST or not self.is_older:
                    yield name, Path(entry.path)
                if entry.is_dir(follow_symlinks=False):
                    if name in self._sealed_folders:
                        if os.path.lexists(manifest := Path(entry.path) / MANIFEST):
                            yield f"{name}/{MANIFEST}", manifest
                    elif name in self._folders or self.is_older:
                        pending.append(Path(entry.path))


def _notebooks(events: Sequence[Event]) -> Iterator[str]:
    """Yield the notebooks that the journal names: executed ones, rendered ones, and the copies for JupyterLab."""
    for event in events:
        if event.kind in ("notebook-started", "notebook-rendered"):
            yield str(event.data["output"])
        elif event.kind == "notebooks-prepared":
            yield from (f"{event.data['directory']}/{name}.ipynb" for name in event.data["notebooks"])


def _is_unsealed(name: str, path: Path) -> bool:
    content = next((content for pattern, content in _UNSEALED if pattern.fullmatch(name)), None)
    if content is None:
        return False
    with open(path, "rb") as file:
        return bool(content.fullmatch(file.read(100)))


def _is_hidden(name: str) -> bool:
    return any(part.startswith(".") for part in Path(name).parts)


SEALED = "sealed"  # the event
UNSIGNED = (  # another text needs another version of the manifest
    "This manifest is not signed. It shows what was damaged or changed in a sealed folder. Whoever can write here could "
    "also write a new journal and a new manifest, so it is no proof against forgery. Keep the journal's head elsewhere "
    "to have one."
)


def seal(folder: RunFolder, layout: Layout = RUN) -> Path:
    """Journal the current hash of every file, and write the manifest, replacing an earlier one.

    A folder that has not changed since its last seal keeps that seal.
    """
    folder.tidy()
    journal = Journal(folder.path / layout.journal)
    events = journal.events()
    files = _hashes(Contents(folder.path, events, layout))
    files.pop(layout.journal, None)
    last = events[-1] if events else None
    if last is None or last.kind != SEALED or last.data["files"] != files:
        last = journal.append(SEALED, run=folder.id, at=datetime.now(UTC).isoformat(timespec="seconds"), files=files)
    return folder.write_redacted(MANIFEST, _written(_manifest(last, layout, _hash(journal.path))))


def verify(path: Path, layout: Layout = RUN) -> list[Problem]:
    """Return the differences between the folder at `path` and its seal; none means intact. Read-only.

    Raises:
        ParametersError: There is no such folder.
    """
    if not path.is_dir():
        raise ParametersError(
            f"{path} is no folder.",
            state="Nothing was checked.",
            safe_next="Name a run's folder: one below outputs/, or an archived one.",
        )
    return list(_problems(path, layout))


def _problems(path: Path, layout: Layout) -> Iterator[Problem]:
    if path.is_symlink():
        yield Problem(".", "is a symbolic link; name the folder itself.")
    root = path.resolve()
    try:
        text = _read(root / MANIFEST)
        manifest = json.loads(text)
        files, journal = dict(manifest["files"]), dict(manifest["journal"])
    except FileNotFoundError:
        yield Problem(MANIFEST, "is missing: the run was never sealed, or somebody removed its seal.")
        return
    except (OSError, ValueError, KeyError, TypeError) as error:
        yield Problem(MANIFEST, f"cannot be read: {error}.")
        return
    events: list[Event] = []
    file = root / layout.journal
    try:
        if not file.is_symlink() and stat.S_ISREG(file.lstat().st_mode):
            events = Journal(file).events()
    except FileNotFoundError:
        pass
    except JournalError as error:
        yield Problem(layout.journal, error.what)
    seals = [event for event in events if event.kind == SEALED]
    is_older = layout is RUN and bool(events) and not seals and "version" not in events[0].data
    contents = Contents(root, events, layout, is_older=is_older or not events)
    yield from contents.problems()
    if seals:
        files = {**seals[-1].data["files"], layout.journal: files.get(layout.journal, "")}
        yield from _field_problems(root, layout, manifest, text, seals[-1])
    elif events and not is_older:
        yield Problem(layout.journal, "holds no seal.")
    elif manifest.get("run") != root.name:
        yield Problem(".", f"is named {root.name}, the run that was sealed is {manifest.get('run')}.")
    yield from _file_problems(files, _hashes(contents), REQUIRED if is_older else (layout.journal,))
    yield from _journal_problems(layout.journal, events, journal)


def _field_problems(root: Path, layout: Layout, manifest: Mapping[str, Any], text: str, sealed: Event) -> Iterator[Problem]:
    """Yield the fields of a manifest that differ from the journal's seal; the journal is checked elsewhere."""
    if sealed.data["run"] != root.name:
        yield Problem(".", f"is named {root.name}, the run that was sealed is {sealed.data['run']}.")
    wanted = _manifest(sealed, layout, manifest["files"].get(layout.journal, ""))
    if {"seq", "head"} == set(manifest["journal"]):
        wanted["journal"] = manifest["journal"]
    wrong = [name for name in {**wanted, **manifest} if wanted.get(name) != manifest.get(name)]
    if wrong:
        yield Problem(MANIFEST, f"differs from the journal's seal in: {', '.join(wrong)}.")
    elif text != _written(wanted):
        yield Problem(MANIFEST, "has another layout than the sealed one.")


def _file_problems(sealed: Mapping[str, str], found: Mapping[str, str], required: Iterable[str]) -> Iterator[Problem]:
    for name in sorted({*sealed, *found, *required}):
        if name not in found:
            yield Problem(name, "is missing.")
        elif name not in sealed:
            yield Problem(name, "was added after the seal.")
        elif found[name] != sealed[name]:
            yield Problem(name, "differs from what was sealed.")


def _journal_problems(file: str, events: list[Event], sealed: Mapping[str, Any]) -> Iterator[Problem]:
    seq, head = (events[-1].seq, events[-1].hash) if events else (0, GENESIS)
    if events and (seq, head) != (sealed.get("seq"), sealed.get("head")):
        yield Problem(file, f"ends with event {seq}, which is not the event {sealed.get('seq')} that was sealed.")


def _manifest(sealed: Event, layout: Layout, journal: str) -> dict[str, Any]:
    return {
        "version": VERSION,
        "run": sealed.data["run"],
        "sealed_at": sealed.data["at"],
        "signed": False,
        "note": UNSIGNED,
        "journal": {"seq": sealed.seq, "head": sealed.hash},
        "files": {layout.journal: journal, **sealed.data["files"]},
    }


def _written(manifest: Mapping[str, Any]) -> str:
    return json.dumps(manifest, indent=2, ensure_ascii=False) + "\n"


def _read(path: Path) -> str:
    """Return the text of a regular file; never open a link or a FIFO."""
    if not stat.S_ISREG(path.lstat().st_mode):
        raise ValueError("it is no file")
    return path.read_bytes().decode()


def _hashes(contents: Contents) -> dict[str, str]:
    return {name: _hash(path) for name, path in sorted(contents.files().items())}


def _hash(path: Path) -> str:
    with open(path, "rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
