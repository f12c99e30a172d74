"""The sample application's database, as it is some time after migration 039 and the backfill of attachments."""

import subprocess
from datetime import UTC, datetime
from pathlib import Path

import psycopg

from runbook_lib.rehearsal.database import Database, create_empty_database
from runbook_lib.rehearsal.errors import StackError
from runbook_lib.rehearsal.postgres import binaries, clean_environment
from runbook_lib.rehearsal.repositories import SOURCE
from runbook_lib.rehearsal.server import Server

MIGRATIONS = SOURCE / "backend" / "migrations"
BACKFILL = SOURCE / "backend" / "scripts" / "backfill_attachments.sql"
DATA = SOURCE / "database"
FAULTS = SOURCE / "faults"

HISTORY = """
    CREATE TABLE schema_migrations (
        version text PRIMARY KEY,
        name text NOT NULL,
        applied_at timestamptz NOT NULL DEFAULT now()
    )
"""


def create_database(server: Server, rows: int = 20_000, backups: Path | None = None) -> Database:
    """Create the sample database and its roles, filled as by `fill`. Changes the server.

    Raises StackError when the dump fails.
    """
    database = create_empty_database(server)
    fill(database, rows, backups)
    return database


def fill(database: Database, rows: int, backups: Path | None = None) -> None:
    """Take an empty database through migrations, use, backfill and edits, giving the same rows every time.

    In `backups` the dump is left that was taken before the backfill. Changes the database.
    Raises StackError when the dump fails.
    """
    with psycopg.connect(database.conninfo(database.application), autocommit=True) as connection:
        connection.execute("SELECT set_config('rehearsal.rows', %s, false)", [str(rows)])
        connection.execute(HISTORY)
        migrate(connection, "037", "038")
        _run(connection, DATA / "before_feature.sql")
        migrate(connection, "039")
        _run(connection, DATA / "use_of_feature.sql")
        if backups:
            dump(database, backups)
        _run(connection, BACKFILL)
        _run(connection, DATA / "edits_after_backfill.sql")
        connection.execute("VACUUM (ANALYZE) messages")


def spoil(database: Database, fault: str) -> None:
    """Damage the data as a fault does. Changes the database."""
    with psycopg.connect(database.conninfo(database.application), autocommit=True) as connection:
        _run(connection, FAULTS / f"{fault}.sql")


def migrate(connection: psycopg.Connection, *versions: str) -> None:
    """Apply migrations of the backend and record them, as the backend does on boot. Changes the database."""
    for version in versions:
        (path,) = MIGRATIONS.glob(f"{version}_*.sql")
        with connection.transaction():
            _run(connection, path)
            connection.execute(
                "INSERT INTO schema_migrations (version, name) VALUES (%s, %s)",
                [version, path.stem.partition("_")[2]],
            )


def dump(database: Database, backups: Path) -> Path:
    """Write the backup that is taken before the backfill. Read-only. Raises StackError when pg_dump fails."""
    path = backups / f"backup_before_attachments_backfill_{datetime.now(UTC):%Y%m%d_%H%M%S}.dump"
    parameters = database.parameters(database.application)
    environment = {**clean_environment(), "PGPASSWORD": parameters.pop("password")}
    result = subprocess.run(
        [
            *(str((database.server.tools or binaries()) / "pg_dump"), "--format=custom", "--compress=1", f"--file={path}"),
            psycopg.conninfo.make_conninfo("", **parameters),
        ],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode:
        raise StackError(
            f"pg_dump failed: {result.stderr.strip()}",
            where=str(path),
            state="the sample database is incomplete",
            safe_next="mend what pg_dump names and start again",
        )
    return path


def _run(connection: psycopg.Connection, path: Path) -> None:
    connection.execute(path.read_bytes())
