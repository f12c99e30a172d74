"""Backups with PostgreSQL's own tools."""

import hashlib
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from psycopg.conninfo import make_conninfo

from runbook_lib.adapters.processes import Processes

# "217; 1259 16395 FK CONSTRAINT public messages messages_sender_id_fkey owner"; the kind is upper case, schema "-" is none
_ENTRY = re.compile(
    r"^\d+; \d+ \d+ (?P<kind>TABLE DATA|TABLE ATTACH|TABLE|[A-Z]+(?: [A-Z]+)*)"
    r" (?P<schema>\S+) (?P<name>.+?) (?P<owner>\S*)$",
    re.MULTILINE,
)


@dataclass(frozen=True)
class Entry:
    """One object of a dump's table of contents; `schema` is "-" where it has none, `owner` "" where it has none."""

    kind: str
    schema: str
    name: str
    owner: str


@dataclass(frozen=True)
class DumpContents:
    """What a custom-format dump says of itself."""

    made: datetime
    database: str
    server: int | None  # major version of the server that was dumped
    entries: tuple[Entry, ...]

    @property
    def tables_with_data(self) -> tuple[str, ...]:
        """The tables whose rows are in the dump, each as schema.name."""
        return tuple(f"{entry.schema}.{entry.name}" for entry in self.entries if entry.kind == "TABLE DATA")


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
        command = [self._path("pg_dump"), "--format=custom", f"--file={partial}", f"--dbname={self._conninfo()}"]
        self.processes.run(command, timeout=timeout).require()
        partial.rename(path)

    def contents(self, path: Path) -> DumpContents:
        """What is in a dump, by its table of contents. Read-only."""
        listing = self.processes.run([self._path("pg_restore"), "--list", str(path)], timeout=120).require().output
        created = re.search(r"Archive created at (.+?) ?(UTC)?$", listing, re.MULTILINE)
        name = re.search(r"dbname: (.+)$", listing, re.MULTILINE)
        server = re.search(r"Dumped from database version: (\d+)", listing)
        made = datetime.fromtimestamp(path.stat().st_mtime, UTC)
        if created and created[2]:
            made = datetime.fromisoformat(created[1]).replace(tzinfo=UTC)
        entries = tuple(Entry(**found.groupdict()) for found in _ENTRY.finditer(listing))
        return DumpContents(made, name[1] if name else "", int(server[1]) if server else None, entries)

    def schema(self, path: Path) -> str:
        """The SQL that makes the objects of a dump, without its rows. Read-only."""
        command = [self._path("pg_restore"), "--schema-only", "--file=-", str(path)]
        return self.processes.run(command, timeout=120).require().output

    def restore(self, path: Path, database: str, timeout: float, *options: str) -> None:
        """Restore a dump into another database of the server, stopping at the first error. Changes that database.

        Raises:
            AdapterError: Something in it could not be restored.
        """
        command = [self._path("pg_restore"), "--exit-on-error", f"--dbname={self._conninfo(database)}", *options, str(path)]
        self.processes.run(command, timeout=timeout).require()

    def dump_part(self, path: Path, timeout: float, *options: str) -> None:
        """Write what `options` of pg_dump choose to `path`, in the custom format. Read-only."""
        command = [self._path("pg_dump"), "--format=custom", *options, f"--file={path}", f"--dbname={self._conninfo()}"]
        self.processes.run(command, timeout=timeout).require()

    def rows_of(self, path: Path, schema: str, table: str, to: Path, timeout: float) -> None:
        """Write the rows that a dump has of a table to a file, as a COPY command with its data. Read-only."""
        chosen = [f"--schema={schema}", f"--table={table}", "--data-only", f"--file={to}"]
        self.processes.run([self._path("pg_restore"), *chosen, str(path)], timeout=timeout).require()

    def read_through(self, path: Path, timeout: float) -> None:
        """Decode every byte of a dump, to nowhere. Read-only.

        Raises:
            AdapterError: It cannot be read to its end.
        """
        self.processes.run([self._path("pg_restore"), "--file=/dev/null", str(path)], timeout=timeout).require()

    def _conninfo(self, database: str | None = None) -> str:
        return make_conninfo(service=self.service, dbname=database)

    def _path(self, tool: str) -> str:
        return str(Path(self.directory) / tool) if self.directory else tool


def sha256(path: Path) -> str:
    """The SHA-256 of a file, as hex. Read-only."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
