"""Makes, reads and restores backups with PostgreSQL's own tools."""

import glob
import hashlib
import os
import re
import secrets
import tempfile
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from psycopg.conninfo import make_conninfo

from runbook_lib.errors import AdapterError
from runbook_lib.system import temporary
from runbook_lib.system.processes import Hold, Processes

# A listing separates an entry's parts by spaces, which names may hold, so entries are read from the SQL's comments.
OBJECT = re.compile(
    r"^-- TOC entry \d+ \(class (?P<catalog>\d+) OID (?P<oid>\d+)\)\n(?:-- Dependencies: .*\n)?"
    r"-- Name: (?P<name>.*); Type: (?P<kind>.*?); Schema: (?P<schema>.*?); Owner: ?(?:-(?=;|$))?(?P<owner>[^;\n]*)"
    r"(?:; Tablespace: (?P<tablespace>.*))?",
    re.MULTILINE,
)
_DATA = re.compile(r"^\d+; 0 (?P<oid>\d+) TABLE DATA (?P<schema>\S+) (?P<name>.+) \S*$", re.MULTILINE)
_NAME = r'("(?:[^"]|"")+"|[\w$]+)'
_LARGE_OBJECTS = re.compile(
    r"^\d+; \d+ \d+ (?:BLOB|BLOB METADATA|ACL - LARGE OBJECTS?|COMMENT - LARGE OBJECTS?) .*$", re.MULTILINE
)
_ATTACHED = re.compile(
    r"^ALTER TABLE ONLY {}\.{} ATTACH PARTITION {}\.{} ".format(
        *(_NAME.replace("(", f"(?P<{part}>", 1) for part in ("schema", "table", "child_schema", "child"))
    ),
    re.MULTILINE,
)
_PG_CLASS = "1259"
AS_OF = re.compile(r"_(\d{8}T\d{6}\.\d{6})Z\.dump$")  # in a dump's name: the past moment that it holds
PARTIAL = ".partial"


@dataclass(frozen=True)
class Entry:
    """One object of a dump's table of contents; `schema` is "-" if it has none, `owner` is "" if it has none."""

    kind: str
    schema: str
    name: str
    owner: str


@dataclass(frozen=True)
class DumpContents:
    """What a custom-format dump says about itself."""

    made: datetime  # or the past moment that it holds
    database: str
    server: int | None  # major version of the server that was dumped
    entries: tuple[Entry, ...]  # its objects, without rows
    tables_with_data: tuple[str, ...]  # the tables whose rows are in the dump, each as schema.name
    schema: str  # the SQL that makes the objects
    large_objects: str = ""  # the SQL that makes the large objects, without their content

    @property
    def sql(self) -> str:
        """Return all SQL except the rows."""
        return self.schema + self.large_objects

    def lacks(self, schema: str, table: str) -> list[str]:
        """Name the tables (schema.name) whose rows it lacks: that table, or leaves of a partitioned one. Pure."""
        return [name for name in self._leaves(f"{schema}.{table}") if name not in self.tables_with_data]

    def _leaves(self, name: str) -> list[str]:
        """Name the table, or the partitions that hold the rows of a partitioned one."""
        attached = [
            ".".join(_plain(found[part]) for part in ("child_schema", "child"))
            for found in _ATTACHED.finditer(self.schema)
            if ".".join(_plain(found[part]) for part in ("schema", "table")) == name
        ]
        return [leaf for child in attached for leaf in self._leaves(child)] or [name]


@dataclass(frozen=True)
class DumpTools:
    """pg_dump and pg_restore, from a directory or from the PATH; `hold` pauses or ends the slow ones."""

    processes: Processes
    directory: str | None
    service: str
    hold: Hold | None = None
    dbname: str | None = None  # in place of the service's own

    def version(self, tool: str) -> int:
        """Return the major version of a tool. Read-only."""
        output = self.processes.run([self._path(tool), "--version"], timeout=20).require().output
        return int(re.search(r"\(PostgreSQL\) (\d+)", output)[1])  # type: ignore[index]

    def dump(self, path: Path, timeout: float) -> None:
        """Write the whole database to `path` in the custom format, which exists only when complete. Read-only.

        Each try writes to its own file, so no earlier try can still write to `path`.

        Raises:
            AdapterError: It cannot be written, or `path` exists.
        """
        dump_to(path, self.processes, self._path("pg_dump"), self._conninfo(), timeout)

    def command_to_dump(self, path: str | Path) -> list[str]:
        """Build the command that writes the whole database to `path`. Pure."""
        return _whole(self._path("pg_dump"), path, self._conninfo())

    def contents(self, path: Path) -> DumpContents:
        """Read a dump's table of contents. Read-only."""
        listing = self.listing(path)
        created = re.search(r"Archive created at (.+?) ?(UTC)?$", listing, re.MULTILINE)
        name = re.search(r"dbname: (.+)$", listing, re.MULTILINE)
        server = re.search(r"Dumped from database version: (\d+)", listing)
        made = datetime.fromtimestamp(path.stat().st_mtime, UTC)
        if created and created[2]:
            made = datetime.fromisoformat(created[1]).replace(tzinfo=UTC)
        if moment := AS_OF.search(path.name):
            made = datetime.strptime(moment[1], "%Y%m%dT%H%M%S.%f").replace(tzinfo=UTC)
        schema = self._schema(path)
        objects = list(OBJECT.finditer(schema))
        tables = {found["oid"]: f"{found['schema']}.{found['name']}" for found in objects if found["catalog"] == _PG_CLASS}
        return DumpContents(
            made,
            name[1] if name else "",
            int(server[1]) if server else None,
            _entries(objects),
            tuple(tables.get(data["oid"], f"{data['schema']}.{data['name']}") for data in _DATA.finditer(listing)),
            schema,
            self._large_objects(path, listing),
        )

    def objects(self, timeout: float) -> tuple[Entry, ...]:
        """List the objects of the database now, named as its dump would name them. Read-only."""
        return _entries(OBJECT.finditer(self.schema(timeout)))

    def schema(self, timeout: float) -> str:
        """Return the SQL that makes the database as it is now, in the form of a dump. Read-only."""
        command = [self._path("pg_dump"), "--schema-only", "--verbose", "--no-password", "--lock-wait-timeout=5000"]
        return self.processes.run([*command, f"--dbname={self._conninfo()}"], timeout=timeout).require().output

    def listing(self, path: Path) -> str:
        """Return a dump's table of contents, as `--use-list` takes it. Read-only."""
        return self.processes.run([self._path("pg_restore"), "--list", str(path)], timeout=120).require().output

    def restore(self, path: Path, database: str, timeout: float, *options: str) -> None:
        """Restore a dump into another database of the server, stopping at the first error. Changes that database.

        Raises:
            AdapterError: Something in it could not be restored.
        """
        self.processes.run(self.command_to_restore(path, database, *options), timeout=timeout, hold=self.hold).require()

    def restore_listed(
        self, path: Path, database: str, timeout: float, *options: str, without: str = "-", left_out: Collection[int] = ()
    ) -> None:
        """Restore a dump without some entries, by kind and number; stop at the first error. Changes that database.

        Restore rights on schemas first, if any. Without them only a superuser may change the owner of what is in a schema,
        and pg_restore grants rights last.
        """
        numbers = "|".join(map(str, sorted(left_out))) or "-"
        gone = re.compile(rf"(?:{numbers}); |\d+; \d+ \d+ {without} ")
        lines = [line for line in self.listing(path).splitlines() if not gone.match(line)]
        first = [line for line in lines if _OF_SCHEMAS.match(line)]
        if any(" ACL - " in line for line in first):
            self._restore_these(first, path, database, timeout, *options)
            lines = [line for line in lines if line not in first]
        self._restore_these(lines, path, database, timeout, *options)

    def _restore_these(self, lines: Sequence[str], path: Path, database: str, timeout: float, *options: str) -> None:
        with _listed(lines) as file:
            self.restore(path, database, timeout, f"--use-list={file}", *options)

    def dump_part(self, path: Path, timeout: float, *options: str, database: str | None = None) -> None:
        """Write the part of a database that pg_dump's `options` choose to `path`, in the custom format. Read-only."""
        into = f"--dbname={self._conninfo(database)}"
        with _made_whole(path, replacing=True) as partial:
            command = [self._path("pg_dump"), "--format=custom", "--no-password", *options, f"--file={partial}", into]
            self.processes.run(command, timeout=timeout, hold=self.hold).require()

    def run_script(self, path: Path, database: str, timeout: float, first: str = "") -> str:
        """Run a script by psql; return its message about a failed statement, "" if none failed. Changes that database.

        `first` is a statement to execute before the script, in the same session.
        """
        options = [
            "--no-psqlrc",
            "--quiet",
            "--no-password",
            "--set=ON_ERROR_STOP=1",
            *([f"--command={first}"] if first else []),
        ]
        command = [self._path("psql"), *options, f"--file={path}", f"--dbname={self._conninfo(database)}"]
        done = self.processes.run(command, timeout=timeout, env={"PGCLIENTENCODING": "UTF8"})
        return (done.errors.strip() or f"psql ended with {done.exit_code}") if done.exit_code else ""

    def rows_of(self, path: Path, schema: str, table: str, to: Path, timeout: float) -> None:
        """Write a table's rows from a dump to a file, as a COPY command with its data. Read-only."""
        self.processes.run(self.command_to_take_rows(path, schema, table, to), timeout=timeout, hold=self.hold).require()

    def command_to_take_rows(self, path: Path, schema: str, table: str, to: Path) -> list[str]:
        """Build the command that writes a table's rows from a dump to a file. Pure."""
        chosen = [f"--schema={schema}", f"--table={table}", "--data-only", f"--file={to}"]
        return [self._path("pg_restore"), *chosen, str(path)]

    def first_rows(self, path: Path, schema: str, name: str, rows: int, timeout: float) -> str:
        """Return a table's first rows from a dump, as a COPY command with its data. Read-only."""
        whole = [self._path("pg_restore"), f"--schema={schema}", f"--table={name}", "--data-only", "--file=-", str(path)]
        begins = f'"$@" 2>/dev/null | grep -m 1 -A {rows} "^COPY "'
        return self.processes.run(["sh", "-c", begins, "sh", *whole], timeout=timeout).require().output

    def read_through(self, path: Path, timeout: float) -> None:
        """Decode every byte of a dump and discard it. Read-only.

        Raises:
            AdapterError: It cannot be read to its end.
        """
        self.processes.run(self.command_to_read(path), timeout=timeout).require()

    def command_to_read(self, path: Path) -> list[str]:
        """Build the command that decodes every byte of a dump. Pure."""
        return [self._path("pg_restore"), "--file=/dev/null", str(path)]

    def command_of_psql(self, database: str | None = None) -> list[str]:
        """Build the psql command for a database of the server, by default that of the service. Pure."""
        options = ["--no-psqlrc", "--no-password", "--set=ON_ERROR_STOP=1"]
        return [self._path("psql"), *options, f"--dbname={self._conninfo(database)}"]

    def command_to_restore(self, path: Path, database: str, *options: str) -> list[str]:
        """Build the command that restores a dump into another database, stopping at the first error. Pure."""
        into = ["--no-password", "--exit-on-error", f"--dbname={self._conninfo(database)}"]
        return [self._path("pg_restore"), *into, *options, str(path)]

    def _large_objects(self, path: Path, listing: str) -> str:
        if not (lines := _LARGE_OBJECTS.findall(listing)):
            return ""
        with _listed(lines) as file:
            command = [self._path("pg_restore"), "--verbose", f"--use-list={file}", "--file=-", str(path)]
            output = self.processes.run(command, timeout=120).require().output
        return output[output.index("--\n-- TOC entry ") :]  # without the settings before them

    def _schema(self, path: Path) -> str:
        command = [self._path("pg_restore"), "--schema-only", "--verbose", "--file=-", str(path)]
        return self.processes.run(command, timeout=120).require().output

    def _conninfo(self, database: str | None = None) -> str:
        return make_conninfo(service=self.service, dbname=database or self.dbname)

    def _path(self, tool: str) -> str:
        return str(Path(self.directory) / tool) if self.directory else tool


def dump_to(path: Path, processes: Processes, program: str, conninfo: str, timeout: float) -> None:
    """Write a whole database to `path` with pg_dump, in the custom format; `path` exists only when complete. Read-only.

    Raises:
        AdapterError: It cannot be written, or `path` exists.
    """
    with _made_whole(path) as partial:
        processes.run(_whole(program, partial, conninfo), timeout=timeout).require()


def _whole(program: str, path: str | Path, conninfo: str) -> list[str]:
    return [program, "--format=custom", f"--file={path}", f"--dbname={conninfo}"]


@contextmanager
def _listed(lines: Sequence[str]) -> Iterator[str]:
    """Yield the name of a file with some lines of a listing, as `--use-list` takes it."""
    with tempfile.NamedTemporaryFile("w", suffix=".list", dir=temporary.root()) as file:
        file.write("\n".join(lines))
        file.flush()
        yield file.name


@contextmanager
def _made_whole(path: Path, *, replacing: bool = False) -> Iterator[Path]:
    """Yield a new file for one try. It becomes `path` if the block succeeds, and is removed if it fails."""
    for left in path.parent.glob(f"{glob.escape(path.name)}.*{PARTIAL}"):
        left.unlink()  # of a try that was killed
    try:
        partial = path.with_name(f"{path.name}.{secrets.token_hex(4)}{PARTIAL}")
        partial.touch(exist_ok=False)
        try:
            yield partial
            if replacing:
                partial.replace(path)
            else:
                _name(partial, path)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        raise AdapterError(
            f"The dump cannot be written: {error.strerror or error}.",
            where=str(path),
            state="The database was only read. A dump has that name only where another try completed it.",
            safe_next="Make room there or correct the rights, then run this step again.",
        ) from None


def _name(partial: Path, path: Path) -> None:
    try:
        os.link(partial, path)  # unlike a rename, it fails where `path` exists
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links
        if path.exists():
            raise FileExistsError(f"{path.name} exists") from None
        partial.rename(path)


_OF_SCHEMAS = re.compile(r"\d+; \d+ \d+ (?:SCHEMA -|ACL - SCHEMA) ")


def _plain(name: str) -> str:
    """Return an SQL name without its quotes."""
    return name[1:-1].replace('""', '"') if name.startswith('"') else name


def _entries(objects: Iterable[re.Match[str]]) -> tuple[Entry, ...]:
    return tuple(Entry(*found.group("kind", "schema", "name", "owner")) for found in objects)


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file, as hex. Read-only."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


NULL = b"\\N"
_COPY = re.compile(rb'COPY (?:[^"(]|"(?:[^"]|"")*")*\((?P<columns>.*)\) FROM stdin;\s*$')
_COPIED_NAME = re.compile(r'"((?:[^"]|"")+)"|([^\s,"]+)')

Fields = list[bytes]  # of one row, each as COPY's text, NULL as `NULL`


@contextmanager
def rows(path: Path) -> Iterator[tuple[list[str], Iterator[Fields]]]:
    """Yield the column names and each row's fields in that order; no names if the file holds no data. Read-only."""
    with open(path, "rb") as file:
        for line in file:
            if begun := _COPY.match(line):
                names = _COPIED_NAME.findall(begun["columns"].decode())
                yield [quoted.replace('""', '"') or bare for quoted, bare in names], _fields(file)
                return
        yield [], iter(())


def _fields(lines: Iterator[bytes]) -> Iterator[Fields]:
    for line in lines:
        if line == b"\\.\n":
            return
        yield line.rstrip(b"\n").split(b"\t")
