"""A run's folder: the one place through which everything that is kept of a run is written, redacted and atomically."""

import json
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from fcntl import LOCK_EX, LOCK_NB, LOCK_SH, flock
from pathlib import Path
from typing import Any

from runbook_lib.errors import ParametersError, PreconditionError
from runbook_lib.parameters import ROOT
from runbook_lib.redaction import redact, redact_values


class RunFolder:
    """The folder of one run: journal, notebooks, evidence, report."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def create(cls, outputs: Path, incident: str, type_name: str, now: datetime | None = None) -> "RunFolder":
        """Make a new folder below `outputs`, named by UTC time, incident, rollback type and a random id."""
        stamp = (now or datetime.now(UTC)).strftime("%Y%m%dT%H%M%SZ")
        name = "-".join([stamp, _word(incident or "no-incident"), _word(type_name), secrets.token_hex(3)])
        path = outputs / name
        (path / "evidence").mkdir(parents=True)
        return cls(path)

    @classmethod
    def open(cls, path: Path) -> "RunFolder":
        """The run folder at `path`. Read-only.

        Raises:
            ParametersError: There is no journal in it.
        """
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
    def told(self) -> str:
        """The path as people are told it, and as RUN takes it: from the project where it is in there."""
        path = self.path.resolve()
        return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(self.path)

    @property
    def journal_path(self) -> Path:
        """Where the journal is."""
        return self.path / "journal.jsonl"

    def write_text(self, name: str, text: str) -> Path:
        """Write `text`, redacted, to a file of the folder; it is there whole or not at all."""
        return self._write(name, redact(text).encode())

    def write_json(self, name: str, value: Any) -> Path:
        """Write `value` as JSON, redacted."""
        clean = redact_values(json.loads(json.dumps(value, default=str)))
        return self._write(name, (json.dumps(clean, indent=2, ensure_ascii=False) + "\n").encode())

    def read_json(self, name: str) -> Any:
        """What a JSON file of the folder holds; None where there is no such file. Read-only."""
        path = self.path / name
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None

    def write_image(self, name: str, png: bytes) -> Path:
        """Write a picture as it is."""
        return self._write(name, png)

    def keep(self, file: Path, name: str) -> Path:
        """Take a file of keys or numbers in as it is, under `name`; it is there whole or not at all."""
        path = self.path / name
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary = path.with_name(f".{path.name}.{os.getpid()}")
            shutil.copyfile(file, temporary)
            os.replace(temporary, path)
        return path

    def next_name(self, stem: str, suffix: str) -> str:
        """A file name that is not taken yet: `stem`, then `stem-2`, `stem-3` and so on."""
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
        with open(self.path / ".lock", "a+", encoding="utf-8") as file:
            try:
                flock(file, LOCK_EX | LOCK_NB)
            except BlockingIOError:
                file.seek(0)
                raise PreconditionError(
                    f"Another process is acting in this run: {file.read().strip() or 'unknown'}.",
                    where=str(self.path),
                    state="This process changed nothing.",
                    safe_next="Wait for it, or end it by its pid; then run the cell again.",
                ) from None
            file.truncate(0)
            file.write(f"pid {os.getpid()}\n")
            file.flush()
            yield

    def held_by(self) -> str:
        """The process that acts in the run now, "" where none does. Read-only."""
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
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        return path


def _word(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "-", text).strip("-").lower() or "none"
