"""Measure the comparison of two databases as ratios within one run: to a plain hash of both tables, and to reladiff."""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import psycopg
from large_table import Bench
from psycopg import sql

from runbook_lib.config.plan import Database as DatabasePlan
from runbook_lib.postgres.connection import Postgres
from runbook_lib.postgres.restore import diff as comparing
from runbook_lib.rehearsal.database import Database

RELADIFF = "reladiff[postgresql]==0.6.0"  # the rival; it is installed for the benchmark alone
SHARES = (10_000, 1_000, 3)  # one row in so many differs
PLAIN = """SELECT count(*), bit_xor(h), sum(h) FROM (SELECT hash_record_extended(ROW(id, conversation_id, sender_id, content,
media_type, media_url, created_at, updated_at, attachments, replied_to_message_id), 0) AS h FROM messages) t"""
BY_RELADIFF = """import json, sys
from reladiff import connect, diff_tables, TableSegment
tables = []
for parameters in json.loads(sys.stdin.read()):
    database = connect({"driver": "postgresql", **parameters}, 2)
    columns = ("conversation_id", "sender_id", "content", "media_type", "media_url", "created_at", "updated_at",
               "attachments", "replied_to_message_id")
    tables.append(TableSegment(database, ("messages",), ("id",), extra_columns=columns))
print(len({key for _, (key, *_) in diff_tables(*tables)}))
"""


@dataclass(frozen=True)
class Compared:
    """The seconds of one round in which one row of `share` differs."""

    share: int
    blocks: float
    streamed: float  # every row's hashes streamed, as where blocks are not worth it
    plain: float  # a plain hash of the table, in one database and then in the other
    reladiff: float | None


def rounds_of(bench: Bench, rounds: int, plan: DatabasePlan) -> Iterator[Compared]:
    """Return the medians of some rounds for each share of differing rows; the rivals take turns."""
    with tempfile.TemporaryDirectory(prefix="reladiff-") as directory:
        rival = _reladiff(Path(directory))
        for share in SHARES:
            seen = list(_round(bench, rounds, plan, share, rival))
            yield Compared(
                share,
                median(each.blocks for each in seen),
                median(each.streamed for each in seen),
                median(each.plain for each in seen),
                median(each.reladiff for each in seen if each.reladiff is not None) if rival else None,
            )


def _round(bench: Bench, rounds: int, plan: DatabasePlan, share: int, rival: Path | None) -> Iterator[Compared]:
    with bench.copy() as (live, postgres):
        side = live.clone(f"{live.name}_side")
        with psycopg.connect(side.conninfo(side.application), autocommit=True) as connection:
            change = sql.SQL("UPDATE messages SET content = content || '!' WHERE id % {} = 0").format(sql.Literal(share))
            wanted = connection.execute(change).rowcount
        for each in (live, side):
            with psycopg.connect(each.conninfo(), autocommit=True) as connection:
                connection.execute("VACUUM (ANALYZE)")
        for number in range(rounds):
            work: dict[str, Callable[[], float | None]] = {
                "blocks": lambda: _ours(postgres, side, plan, wanted),
                "plain": lambda: sum(plain(each) for each in (live, side)),
                "streamed": lambda: _streamed(postgres, side, plan, wanted),
                "reladiff": lambda: _theirs(rival, live, side, wanted) if rival else None,
            }
            if number:  # it takes longest, and is far off
                work["reladiff"] = lambda: None
            names = list(work) if number % 2 == 0 else list(work)[::-1]
            found = {name: work[name]() for name in names}
            yield Compared(share, *(found[name] for name in ("blocks", "streamed", "plain", "reladiff")))  # type: ignore[arg-type]


def _ours(postgres: Postgres, side: Database, plan: DatabasePlan, wanted: int) -> float:
    begun = time.monotonic()
    ledger = comparing.diff(postgres.connect, lambda: postgres.connect(side.name), plan, [])
    seconds = time.monotonic() - begun
    assert sum(ledger.table("public.messages").counts.values()) == wanted
    return seconds


def _streamed(postgres: Postgres, side: Database, plan: DatabasePlan, wanted: int) -> float:
    by_blocks, comparing.blocks = comparing.blocks, lambda *_: None
    try:
        return _ours(postgres, side, plan, wanted)
    finally:
        comparing.blocks = by_blocks


def plain(database: Database) -> float:
    """Return the seconds of a plain hash of each row of the table, on one core. Read-only."""
    with psycopg.connect(database.conninfo(database.application)) as connection:
        connection.execute("SET max_parallel_workers_per_gather = 0; SET jit = off")
        begun = time.monotonic()
        connection.execute(PLAIN)
        return time.monotonic() - begun


def _theirs(rival: Path, live: Database, side: Database, wanted: int) -> float:
    names = {"host": "host", "port": "port", "user": "user", "password": "password", "dbname": "database"}
    given = [{names[key]: value for key, value in each.parameters().items() if key in names} for each in (live, side)]
    begun = time.monotonic()
    done = subprocess.run(
        [rival, "-c", BY_RELADIFF], input=json.dumps(given), capture_output=True, text=True, check=True, timeout=600
    )
    seconds = time.monotonic() - begun
    assert int(done.stdout) == wanted, done.stdout
    return seconds


def _reladiff(directory: Path) -> Path | None:
    """Return the Python of an environment that has it, or None if it cannot be installed."""
    python = directory / "bin" / "python"
    steps = ([sys.executable, "-m", "venv", directory], [python, "-m", "pip", "install", "--quiet", RELADIFF])
    for step in steps:
        done = subprocess.run(step, capture_output=True, text=True, check=False, timeout=300)
        if done.returncode:
            print(f"reladiff cannot be installed, so it is not measured: {done.stderr.strip().splitlines()[-1]}", flush=True)
            return None
    return python
