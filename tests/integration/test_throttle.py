"""Batches on a live table give way: to sessions that wait for them, and to replicas that fall behind."""

import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psycopg
import pytest

from runbook_lib.config.plan import Plan
from runbook_lib.postgres.backfill import Backfill
from runbook_lib.postgres.backfill_removal import throttle
from runbook_lib.postgres.backfill_removal.removal import BackfillRemoval, Progress
from runbook_lib.postgres.connection import Connection, Postgres
from runbook_lib.rehearsal.database import Database
from runbook_lib.rehearsal.postgres import Server, clean_environment, user_namespace
from runbook_lib.rehearsal.workspace import until, workspace


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throttle, "PAUSE", 0.02)


@pytest.fixture
def backfill(plan: Plan) -> Backfill:
    return Backfill(plan.database, "test")


def live(postgres: Postgres, backfill: Backfill, strategy: str, told: Callable[[int, str], object]) -> BackfillRemoval:
    return BackfillRemoval(postgres.connect, backfill, strategy, stopped=False, progress=Progress(cleared=told))


@contextmanager
def standby(server: Server) -> Iterator[psycopg.Connection]:
    """A streaming replica of the server that has caught up, and its superuser's session in it."""
    assert server.tools
    with workspace() as root:
        data, environment = root / "data", {**clean_environment(), "PGPASSWORD": server.parameters["password"]}
        where = ["-h", server.parameters["host"], "-p", server.parameters["port"], "-U", server.parameters["user"]]
        made = [str(server.tools / "pg_basebackup"), *where, "-D", str(data), "-R", "-X", "stream", "-c", "fast"]
        subprocess.run(made, env=environment, check=True)
        data.chmod(0o700)
        running = [*user_namespace(), str(server.tools / "postgres"), "-D", str(data), "-k", str(root)]
        with (root / "log").open("wb") as log:
            process = subprocess.Popen(running, env=clean_environment(), stdout=log, stderr=subprocess.STDOUT)
        replica = Server({**server.parameters, "host": str(root)})
        try:
            assert until(replica.answers, 20), (root / "log").read_text()
            with replica.connect() as session:
                yield session
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(20)


def replays(connection: Connection) -> bool:
    row = connection.execute("SELECT bool_and(replay_lsn >= pg_current_wal_lsn()) AS it FROM pg_stat_replication").fetchone()
    return bool(row and row["it"])


@pytest.mark.parametrize(("live", "largest"), [(True, throttle.LARGEST_LIVE), (False, throttle.LARGEST)])
def test_a_batch_spans_fewer_pages_while_others_use_the_table(
    connection: Connection, backfill: Backfill, live: bool, largest: int
) -> None:
    pace = throttle.Throttle(connection, lambda *_: None, lambda: "resume", considerate=live)

    assert throttle.resized(largest, 0.01, pace.largest) == largest
    assert throttle.LARGEST_LIVE < throttle.LARGEST


def test_a_replica_whose_replay_stops_holds_batches_up_until_it_continues(
    postgres: Postgres, database: Database, connection: Connection, backfill: Backfill, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(throttle, "LAG", 0.01)
    said: list[str] = []
    with standby(database.server) as replica:
        assert until(lambda: replays(connection), 10)
        replica.execute("SELECT pg_wal_replay_pause()")
        connection.execute("CREATE TABLE written_since (it int)")
        looks = throttle.Replicas()
        assert until(lambda: looks.lag(connection) > 1.0, 5)  # the server's own replay_lag does not change

        def told(rows: int, why: str) -> None:
            if "a replica is" in why:
                said.append(why)
                monkeypatch.setattr(throttle, "LAG", 1000.0)  # it goes on and catches up, sooner or later
                replica.execute("SELECT pg_wal_replay_resume()")

        live(postgres, backfill, "batched", told).apply()

    assert len(said) == 1
    assert backfill.count(connection) == 0


@pytest.mark.parametrize("strategy", ["batched", "keyed", "swap"])
def test_a_session_that_waits_for_this_run_holds_batches_up_meanwhile(
    postgres: Postgres, database: Database, connection: Connection, backfill: Backfill, strategy: str
) -> None:
    before, said = backfill.count(connection), list[str]()
    with postgres.connect() as holding, psycopg.connect(database.conninfo(database.application)) as waiting:
        holding.execute("CREATE SCHEMA IF NOT EXISTS runbook")
        holding.execute("BEGIN")
        holding.execute("SELECT FROM conversations WHERE id = 1 FOR UPDATE")
        blocked = threading.Thread(target=lambda: waiting.execute("UPDATE conversations SET title = title WHERE id = 1"))
        blocked.start()
        pid = waiting.info.backend_pid
        slow = f"SELECT clock_timestamp() - query_start > interval '0.25 s' AS it FROM pg_stat_activity WHERE pid = {pid}"
        assert until(lambda: (row := connection.execute(slow.encode()).fetchone()) is not None and row["it"], 5)

        def told(rows: int, why: str) -> None:
            if why:
                said.append(why)
                assert backfill.count(connection) == before  # it began nothing
                holding.execute("COMMIT")
                blocked.join()

        live(postgres, backfill, strategy, told).apply()

    assert len(said) == 1
    assert said[0].startswith(f"waiting: pid {pid} (social_selling_user) waits for this run: UPDATE conversations")
    assert backfill.count(connection) == 0
