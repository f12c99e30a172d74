"""A run's folder: the one place through which everything that is kept of a run is written, redacted and atomically."""

import hashlib
import json
import os
import re
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from fcntl import LOCK_EX, LOCK_NB, LOCK_SH, flock
from pathlib import Path
from typing import Any

from runbook_lib.config.loading import ROOT
from runbook_lib.errors import JournalError, ParametersError, PreconditionError
from runbook_lib.redaction import redact, redact_values

FLEET = "fleet.jsonl"  # the journal of a fleet's folder, which holds a run for each target
SHARED = "shared"  # what the run of the parts that all targets of a fleet share is called among the targets'
DIRECTORY_MODE, FILE_MODE = 0o700, 0o600  # of a run folder: for its owner alone


class RunFolder:
    """The folder of one run: journal, notebooks, evidence, report."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def create(cls, outputs: Path, incident: str, type_name: str, now: datetime | None = None) -> "RunFolder":
        """Make a new folder below `outputs`, named by UTC time, incident, rollback type and a random id."""
        path = outputs / new_id(incident or "no-incident", type_name, now)
        with _writing(path):
            make_private(path / "evidence", outputs)
        return cls(path)

    @classmethod
    def open(cls, path: Path) -> "RunFolder":
        """Return the run folder at `path`. Read-only.

        Raises:
            ParametersError: There is no journal in it.
        """
        if (path / FLEET).is_file():
            raise ParametersError(
                f"{path} is a fleet's folder, which holds a run for each target.",
                state="Nothing was touched.",
                safe_next=f"Use `runbook fleet …` with it, or name one run in {path / 'runs'}.",
            )
        if not (path / "journal.jsonl").is_file():
            raise ParametersError(
                f"{path} is no run folder: it holds no journal.jsonl.",
                state="Nothing was touched.",
                safe_next="Name a folder below outputs/, or begin a new run.",
            )
        return cls(path)

    @property
    def id(self) -> str:
        """The run's id, which is the folder's name."""
        return self.path.name

    @property
    def short(self) -> str:
        """A short name for this run that fits into an identifier."""
        return hashlib.sha256(self.id.encode()).hexdigest()[:12]

    @property
    def label(self) -> str:
        """The path as people see it, and as RUN takes it: from the project where it is in there."""
        path = self.path.resolve()
        return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(self.path)

    @property
    def journal_path(self) -> Path:
        """Where the journal is."""
        return self.path / "journal.jsonl"

    def write_text(self, name: str, text: str) -> Path:
        """Write `text`, redacted, to a file of the folder; it is there whole or not at all."""
        return self._write(name, redact(text).encode())

    def write_redacted(self, name: str, text: str) -> Path:
        """Write `text`, which is redacted already."""
        return self._write(name, text.encode())

    def write_json(self, name: str, value: Any) -> Path:
        """Write `value` as JSON, redacted."""
        clean = redact_values(json.loads(json.dumps(value, default=str)))
        return self._write(name, (json.dumps(clean, indent=2, ensure_ascii=False) + "\n").encode())

    def read_json(self, name: str) -> Any:
        """Return what a JSON file of the folder holds; None where there is no such file. Read-only."""
        path = self.path / name
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None

    def write_image(self, name: str, png: bytes) -> Path:
        """Write a picture as it is."""
        return self._write(name, png)

    def keep(self, file: Path, name: str) -> Path:
        """Take a file of keys or numbers in as it is, under `name`; it is there whole or not at all."""
        path = self.path / name
        if not path.exists():
            with _made_whole(path) as made, open(file, "rb") as source, open(made, "wb", opener=private) as copy:
                shutil.copyfileobj(source, copy)
        return path

    def tidy(self) -> None:
        """Remove what killed processes and older versions left, and take others' rights away from what is there."""
        for path in list(self.path.rglob(".*")):
            pid = path.suffix.removeprefix(".")
            if path.name in (".profile", ".ipynb_checkpoints"):
                shutil.rmtree(path, ignore_errors=True)
            elif path.stem.count(".") > 1 and pid.isdigit() and not Path(f"/proc/{pid}").exists():
                path.unlink(missing_ok=True)
        for path in [self.path, *self.path.rglob("*")]:
            mode = path.lstat().st_mode
            wanted = DIRECTORY_MODE if stat.S_ISDIR(mode) else FILE_MODE if stat.S_ISREG(mode) else None
            if wanted and stat.S_IMODE(mode) != wanted:
                path.chmod(wanted)

    def next_name(self, stem: str, suffix: str) -> str:
        """Return a file name that is not taken yet: `stem`, then `stem-2`, `stem-3` and so on."""
        number = 1
        while (self.path / (name := f"{stem}{'' if number == 1 else f'-{number}'}{suffix}")).exists():
            number += 1
        return name

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the run: no other process can act in it meanwhile.

        Raises:
            PreconditionError: Another process holds it.
        """
        with _writing(self.path / ".lock"):
            descriptor = private(self.path / ".lock", os.O_RDWR | os.O_CREAT)
        try:
            try:
                flock(descriptor, LOCK_EX | LOCK_NB)
            except BlockingIOError:
                raise PreconditionError(
                    f"Another process is acting in this run: {os.read(descriptor, 100).decode().strip() or 'unknown'}.",
                    where=str(self.path),
                    state="This process changed nothing.",
                    safe_next="Wait for it, or end it by its pid; then run the cell again.",
                ) from None
            with _writing(self.path / ".lock"):
                os.ftruncate(descriptor, os.pwrite(descriptor, f"pid {os.getpid()}\n".encode(), 0))
            yield
        finally:
            os.close(descriptor)

    def held_by(self) -> str:
        """Return the process that acts in the run now, "" where none does. Read-only."""
        try:
            with open(self.path / ".lock", encoding="utf-8") as file:
                try:
                    flock(file, LOCK_SH | LOCK_NB)
                except BlockingIOError:
                    return file.read().strip() or "unknown"
        except FileNotFoundError:
            pass
        return ""

    def _write(self, name: str, content: bytes) -> Path:
        path = self.path / name
        with _made_whole(path) as temporary, open(temporary, "wb", opener=private) as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        return path


def new_id(about: str, type_name: str, now: datetime | None = None) -> str:
    """Return a new id, by UTC time, what it is about, rollback type and a random word."""
    stamp = (now or datetime.now(UTC)).strftime("%Y%m%dT%H%M%SZ")
    return "-".join([stamp, _word(redact(about)), _word(type_name), secrets.token_hex(3)])


def private(path: str | os.PathLike[str], flags: int) -> int:
    """Open a file that only its owner may read and write, whatever the umask; an opener for `open`."""
    descriptor = os.open(path, flags, FILE_MODE)
    if stat.S_IMODE(os.fstat(descriptor).st_mode) != FILE_MODE:
        os.fchmod(descriptor, FILE_MODE)
    return descriptor


def make_private(path: Path, below: Path | None = None) -> None:
    """Make a directory, and those above it, that only their owner may enter; what is there already stays as it is."""
    if path.is_dir():
        return
    if path.parent == below:
        path.parent.mkdir(parents=True, exist_ok=True)
    make_private(path.parent, below)
    path.mkdir(exist_ok=True)
    path.chmod(DIRECTORY_MODE)


@contextmanager
def _made_whole(path: Path) -> Iterator[Path]:
    """Give a file next to `path` that takes its place when the block succeeds, and is removed when it fails."""
    with _writing(path):
        make_private(path.parent)
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            yield temporary
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise JournalError(
            f"The run folder cannot be written: {error.strerror or error}.",
            where=str(path),
            state="What was done is in the journal. This file is as it was before.",
            safe_next="Make room or correct the rights there, then run the same command again: done steps are found done.",
        ) from None


def _word(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "-", text).strip("-").lower() or "none"
