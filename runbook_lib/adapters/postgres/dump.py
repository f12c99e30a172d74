"""Backups with PostgreSQL's own tools."""

import hashlib
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from runbook_lib.adapters.processes import Processes


@dataclass(frozen=True)
class DumpContents:
    """What a custom-format dump says of itself."""

    made: datetime
    database: str
    tables_with_data: tuple[str, ...]


@dataclass(frozen=True)
class DumpTools:
    """pg_dump and pg_restore, from a directory or from the PATH."""

    processes: Processes
    directory: str | None
    service: str

    def version(self, tool: str) -> int:
        """The major version of a tool. Read-only."""
        output = self.processes.run([self._path(tool), "--version"], timeout=20).require().output
        return int(re.search(r"\(PostgreSQL\) (\d+)", output)[1])  # type: ignore[index]

    def dump(self, path: Path, timeout: float) -> None:
        """Write the whole database to `path` in the custom format; it is there whole or not at all. Read-only."""
        partial = path.with_name(path.name + ".partial")
        command = [self._path("pg_dump"), "--format=custom", f"--file={partial}", f"--dbname=service={self.service}"]
        self.processes.run(command, timeout=timeout).require()
        partial.rename(path)

    def contents(self, path: Path) -> DumpContents:
        """What is in a dump, by its table of contents. Read-only."""
        listing = self.processes.run([self._path("pg_restore"), "--list", str(path)], timeout=120).require().output
        created = re.search(r"Archive created at (.+?) ?(UTC)?$", listing, re.MULTILINE)
        name = re.search(r"dbname: (.+)$", listing, re.MULTILINE)
        tables = re.findall(r"^\d+; \d+ \d+ TABLE DATA (\S+ \S+) \S+$", listing, re.MULTILINE)
        made = datetime.fromtimestamp(path.stat().st_mtime, UTC)
        if created and created[2]:
            made = datetime.fromisoformat(created[1]).replace(tzinfo=UTC)
        return DumpContents(made, name[1] if name else "", tuple(table.replace(" ", ".") for table in tables))

    def read_through(self, path: Path, timeout: float) -> None:
        """Decode every byte of a dump, to nowhere. Read-only.

        Raises:
            AdapterError: It cannot be read to its end.
        """
        self.processes.run([self._path("pg_restore"), "--file=/dev/null", str(path)], timeout=timeout).require()

    def _path(self, tool: str) -> str:
        return str(Path(self.directory) / tool) if self.directory else tool


def sha256(path: Path) -> str:
    """The SHA-256 of a file, as hex. Read-only."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
