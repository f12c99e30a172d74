"""The sample database on a server that archives its WAL, with base backups from before and from after the migration."""

import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from runbook_lib.rehearsal import postgres
from runbook_lib.rehearsal.database import Database, create_database
from runbook_lib.rehearsal.postgres import Server, clean_environment, marked_environment
from runbook_lib.rehearsal.workspace import until_healthy, workspace

ROWS = 200
SECONDS = 20.0
NOTED = "noted"


@dataclass(frozen=True)
class Archived:
    """A database, the folder of its base backups and that of its WAL; a test may look at them, and changes copies alone."""

    database: Database
    bases: Path
    wal: Path

    def base(self, name: str, to: Path, change: Callable[[Path], object] = lambda _: None) -> Path:
        """A copy of a base backup, changed."""
        copy = to / name
        shutil.copytree(self.bases / name, copy)
        change(copy)
        return copy

    def without(self, to: Path, lacking: Callable[[list[str]], list[str]]) -> Path:
        """A copy of the archive that lacks some of its segments."""
        copy = to / "wal"
        shutil.copytree(self.wal, copy)
        for name in lacking(sorted(each.name for each in copy.iterdir() if len(each.name) == 24)):
            (copy / name).unlink()
        return copy


@contextmanager
def archived(programs: Path) -> Iterator[Archived]:
    """Bring the server up, take the backups, and end it with the block."""
    with workspace() as root:
        server = postgres.initialise(root, programs)
        bases, wal = root / "bases", root / "wal"
        bases.mkdir()
        wal.mkdir()
        with (root / "pg" / "data" / "postgresql.conf").open("a") as file:
            file.write(f"archive_mode = on\narchive_command = 'cp %p {wal}/%f'\n")
        log = root / "log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                postgres.command(root, programs), env=marked_environment(root), stdout=output, stderr=output
            )
        try:
            until_healthy(server.answers, SECONDS, "PostgreSQL", lambda: process.poll() is None, log)
            _back_up(server, bases / "plain")
            _back_up(server, bases / "tar", "--format=tar", "--gzip")
            database = create_database(server, ROWS)
            _note(server, database)
            _back_up(server, bases / "late")  # which waits until all WAL so far is archived
            yield Archived(database, bases, wal)
        finally:
            process.terminate()
            process.wait(SECONDS)


def _note(server: Server, database: Database) -> None:
    """Make a database whose migration 7 its tool has recorded in three transactions: begun, done, and that it is done."""
    with server.connect() as connection:
        connection.execute(f"CREATE DATABASE {NOTED} OWNER {database.application.name}")  # type: ignore[call-overload]
    with server.connect(dbname=NOTED) as connection:
        connection.execute("CREATE TABLE noted (version text PRIMARY KEY, done bool); CREATE TABLE things (id int)")
        connection.execute("INSERT INTO noted VALUES ('6', TRUE)")
        connection.execute("INSERT INTO things VALUES (1)")
        connection.execute("INSERT INTO noted VALUES ('7', FALSE)")
        connection.execute("ALTER TABLE things ADD added text")
        connection.execute("INSERT INTO things VALUES (2)")
        connection.execute("BEGIN; SAVEPOINT a; UPDATE noted SET done = TRUE; RELEASE a; COMMIT")


def _back_up(server: Server, to: Path, *options: str) -> None:
    assert server.tools
    environment = {**clean_environment(), "PGPASSWORD": server.parameters["password"]}
    where = ["-h", server.parameters["host"], "-p", server.parameters["port"], "-U", server.parameters["user"]]
    command = [str(server.tools / "pg_basebackup"), *where, "-D", str(to), "-c", "fast", "-X", "none", *options]
    subprocess.run(command, env=environment, check=True)
