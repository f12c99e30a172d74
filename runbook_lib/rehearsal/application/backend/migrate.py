"""Applies the migrations that the database has not seen."""

import logging
from pathlib import Path

import psycopg

MIGRATIONS = Path(__file__).with_name("migrations")
LOCK = 4039

logger = logging.getLogger("migrate")


class MissingMigration(Exception):
    """The database has seen a migration whose file is not in this build."""


def migrate() -> None:
    files = {path.name.split("_")[0]: path for path in sorted(MIGRATIONS.glob("*.sql"))}
    with psycopg.connect(connect_timeout=2) as connection:
        connection.execute("SELECT pg_advisory_xact_lock(%s)", [LOCK])
        if connection.execute("SELECT to_regclass('schema_migrations')").fetchone() == (None,):
            connection.execute(
                "CREATE TABLE schema_migrations"
                " (version text PRIMARY KEY, name text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())"
            )
        applied = {version for (version,) in connection.execute("SELECT version FROM schema_migrations")}
        if missing := sorted(applied - files.keys()):
            raise MissingMigration(f"schema_migrations holds {', '.join(missing)}, but this build has no such file")
        for version, path in files.items():
            if version not in applied:
                connection.execute(path.read_bytes())
                connection.execute(
                    "INSERT INTO schema_migrations (version, name) VALUES (%s, %s)",
                    [version, path.stem.partition("_")[2]],
                )
                logger.info("applied migration %s", path.name)
