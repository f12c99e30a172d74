"""Writes and reads the history as golang-migrate's postgres driver does: one row, marked dirty while a file runs."""

import re
import sys
from pathlib import Path

import psycopg

FILES = {int(re.match(r"\d+", path.name)[0]): path for path in sorted(Path("migrations").glob("*.up.sql"))}

with psycopg.connect("", autocommit=True) as connection:

    def set_version(version: int, dirty: bool) -> None:
        with connection.transaction():
            connection.execute("TRUNCATE schema_migrations")
            connection.execute("INSERT INTO schema_migrations (version, dirty) VALUES (%s, %s)", [version, dirty])

    connection.execute(
        "CREATE TABLE IF NOT EXISTS schema_migrations (version bigint not null primary key, dirty boolean not null)"
    )
    found, dirty = connection.execute("SELECT version, dirty FROM schema_migrations LIMIT 1").fetchone() or (-1, False)
    if dirty:
        sys.exit(f"Dirty database version {found}. Fix and force version.")
    if found >= 0 and found not in FILES:
        sys.exit(f"no migration found for version {found}")
    pending = [version for version in FILES if version > found]
    if sys.argv[1] == "up":
        for version in pending:
            set_version(version, True)
            connection.execute(FILES[version].read_text())
            set_version(version, False)
    print(f"{found}, pending: {len(pending)}")
