"""Applies the migrations that the database lacks."""

import os
from pathlib import Path

import psycopg

with psycopg.connect(os.environ["DATABASE_URL"]) as connection:
    done = {version for (version,) in connection.execute("SELECT version FROM schema_migrations")}
    for file in sorted((Path(__file__).parent / "migrations").glob("*.sql")):
        if (version := file.name[:3]) not in done:
            connection.execute(file.read_bytes())
            connection.execute("INSERT INTO schema_migrations VALUES (%s)", [version])
