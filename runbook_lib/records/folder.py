"""Records in a folder, a file each."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from runbook_lib.config.loading import ROOT
from runbook_lib.config.target import RecordsTarget
from runbook_lib.errors import AdapterError
from runbook_lib.system.processes import Processes


class FolderKeys(RecordsTarget):
    """A folder that keeps the records of rehearsals, a JSON file each."""

    kind: Literal["folder"]
    path: Annotated[str, Field(min_length=1)]
    """The folder; it is made where it is not there."""


class FolderRecords:
    """Records in a folder."""

    Keys = FolderKeys

    def __init__(self, keys: FolderKeys, service: str, processes: Processes) -> None:
        self.path = ROOT / keys.path

    def __str__(self) -> str:
        near = self.path.is_relative_to(Path.cwd())
        return f"the folder {self.path.relative_to(Path.cwd()) if near else self.path}"

    def add(self, name: str, text: str) -> None:
        """Write a file, whole or not at all; one that is there stays. Changes the folder.

        Raises:
            AdapterError: The folder cannot be written.
        """
        file, made = self.path / f"{name}.json", self.path / f".{name}.{os.getpid()}"
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            made.write_text(text, encoding="utf-8")
            if not file.exists():
                os.replace(made, file)
        except OSError as error:
            raise AdapterError(
                f"The record of a rehearsal cannot be written: {error.strerror or error}.",
                where=str(file),
                state="The rehearsal itself has ended; no record of it is kept.",
                safe_next="Make room or correct the rights there, then rehearse again.",
            ) from error
        finally:
            with suppress(OSError):
                made.unlink()

    def texts(self) -> Mapping[str, str]:
        """Return every record; none where there is no such folder. Read-only.

        Raises:
            AdapterError: The folder cannot be read.
        """
        try:
            return {file.stem: file.read_text(encoding="utf-8", errors="replace") for file in self._files()}
        except OSError as error:
            raise AdapterError(
                f"The records of rehearsals cannot be read: {error.strerror or error}.",
                where=str(self.path),
                state="Nothing was changed; what was rehearsed is unknown.",
                safe_next="Correct the rights there.",
            ) from error

    def _files(self) -> list[Path]:
        return sorted(self.path.glob("[!.]*.json"))
