"""Measure how long clients of PgBouncer wait for a query while steps hold strong locks, with PAUSE and without.

pooler.py [--rows 20000] [--rounds 2]     exit status 1 if a client gets an error, or waits longer than the bar
"""

import argparse
import itertools
import os
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import psycopg  # noqa: E402
from psycopg import sql  # noqa: E402

from runbook_lib.rehearsal.database import Database, create_database  # noqa: E402
from runbook_lib.rehearsal.postgres import embedded_server  # noqa: E402
from runbook_lib.run import engine  # noqa: E402
from tests.support.bare import bare  # noqa: E402
from tests.support.behind import Behind, last  # noqa: E402
from tests.support.pgbouncer import PgBouncer, pgbouncer, program  # noqa: E402

STEPS = ("swap", "quarantine", "exchange")
RATE, CLIENTS = 150, 16  # transactions a second, and how many clients make them; the pool has 10 connections
AROUND = 1.0  # seconds of traffic before and after
AGAIN = 0.005  # seconds before a client whose transaction failed connects again, as the pools of applications do at once
BAR = 0.02  # of the worst wait without PAUSE
QUERIES = (  # each row keeps its values, so that the proofs and counts of the steps hold
    "SELECT content, media_url FROM messages WHERE id = {id}",
    "UPDATE messages SET content = content WHERE id = {id}",
)


@dataclass
class Seen:
    """The longest wait for a transaction, from when it was due until it succeeded, in milliseconds; and the errors."""

    longest: float = 0.0
    errors: list[str] = field(default_factory=list)
    transactions: int = 0


@contextmanager
def traffic(bouncer: PgBouncer, rows: int) -> Iterator[Seen]:
    """Run 150 transactions a second through the pooler while the block runs; retry failures, whose wait continues."""
    seen, numbers, lock, ended = Seen(), itertools.count(), threading.Lock(), threading.Event()
    begun = time.monotonic()

    def succeed(connection: psycopg.Connection | None, number: int) -> psycopg.Connection:
        while True:
            try:
                connection = connection or bouncer.connect()
                with connection.transaction():
                    for query in QUERIES:
                        connection.execute(query.format(id=number % rows + 1))  # type: ignore[call-overload]
                return connection
            except psycopg.Error as error:
                seen.errors.append(str(error).strip())
                if connection:
                    connection.close()
                connection = None
                time.sleep(AGAIN)

    def work() -> None:
        connection = None
        while not ended.is_set():
            with lock:
                number = next(numbers)
            due = begun + number / RATE
            time.sleep(max(0.0, due - time.monotonic()))
            connection = succeed(connection, number)
            seen.longest = max(seen.longest, 1000 * (time.monotonic() - due))
            seen.transactions += 1
        if connection:
            connection.close()

    threads = [threading.Thread(target=work) for _ in range(CLIENTS)]
    for thread in threads:
        thread.start()
    try:
        time.sleep(AROUND)
        yield seen
        time.sleep(AROUND)
    finally:
        ended.set()
        for thread in threads:
            thread.join()


def measured(template: Database, rows: int, what: str, number: int, *, pause: bool) -> Seen:
    """Return what clients see of one step on a database of its own."""
    database = template.clone(f"bench_{number}")
    with tempfile.TemporaryDirectory(prefix="bench-") as directory:
        root, services = Path(directory) / "target", Path(directory) / "services"
        root.mkdir()
        lines = (f"{name}={value}" for name, value in database.parameters(database.runbook).items())
        services.write_text("\n".join(["[test]", *lines, ""]))
        os.environ |= {"PGSERVICEFILE": str(services), "BARE_TOKEN": "none"}
        with pgbouncer(database) as bouncer, bare(database, root) as target:
            behind = Behind(target, bouncer, services)
            if pause:
                behind.name()
            run = behind.begun(what)
            with traffic(bouncer, rows) as seen:
                engine.apply(run, last(run))
            run.close_adapters()
    with template.server.connect() as connection:
        for (name,) in connection.execute("SELECT datname FROM pg_database WHERE datname LIKE %s", [f"{database.name}%"]):
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
    return seen


def main() -> int:
    """Measure each step both ways, print the worst of both and whether the bar is kept."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=2)
    arguments = parser.parse_args()
    if program() is None:
        print("PgBouncer is not installed; `.ci/setup test` installs it")
        return 1
    worst, errors, numbers = {True: 0.0, False: 0.0}, {True: 0, False: 0}, itertools.count()
    with embedded_server() as server:
        template = create_database(server, arguments.rows)
        for what in STEPS:
            for pause in (False, True) * arguments.rounds:
                seen = measured(template, arguments.rows, what, next(numbers), pause=pause)
                worst[pause], errors[pause] = max(worst[pause], seen.longest), errors[pause] + len(seen.errors)
                how = "with PAUSE" if pause else "without   "
                print(f"{what:10} {how} worst {seen.longest:8.0f} ms, {len(seen.errors)} errors", flush=True)
    share = worst[True] / worst[False]
    print(f"all        with PAUSE worst {worst[True]:.0f} ms of {worst[False]:.0f} ms without: {share:.1%}")
    kept = share <= BAR and not errors[True]
    print(f"bar {BAR:.0%} and no error with PAUSE: {'kept' if kept else 'MISSED'}")
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
