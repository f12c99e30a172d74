"""Writes and reads the history as Flyway does: a row for each migration, compared with the files by version and checksum."""

import re
import sys
import zlib
from pathlib import Path

import psycopg

HISTORY = """
CREATE TABLE IF NOT EXISTS flyway_schema_history (
    installed_rank integer NOT NULL CONSTRAINT flyway_schema_history_pk PRIMARY KEY, version varchar(50),
    description varchar(200) NOT NULL, type varchar(20) NOT NULL, script varchar(1000) NOT NULL, checksum integer,
    installed_by varchar(100) NOT NULL, installed_on timestamp NOT NULL DEFAULT now(), execution_time integer NOT NULL,
    success boolean NOT NULL);
CREATE INDEX IF NOT EXISTS flyway_schema_history_s_idx ON flyway_schema_history (success);
"""
FILES = {}
for path in sorted(Path("db/migration").glob("V*__*.sql"), key=lambda path: path.stem.split("__")[0]):
    version, description = re.fullmatch(r"V([\d_]+)__(\w+)", path.stem).groups()
    checksum = zlib.crc32(path.read_bytes()) - 2**31
    FILES[version.replace("_", ".")] = (description.replace("_", " "), path, checksum)

with psycopg.connect("", autocommit=True) as connection:
    connection.execute(HISTORY)
    rows = connection.execute(
        "SELECT version, checksum, success FROM flyway_schema_history ORDER BY installed_rank"
    ).fetchall()
    for version, checksum, success in rows:
        if not success:
            sys.exit(f"Schema public contains a failed migration to version {version} !")
        if version not in FILES:
            sys.exit(f"Detected applied migration not resolved locally: {version}")
        if FILES[version][2] != checksum:
            sys.exit(f"Migration checksum mismatch for migration version {version}")
    pending = {version: file for version, file in FILES.items() if version not in {row[0] for row in rows}}
    if sys.argv[1] == "migrate":
        for version, (description, path, checksum) in pending.items():
            with connection.transaction():
                connection.execute(path.read_text())
                connection.execute(
                    """INSERT INTO flyway_schema_history SELECT coalesce(max(installed_rank), 0) + 1, %s, %s, 'SQL', %s, %s,
                    current_user, now(), 12, true FROM flyway_schema_history""",
                    [version, description, path.name, checksum],
                )
    print(f"pending: {len(pending)}")
