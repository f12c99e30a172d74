"""Measure how long taking back a migration of 200 objects holds strong locks, and how long a reader waits.

take_back.py [--objects 200] [--rounds 3]     exit status 1 if either is longer than one try may wait
"""

import argparse
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from time import perf_counter
from unittest.mock import patch

from psycopg import sql

from runbook_lib.postgres.changes import draft as drafts
from runbook_lib.postgres.changes import live
from runbook_lib.postgres.changes.copies import Copies
from runbook_lib.postgres.changes.live import Record
from runbook_lib.postgres.changes.trial import tried
from runbook_lib.postgres.connection import Postgres
from runbook_lib.postgres.dump import DumpTools
from runbook_lib.postgres.lock_budget import LADDER
from runbook_lib.rehearsal import draft
from runbook_lib.rehearsal.database import Database, create_empty_database
from runbook_lib.rehearsal.postgres import embedded_server
from runbook_lib.system.processes import LocalProcesses

BAR = LADDER[-1]  # milliseconds
OLD = 20  # tables from before, which readers use meanwhile
BEFORE = """CREATE TABLE t{n} (id int PRIMARY KEY, name text NOT NULL);
INSERT INTO t{n} SELECT x, 'n' || x FROM generate_series(1, 500) x;"""
MADE = (
    "ALTER TABLE t{old} ADD COLUMN c{n} text",
    "CREATE INDEX i{n} ON t{old} (name, id)",
    "CREATE TABLE made{n} (id int PRIMARY KEY, t int REFERENCES t{old})",
    "CREATE VIEW v{n} AS SELECT id FROM t{old}",
    "CREATE FUNCTION f{n}() RETURNS int LANGUAGE sql AS 'SELECT {n}'",
    "CREATE TYPE e{n} AS ENUM ('a', 'b')",
    "ALTER TABLE t{old} ADD CONSTRAINT k{n} CHECK (id > 0)",
    "CREATE SEQUENCE s{n}",
)


def main() -> int:
    """Measure; print the median and whether it is within the bar."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--objects", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    with embedded_server() as server, tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "before.sql").write_text("\n".join(BEFORE.format(n=n) for n in range(OLD)))
        made = [MADE[n % len(MADE)].format(n=n, old=n % OLD) for n in range(arguments.objects)]
        (root / "up.sql").write_text(";\n".join(made) + ";")
        rounds = [measured(create_empty_database(server, f"_bench_{n}"), root) for n in range(arguments.rounds)]
    held, stalled = (median(each) for each in zip(*rounds, strict=True))
    print(f"{arguments.objects} objects; locks held {held:.0f} ms, the longest wait of a reader {stalled:.0f} ms")
    kept = max(held, stalled) <= BAR
    print(f"bar {BAR} ms: {'kept' if kept else 'MISSED'}")
    return 0 if kept else 1


def measured(database: Database, root: Path) -> tuple[float, float]:
    """Take the migration back on its own database; return the milliseconds of the transaction and of a reader's wait."""
    server, parameters = database.server, database.parameters(database.runbook)
    (root / "services").write_text("\n".join(["[bench]", *(f"{k}={v}" for k, v in parameters.items()), ""]))
    with server.connect(**database.parameters(database.application)) as connection:
        for name in ("before.sql", "up.sql"):
            connection.execute((root / name).read_bytes())
    found = draft.make("B-1", root / "before.sql", [root / "up.sql"], server.conninfo(), root, lambda _: None)
    held: list[float] = []

    def timed(*given: object) -> None:
        begun = perf_counter()
        applied(*given)  # type: ignore[arg-type]
        held.append(1000 * (perf_counter() - begun))

    applied = live.apply
    target = Postgres("bench", "bench")
    copies = Copies(target, DumpTools(LocalProcesses(), str(server.tools), "bench"), root)
    with patch.dict("os.environ", {"PGSERVICEFILE": str(root / "services")}), copies.alone():
        unpacked = drafts.unpack(found.file, root / "states")
        copies.restore("before", unpacked.before)
        copies.restore("after", unpacked.after)
        copies.copy_live("first", [])
        copies.make("copy", "first")
        reversal = tried(copies, unpacked.scripts, [], found.draft.renames).reversal
        live.require(reversal, "It cannot be taken back")
        copies.keep()
        with patch.object(live, "apply", timed), reading(database) as waits:
            live.take_back(target.connect, copies, reversal, None, Record(found.sha256, None, {}), lambda _: None)
        if differences := live.compare(target.connect, copies):
            raise RuntimeError("; ".join(differences))
        copies.drop_kept()
    return held[-1], max(waits)


@contextmanager
def reading(database: Database) -> Iterator[list[float]]:
    """Read all old tables one after another until the block ends; yield the milliseconds of each read."""
    ended, waits = threading.Event(), list[float]()

    def read() -> None:
        with database.server.connect(**database.parameters(database.application)) as connection:
            while not ended.is_set():
                for number in range(OLD):
                    begun = perf_counter()
                    connection.execute(sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(f"t{number}")))
                    waits.append(1000 * (perf_counter() - begun))

    reader = threading.Thread(target=read)
    reader.start()
    try:
        yield waits
    finally:
        ended.set()
        reader.join()


if __name__ == "__main__":
    sys.exit(main())
