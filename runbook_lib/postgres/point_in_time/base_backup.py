"""Inspects a base backup: where it begins and ends, its size, and why it cannot be restored."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from runbook_lib.errors import PreconditionError
from runbook_lib.postgres.point_in_time.wal import NOTHING, number
from runbook_lib.system.processes import Processes

ARCHIVES = "base.tar*"  # the files that pg_basebackup writes with --format=tar
TABLESPACE_ARCHIVE = re.compile(r"\d+\.tar(\.\w+)?")
_LABEL = re.compile(r"^(?P<key>[A-Z ]+): (?P<value>\S+)", re.MULTILINE)
_CONTROL = re.compile(r"^(?P<key>[^:]+):\s+(?P<value>.+)$", re.MULTILINE)
TIMEOUT = 60.0
NAME_IT = "Name the folder that pg_basebackup wrote, or the one that holds several."


@dataclass(frozen=True)
class BaseBackup:
    """A base backup of pg_basebackup: a data directory, or a folder with its tar files."""

    path: Path
    processes: Processes

    @property
    def archive(self) -> Path | None:
        """Return the tar file of the data directory; None if the backup is that directory itself."""
        return next(iter(sorted(self.path.glob(ARCHIVES))), None)

    @cached_property
    def label(self) -> dict[str, str]:
        """Read its label: START WAL LOCATION, CHECKPOINT LOCATION, START TIMELINE, …

        Raises:
            PreconditionError: It has no label.
        """
        if self.archive:
            once = ["tar", "--extract", "--to-stdout", "--occurrence=1", f"--file={self.archive}", "backup_label"]
            text = self.processes.run(once, timeout=TIMEOUT).output
        else:
            file = self.path / "backup_label"
            text = file.read_text() if file.is_file() else ""
        found = {each["key"]: each["value"] for each in _LABEL.finditer(text)}
        if "START WAL LOCATION" not in found:
            raise refused(
                f"{self.path} is not a base backup: it has no backup_label.",
                NAME_IT,
            )
        return found

    @property
    def start(self) -> str:
        """Return the LSN from which WAL is replayed."""
        return self.label["START WAL LOCATION"]

    @property
    def timeline(self) -> int:
        """Return the timeline that it begins on."""
        return int(self.label["START TIMELINE"])

    @cached_property
    def manifest(self) -> dict[str, object]:
        """Read its manifest; empty if it has none."""
        file = self.path / "backup_manifest"
        return dict(json.loads(file.read_text())) if file.is_file() else {}

    @property
    def end(self) -> str | None:
        """Return the LSN from which it is consistent, by its manifest; None if unknown."""
        ranges = self.manifest.get("WAL-Ranges")
        return str(ranges[-1]["End-LSN"]) if isinstance(ranges, list) and ranges else None

    @property
    def size(self) -> int | None:
        """Return the bytes of its files once restored; None if unknown."""
        files = self.manifest.get("Files")
        if isinstance(files, list):
            return sum(int(each["Size"]) for each in files)
        return None if self.archive else size_of(self.path)

    def why_not(self) -> str:
        """Explain why it cannot be restored, as far as can be seen beforehand; "" if it can. Read-only."""
        if "INCREMENTAL FROM LSN" in self.label:
            return "it is an incremental backup: combine it with the earlier ones by pg_combinebackup, and name the result"
        archives = [each.name for each in self.path.iterdir() if TABLESPACE_ARCHIVE.fullmatch(each.name)]
        return with_tablespaces(archives) if self.archive else tablespaces(self.path)

    def put_into(self, folder: Path, timeout: float) -> None:
        """Write its files to an empty folder. Changes that folder."""
        if self.archive:
            command = ["tar", "--extract", "--no-same-owner", f"--directory={folder}", f"--file={self.archive}"]
        else:
            command = [
                "cp",
                "--recursive",
                "--preserve=mode,timestamps,links",
                "--reflink=auto",
                f"{self.path}/.",
                str(folder),
            ]
        self.processes.run(command, timeout=timeout).require()


def base_backups(path: Path, processes: Processes) -> list[BaseBackup]:
    """Find the base backup at a path, or those in its folders, newest first. Read-only.

    Raises:
        PreconditionError: There is no base backup.
    """
    there = [path, *(sorted(path.iterdir()) if path.is_dir() else [])]
    found = [BaseBackup(each, processes) for each in there if (each / "PG_VERSION").exists() or any(each.glob(ARCHIVES))]
    if not found:
        raise refused(
            f"{path} holds no base backup.", "Name the folder that pg_basebackup wrote, or the one that holds several."
        )
    return sorted(found[:1] if found[0].path == path else found, key=lambda each: number(each.start), reverse=True)


def tablespaces(data: Path) -> str:
    """Explain why a data directory with tablespaces is not restored; "" if it has none. Read-only."""
    folder = data / "pg_tblspc"
    return with_tablespaces([each.name for each in folder.iterdir()] if folder.is_dir() else [])


def with_tablespaces(names: list[str]) -> str:
    """Explain why a backup with these tablespaces is not restored. Pure."""
    if not names:
        return ""
    return (
        f"it has tablespaces (OID {', '.join(sorted(each.partition('.')[0] for each in names))}), which would be written "
        "to the live server's own paths: restore it by hand elsewhere and name a dump of it under backups"
    )


def control(data: Path, programs: Path, processes: Processes) -> dict[str, str]:
    """Return pg_controldata's output for a data directory. Read-only."""
    command = [str(programs / "pg_controldata"), str(data)]
    said = processes.run(command, timeout=TIMEOUT, env={"LC_ALL": "C", "TZ": "UTC"}).require().output
    return {each["key"]: each["value"].strip() for each in _CONTROL.finditer(said)}


def size_of(folder: Path) -> int:
    """Sum the bytes of the files below a folder. Read-only."""
    return sum(each.lstat().st_size for each in folder.rglob("*") if not each.is_dir())


def refused(what: str, safe_next: str) -> PreconditionError:
    """Build the error that no earlier state can be recovered, with what to do next."""
    return PreconditionError(what, where="target, key before", state=NOTHING, safe_next=safe_next)
