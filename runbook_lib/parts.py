"""Lets one process steer what another of the same run does in parts: it pauses, goes on, or ends before its next part."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from fcntl import LOCK_EX, LOCK_NB, LOCK_SH, flock
from pathlib import Path
from typing import Literal, get_args

Wanted = Literal["go on", "pause", "abort"]  # of work in parts, before its next one


class Parts:
    """The work of one step in parts, and what is wanted of it, by a file of the run folder that its process holds."""

    def __init__(self, folder: Path, step: str) -> None:
        self.path = folder / f".parts-{step}"

    @contextmanager
    def under_way(self) -> Iterator[None]:
        """Can be steered while the block runs; what was wanted of an earlier try counts no more. Changes the run folder."""
        with open(self.path, "a+", encoding="utf-8") as file:
            flock(file, LOCK_EX)
            self._write("go on")
            try:
                yield
            finally:
                self._told.unlink(missing_ok=True)

    def want(self, wanted: Wanted) -> bool:
        """Have it pause, go on or end before its next part; False where none is under way. Changes the run folder."""
        try:
            with open(self.path, encoding="utf-8") as file:
                flock(file, LOCK_SH | LOCK_NB)
        except BlockingIOError:
            self._write(wanted)
            return True
        except FileNotFoundError:
            pass
        return False

    def wanted(self) -> Wanted:
        """What is wanted now; what cannot be read means pause. Read-only."""
        try:
            text = self._told.read_text(encoding="utf-8")
        except OSError:
            return "pause"
        return next((each for each in get_args(Wanted) if each == text), "pause")

    @property
    def _told(self) -> Path:
        return self.path.with_name(f"{self.path.name}.wanted")

    def _write(self, wanted: Wanted) -> None:
        temporary = self._told.with_name(f"{self._told.name}.{os.getpid()}")
        temporary.write_text(wanted, encoding="utf-8")
        os.replace(temporary, self._told)
