"""Measure the rollback of the database against the plan's own SQL, each on a fresh copy of the same large table."""

import argparse
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import psycopg
from comparison import plain, rounds_of
from large_table import INDEX, Bench, large_table
from scalar import medians
from traffic import traffic

from runbook_lib.config.plan import Database as DatabasePlan
from runbook_lib.documents import load_plan
from runbook_lib.postgres.backfill import Backfill
from runbook_lib.postgres.backfill_removal.guard import Records
from runbook_lib.postgres.backfill_removal.removal import BackfillRemoval
from runbook_lib.postgres.catalog import catalog
from runbook_lib.postgres.column_removal import Removal, drop_columns
from runbook_lib.postgres.connection import Postgres
from runbook_lib.postgres.migration_history import Applied, History
from runbook_lib.postgres.restore import cutover
from runbook_lib.postgres.restore.diff import diff
from runbook_lib.rehearsal.database import Database
from runbook_lib.rehearsal.postgres import binaries, clean_environment

ROOT = Path(__file__).resolve().parent.parent
WHOLE = load_plan(ROOT / "parameters" / "feat-2025-20251103111429.yaml")
PLAN = WHOLE.database
HISTORY = WHOLE.migration and History(Applied.by_version(WHOLE.migration, WHOLE.history_schema))
READER = 2.0  # seconds for which a transaction of someone else's is in the way of a lock
OPTION_A = """BEGIN;
UPDATE messages SET attachments = '[]'::jsonb, updated_at = NOW()
WHERE attachments @> '[{"source": "legacy_migration"}]'::jsonb;
SELECT COUNT(*) as cleared FROM messages WHERE attachments != '[]'::jsonb;
COMMIT;
"""


@dataclass(frozen=True)
class Line:
    """One figure: ours, the rival's, and the bar."""

    name: str
    ours: float
    rival: float | None
    unit: str
    measured: float  # what the bar is about: ours, or its ratio to the rival
    bar: float

    @property
    def kept(self) -> bool:
        """Whether the bar is kept."""
        return self.measured <= self.bar

    def __str__(self) -> str:
        rival = "" if self.rival is None else f"  plan {self.rival:9.2f} {self.unit}  ratio {self.ours / self.rival:5.2f}"
        return f"{self.name:58} ours {self.ours:9.2f} {self.unit}{rival}  bar <= {self.bar:g}: {_word(self.kept)}"


def _word(kept: bool) -> str:
    return "kept" if kept else "MISSED"


def by_psql(database: Database, text: str, *, tolerant: bool = False) -> None:
    """Run SQL through psql, as the plan says."""
    parameters = database.parameters(database.application)
    where = ["-h", parameters["host"], "-p", parameters["port"], "-U", parameters["user"], parameters["dbname"]]
    environment = {**clean_environment(), "PGPASSWORD": parameters["password"]}
    command = [str(binaries() / "psql"), "-q", "-v", "ON_ERROR_STOP=1", *where]
    subprocess.run(command, input=text, text=True, env=environment, stdout=subprocess.DEVNULL, check=not tolerant)


@contextmanager
def timed(into: list[float]) -> Iterator[None]:
    """Add the seconds that the block takes."""
    begun = time.monotonic()
    yield
    into.append(time.monotonic() - begun)


def wal(database: Database) -> float:
    """Return the position of the server's write-ahead log in bytes. Read-only."""
    with database.server.connect() as connection:
        row = connection.execute("SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn").fetchone()
    assert row is not None
    return float(row[0])


def untouched() -> DatabasePlan:
    """Return the plan's database part without `touch_column`, which a swap cannot set."""
    return PLAN.model_copy(update={"backfill": PLAN.backfill.model_copy(update={"touch_column": None})})


def cleared(postgres: Postgres, database: DatabasePlan, strategy: str, *, stopped: bool, proof: bool) -> None:
    """Clear the backfill as the step does, with or without the proof of the whole table."""
    work = BackfillRemoval(postgres.connect, Backfill(database, "bench"), strategy, stopped)
    if proof:
        with postgres.connect() as connection:
            Records(work.backfill).prepare(connection)
            work.proof.record(connection)
    work.apply([INDEX])
    if proof:
        with postgres.connect() as connection:
            found = work.proof.differences(connection)
            assert found == [], found


def option_a(bench: Bench, rounds: int) -> Iterator[Line]:
    """Measure option A on an idle server."""
    walls: dict[str, list[float]] = {name: [] for name in ("plan", "swap", "swap with proof", "batched")}
    logs: dict[str, list[float]] = {name: [] for name in walls}
    work: dict[str, Callable[[Database, Postgres], None]] = {
        "plan": lambda database, _: by_psql(database, OPTION_A),
        "swap": lambda _, postgres: cleared(postgres, untouched(), "swap", stopped=True, proof=False),
        "swap with proof": lambda _, postgres: cleared(postgres, untouched(), "swap", stopped=True, proof=True),
        "batched": lambda _, postgres: cleared(postgres, PLAN, "batched", stopped=True, proof=True),
    }
    for _ in range(rounds):
        for name, does in work.items():
            with bench.copy() as (database, postgres):
                before = wal(database)
                with timed(walls[name]):
                    does(database, postgres)
                logs[name].append((wal(database) - before) / 1e6)
    plan = median(walls["plan"])
    for name, bar in (("swap", 0.40), ("swap with proof", 0.55), ("batched", 0.85)):
        ours = median(walls[name])
        yield Line(f"A {name}, index and undo included", ours, plan, "s ", ours / plan, bar)
    ours, rival = median(logs["batched"]), median(logs["plan"])
    yield Line("A batched, write-ahead log", ours, rival, "MB", ours / rival, 0.7)


def stalls(bench: Bench, rounds: int) -> Iterator[Line]:
    """Measure the longest wait of an application that works meanwhile."""
    longest: dict[str, list[float]] = {}

    def during(name: str, does: Callable[[Database, Postgres], object]) -> None:
        for _ in range(rounds):
            with bench.copy() as (database, postgres):
                with traffic(database, bench.rows) as seen:
                    does(database, postgres)
                longest.setdefault(name, []).append(seen.longest)

    def removed(mode: str) -> Callable[[Database, Postgres], None]:
        def does(_: Database, postgres: Postgres) -> None:
            removal = Removal(postgres, PLAN, "bench", HISTORY)
            with removal.connect() as connection:
                shape = catalog(connection)
            if mode == "quarantine":
                drop_columns.set_aside(removal, shape, lambda _: None)
            else:
                drop_columns.copy(removal, shape, lambda *_: None, lambda _: None)
                drop_columns.drop(removal, lambda _: None)

        return does

    during("plan", lambda database, _: by_psql(database, OPTION_A))
    during("batched", lambda _, postgres: cleared(postgres, PLAN, "batched", stopped=False, proof=False))
    during("swap", lambda _, postgres: cleared(postgres, untouched(), "swap", stopped=False, proof=False))
    plan = median(longest["plan"])
    for name, bar in (("batched", 100.0), ("swap", 300.0)):
        ours = median(longest[name])
        yield Line(f"A {name}, longest stall at 150 tps", ours, plan, "ms", ours, bar)
    for mode, bar in (("quarantine", 150.0), ("drop", 300.0)):
        during(mode, removed(mode))
        ours = median(longest[mode])
        yield Line(f"B {mode}, longest stall at 150 tps", ours, None, "ms", ours, bar)
        during(f"{mode}, in the way", in_the_way(removed(mode)))
        ours = median(longest[f"{mode}, in the way"])
        yield Line(f"B {mode}, the same with a reader in the way for {READER:g} s", ours, None, "ms", ours, bar)


def in_the_way(does: Callable[[Database, Postgres], object]) -> Callable[[Database, Postgres], None]:
    """Measure the same, begun while a transaction that has read the table is idle."""

    def with_reader(database: Database, postgres: Postgres) -> None:
        with psycopg.connect(database.conninfo(database.application)) as reader:
            reader.execute("SELECT id FROM messages LIMIT 1")
            leaving = threading.Timer(READER, reader.commit)
            leaving.start()
            does(database, postgres)
            leaving.join()

    return with_reader


def option_c(bench: Bench, rounds: int) -> Iterator[Line]:
    """Measure option C: the comparison with the database before the backfill, and the exchange of the two."""
    compared: list[float] = []
    closed: list[float] = []
    fenced: list[float] = []
    for _ in range(rounds):
        with bench.copy() as (live, postgres):
            side = live.clone(f"{live.name}_side")
            by_psql(side, "UPDATE messages SET attachments = '[]' WHERE media_url IS NOT NULL;")
            begun = time.monotonic()
            with cutover.fenced(postgres, live.name, lambda _: None) as holder:
                with timed(compared):
                    ledger = diff(
                        postgres.connect, lambda postgres=postgres, side=side: postgres.connect(side.name), PLAN, []
                    )
                assert not ledger.unknown
                closed.append(
                    cutover.cut_over(
                        postgres,
                        live.name,
                        side.name,
                        f"{live.name}_before",
                        holder,
                        last=lambda: None,
                        renamed=lambda _: None,
                        ended=lambda _: None,
                    )
                )
            fenced.append(time.monotonic() - begun)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    yield Line("C memory of this whole client at its peak", peak, None, "MB", peak, 200.0)
    whole = _restored(bench)
    yield Line("C cannot connect; the plan's pg_restore -c", median(closed), whole, "s ", median(closed), 1.0)
    beyond = median([f - c for f, c in zip(fenced, compared, strict=True)])
    yield Line("C cannot write beyond the comparison; pg_restore -c", beyond, whole, "s ", beyond, 1.0)


def comparison(bench: Bench, rounds: int) -> Iterator[Line]:
    """Measure the comparison of two databases as ratios: to a plain hash of both, to reladiff, to streaming every row."""
    for found in rounds_of(bench, rounds, PLAN):
        name = f"C comparison, one row in {found.share} differing"
        few = found.share >= 1_000
        ratio = found.blocks / found.plain
        yield Line(f"{name}, by two plain hashes", ratio, None, "x ", ratio, 2.0 if few else 5.0)
        ratio = found.blocks / found.streamed
        yield Line(f"{name}, by streaming every row", ratio, None, "x ", ratio, 0.9 if few else 1.1)
        if found.reladiff is not None:
            ratio = found.blocks / found.reladiff
            yield Line(f"{name}, by reladiff", ratio, None, "x ", ratio, 0.15 if few else 0.5)


def _restored(bench: Bench) -> float:
    """Return the seconds of the plan's own restore into the live database, which nobody can use meanwhile."""
    seconds: list[float] = []
    with bench.copy() as (database, _):
        parameters = database.parameters(database.application)
        where = ["-h", parameters["host"], "-p", parameters["port"], "-U", parameters["user"], "-d", parameters["dbname"]]
        environment = {**clean_environment(), "PGPASSWORD": parameters["password"]}
        dump = bench.services.with_name("bench.dump")
        tools = binaries()
        subprocess.run([str(tools / "pg_dump"), "-Fc", *where, "-f", str(dump)], env=environment, check=True)
        with timed(seconds):
            subprocess.run(
                [str(tools / "pg_restore"), *where, "-c", str(dump)], env=environment, check=False, stderr=subprocess.DEVNULL
            )
    return seconds[0]


def proof(bench: Bench, rounds: int) -> Iterator[Line]:
    """Measure the proof of untouched data as a ratio to a plain hash of the table, both on one core."""
    seconds: list[float] = []
    by_hash: list[float] = []
    with bench.copy() as (database, postgres):
        work = BackfillRemoval(postgres.connect, Backfill(PLAN, "bench"), "keyed", stopped=True)
        with postgres.connect() as connection:
            Records(work.backfill).prepare(connection)
            connection.execute("SET max_parallel_workers = 0")
            for _ in range(rounds):
                with timed(seconds):
                    work.proof.record(connection)
                work.proof.forget(connection)
                by_hash.append(plain(database))
    ratio = median(seconds) / median(by_hash)
    yield Line("Proof of untouched data, by a plain hash", ratio, None, "x ", ratio, 2.0)


def scalar(bench: Bench, rounds: int) -> Iterator[Line]:
    """Measure the removal of a plain column's backfill with loaded values of a backup; the rival is one UPDATE … FROM."""
    bars = {"swap": 0.55, "batched": 0.85}
    for mix, name, ours, rival in medians(bench, rounds):
        yield Line(f"A scalar {name}, proof included, {mix}", ours, rival, "s ", ours / rival, bars[name])


MEASURES = (option_c, comparison, proof, option_a, stalls, scalar)


def main() -> int:
    """Measure every figure; return 1 if one misses its bar."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=2_000_000, help="rows in the table (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of each measurement (default: %(default)s)")
    parser.add_argument(
        "--disk", type=float, default=0, help="MB/s that the disk takes at most, as a cloud's volume; as root"
    )
    parser.add_argument(
        "--holes", action="store_true", help="the table as one UPDATE backfilled it, vacuumed since: a quarter of it is free"
    )
    parser.add_argument("--only", choices=[each.__name__ for each in MEASURES], help="one part of the figures")
    options = parser.parse_args()
    kept = True
    with large_table(options.rows, holes=options.holes, disk=options.disk) as bench:
        for measure in (each for each in MEASURES if options.only in (None, each.__name__)):
            for line in measure(bench, options.rounds):
                print(line, flush=True)
                kept = kept and line.kept
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
