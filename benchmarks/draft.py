"""Measure how long `runbook draft` takes on a schema of 150 tables, next to `pg_dump --schema-only` of the same database.

draft.py [--tables 150] [--rounds 3]     exit status 1 if it takes more than the bar
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from time import perf_counter

from psycopg.conninfo import make_conninfo

from runbook_lib.rehearsal import draft
from runbook_lib.rehearsal.postgres import Server, clean_environment, embedded_server

BAR = 10.0  # times pg_dump
COLUMNS = ", ".join(f"c{number} text" for number in range(8))
TABLE = """
CREATE TABLE t{n} (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, other bigint REFERENCES t{before}, {columns},
    made timestamptz DEFAULT now(), CHECK (c0 <> ''));
CREATE INDEX ON t{n} (c1);
CREATE INDEX ON t{n} (other);
"""
MIGRATION = "ALTER TABLE t5 ADD COLUMN fee numeric; CREATE TABLE extra (id int PRIMARY KEY); CREATE INDEX ON t7 (c2);"


def main() -> int:
    """Measure both, print the medians and their ratio."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--tables", type=int, default=150)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    with embedded_server() as server, tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        prepare(server, root, arguments.tables)
        rounds = [(dumped(server, root, "--schema-only"), drafted(server, root)) for _ in range(arguments.rounds)]
    theirs, ours = (median(each) for each in zip(*rounds, strict=True))
    kept = ours <= BAR * theirs
    print(f"{arguments.tables} tables")
    print(f"pg_dump --schema-only {theirs:.2f} s, runbook draft {ours:.2f} s, {ours / theirs:.1f} times")
    print(f"bar {BAR:g}: {'kept' if kept else 'MISSED'}")
    return 0 if kept else 1


def prepare(server: Server, root: Path, tables: int) -> None:
    """Make the database, a dump of it, and the migration."""
    with server.connect() as connection:
        connection.execute("CREATE DATABASE app")
    with server.connect(dbname="app") as connection:
        for number in range(tables):
            connection.execute(TABLE.format(n=number, before=max(0, number - 1), columns=COLUMNS))
    dumped(server, root, "--no-owner")
    (root / "up.sql").write_text(MIGRATION)


def dumped(server: Server, root: Path, option: str) -> float:
    """Return the seconds that pg_dump takes."""
    parameters = {**server.parameters, "dbname": "app"}
    environment = {**clean_environment(), "PGPASSWORD": parameters.pop("password")}
    begun = perf_counter()
    command = [f"{server.tools}/pg_dump", "--format=custom", option, f"--file={root / f'{option}.dump'}"]
    subprocess.run([*command, make_conninfo("", **parameters)], env=environment, check=True)
    return perf_counter() - begun


def drafted(server: Server, root: Path) -> float:
    """Return the seconds that a draft takes."""
    begun = perf_counter()
    draft.make("X-1", root / "--no-owner.dump", [root / "up.sql"], server.conninfo(), root / "out", lambda _: None)
    return perf_counter() - begun


if __name__ == "__main__":
    sys.exit(main())
