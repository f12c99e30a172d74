"""PgBouncer in front of the database: checked beforehand, paused for each strong lock, and resumed whatever happens."""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import pytest

from runbook_lib.errors import AdapterError, PreconditionError, StepFailed
from runbook_lib.postgres import fence, lock_budget
from runbook_lib.postgres import pooler as console
from runbook_lib.postgres.pooler import Pooler
from runbook_lib.postgres.restore import cutover
from runbook_lib.rehearsal.database import Database
from runbook_lib.run import cleanup, engine
from runbook_lib.steps import Effect, pausing

from ..support.bare import runbook, words
from ..support.behind import Behind, killed, last
from ..support.pgbouncer import PgBouncer, pgbouncer, program
from ..support.waiting import until

BETWEEN = 0.01  # seconds between two queries of one client
READ, WRITE = "SELECT content FROM messages WHERE id = 1", "UPDATE messages SET content = content WHERE id = 2"
pytestmark = pytest.mark.skipif(program() is None, reason="PgBouncer is not installed; `.ci/setup test` installs it")


@dataclass
class Seen:
    """What clients of the pooler saw: the longest wait in seconds, and errors."""

    longest: float = 0.0
    errors: list[str] = field(default_factory=list)
    queries: int = 0


@contextmanager
def clients(bouncer: PgBouncer, *queries: str) -> Iterator[Seen]:
    """Clients at work through a pooler while the block runs, one for each query."""
    seen, ended = Seen(), threading.Event()

    def work(query: str) -> None:
        try:
            with bouncer.connect() as connection:
                while not ended.wait(BETWEEN):
                    begun = time.monotonic()
                    connection.execute(query)  # type: ignore[call-overload]
                    seen.longest = max(seen.longest, time.monotonic() - begun)
                    seen.queries += 1
        except psycopg.Error as error:
            seen.errors.append(str(error))

    threads = [threading.Thread(target=work, args=[query]) for query in queries]
    for thread in threads:
        thread.start()
    try:
        yield seen
    finally:
        ended.set()
        for thread in threads:
            thread.join()


@pytest.mark.parametrize("what", ["swap", "quarantine", "drop", "exchange"])
def test_clients_wait_for_each_strong_lock_and_get_no_error(behind: Behind, what: str) -> None:
    behind.name()
    run = behind.begun(what)

    with clients(behind.bouncer, READ, READ, WRITE) as seen:
        engine.apply(run, last(run))
        applied = len(behind.journaled("poolers-resumed"))
        engine.undo(run, last(run))

    assert seen.errors == []
    assert 0 < applied < len(behind.journaled("poolers-resumed"))
    assert seen.queries > 0
    assert "paused-pooler" not in behind.pending()
    assert not behind.bouncer.is_paused()


def test_a_fence_lets_transactions_in_progress_end(behind: Behind) -> None:
    behind.name()
    run, told = behind.begun("fence"), list[object]()
    client = behind.bouncer.connect(behind.target.database.application.name)
    client.execute("BEGIN")
    client.execute(WRITE)

    def end() -> None:
        while not behind.bouncer.is_paused():
            time.sleep(BETWEEN)
        told.append(client.execute("COMMIT").statusmessage)

    with client:
        ending = threading.Thread(target=end)
        ending.start()
        engine.apply(run, last(run))
        ending.join()

    assert told == ["COMMIT"]
    assert behind.journaled("sessions-ended") == []
    assert not behind.bouncer.is_paused()


@pytest.mark.newest
def test_stopped_services_leave_no_connection_in_the_pooler(behind: Behind) -> None:
    behind.name()
    with behind.bouncer.connect(behind.target.database.application.name) as client:
        client.execute(READ)

    behind.begun("quarantine")

    assert {data["status"] for data in behind.journaled("checked")} == {"PASS"}


@pytest.mark.newest
def test_the_preview_says_for_how_long_clients_wait(behind: Behind) -> None:
    behind.name(limit_ms=300)

    planned = behind.planned("quarantine")

    assert "its clients wait up to 450 ms (300 for transactions in progress), and get no error" in words(planned.text)
    assert "Each pooler can be paused, and leads to the database" in words(planned.text)


@pytest.mark.newest
def test_a_waiver_continues_without_the_pause(behind: Behind) -> None:
    behind.name()
    run = behind.begun("quarantine")
    behind.bouncer.stop()
    run.waive("pooler", "it is out of order tonight")
    run.refresh()

    engine.apply(run, last(run))

    assert behind.journaled("poolers-resumed") == []


TOO_LONG = "Running transactions took longer than PAUSE of PgBouncer may wait"


@pytest.mark.newest
@pytest.mark.parametrize("what", ["quarantine", "exchange", "fence"])
def test_a_transaction_that_does_not_end_stops_the_step_without_a_change(behind: Behind, what: str) -> None:
    behind.name(limit_ms=100)
    run = behind.begun(what)
    with behind.bouncer.connect() as client, pytest.MonkeyPatch.context() as patched:
        patched.setattr(pausing, "BETWEEN", 0.1)
        client.execute("BEGIN")
        client.execute(READ)

        with clients(behind.bouncer, READ) as seen, pytest.raises(StepFailed, match=f"{TOO_LONG}.*SELECT content"):
            engine.apply(run, last(run))

        assert (seen.errors, seen.longest < 5) == ([], True)
        assert run.steps[last(run)].probe().effect is Effect.NOT_DONE
        assert (behind.bouncer.is_paused(), behind.pending().count("paused-pooler")) == (False, 0)
        assert len(behind.journaled("waiting")) == pausing.TRIES
        client.execute("COMMIT")

    assert engine.apply(run, last(run)).how == "done"


@pytest.mark.newest
@pytest.mark.parametrize(
    ("what", "module", "name"),
    [
        pytest.param("swap", lock_budget, "limit", id="swap"),
        pytest.param("quarantine", lock_budget, "limit", id="quarantine"),
        pytest.param("exchange", cutover, "let_in", id="exchange"),
        pytest.param("exchange", cutover, "_lock", id="exchange, before its fence"),
        pytest.param("fence", fence, "end_sessions", id="fence"),
    ],
)
def test_clients_of_a_killed_process_continue_at_once(behind: Behind, what: str, module: Any, name: str) -> None:
    behind.name()
    run = behind.begun(what)
    killed(lambda: engine.apply(run, last(run)), module, name)

    until(lambda: not behind.bouncer.is_paused(), "its guard resumes")
    assert behind.pending().count("paused-pooler") == 1
    cleanup.clean_up_due(run)
    assert behind.pending().count("paused-pooler") == 0
    assert engine.apply(run, last(run)).results


@pytest.mark.newest
def test_without_its_guard_they_continue_with_the_next_command(behind: Behind) -> None:
    behind.name()
    run = behind.begun("quarantine")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(pausing, "resumed_if_killed", lambda _: nullcontext())  # as where the machine is lost
        killed(lambda: engine.apply(run, last(run)), lock_budget, "limit")
    assert (behind.bouncer.is_paused(), behind.pending().count("paused-pooler")) == (True, 1)
    assert "paused-pooler" in runbook("status", behind.target.run).text

    cleanup.clean_up_due(run)

    assert (behind.bouncer.is_paused(), behind.pending().count("paused-pooler")) == (False, 0)


@pytest.mark.newest
def test_a_waiver_frees_a_run_whose_console_is_gone_for_good(behind: Behind, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pausing, "RESUMED_WITHIN", 0.1)
    behind.name()
    run = behind.begun("quarantine")
    killed(lambda: engine.apply(run, last(run)), lock_budget, "limit")
    behind.bouncer.stop()
    with pytest.raises(AdapterError, match="RESUME failed") as refused:
        cleanup.clean_up_due(run)

    run.waive("pooler", "its machine is lost")
    run.refresh()
    cleanup.clean_up_due(run)
    cleanup.clean_up_due(run)

    assert '--waive "pooler: REASON"' in refused.value.safe_next
    assert len([data for data in behind.journaled("owed") if "may still wait" in data["text"]]) == 1
    said = words(runbook("status", behind.target.run).text)
    assert "paused-pooler: clients of PgBouncer console" in said
    assert "resume by hand: psql service=console -c 'RESUME" in said
    assert engine.apply(run, last(run)).results
    digest, _ = cleanup.preview(run, "paused-pooler")
    cleanup.clean_up(run, digest, digest, "paused-pooler")
    assert "paused-pooler" not in behind.pending()


@pytest.mark.newest
@pytest.mark.slow
def test_the_same_command_resumes_them_first(behind: Behind) -> None:
    behind.name()
    assert behind.planned("quarantine").exit_code == 0
    assert behind.target.crashed("runbook_lib.steps.pausing:Pausing.resume") == -signal.SIGKILL
    until(lambda: not behind.bouncer.is_paused(), "its guard resumes")

    ended = behind.target.executed()

    assert (ended.exit_code, behind.target.status()) == (0, "verified"), ended.text
    assert not behind.bouncer.is_paused()


@pytest.mark.newest
def test_resumed_by_somebody_else_meanwhile_is_journaled_and_no_error(
    behind: Behind, monkeypatch: pytest.MonkeyPatch
) -> None:
    behind.name()
    run, limit, name = behind.begun("quarantine"), lock_budget.limit, behind.target.database.name

    def resumed(*given: Any) -> None:
        if behind.bouncer.is_paused():
            behind.bouncer.ask(f"RESUME {name}")
        limit(*given)

    monkeypatch.setattr(lock_budget, "limit", resumed)

    engine.apply(run, last(run))

    assert [f"{name} of console"] in [data["others"] for data in behind.journaled("poolers-resumed")]
    assert "paused-pooler" not in behind.pending()


@pytest.mark.newest
def test_a_resume_that_fails_stays_pending_and_says_how_to_do_it(behind: Behind, monkeypatch: pytest.MonkeyPatch) -> None:
    behind.name()
    run, limit = behind.begun("quarantine"), lock_budget.limit
    monkeypatch.setattr(pausing, "RESUMED_WITHIN", 0.1)

    def gone(*given: Any) -> None:
        if behind.bouncer.is_paused():
            behind.bouncer.stop()
        limit(*given)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(lock_budget, "limit", gone)
        with pytest.raises(StepFailed, match="RESUME failed") as failed:
            engine.apply(run, last(run))

    assert "psql service=console -c 'RESUME" in failed.value.safe_next
    assert "paused-pooler" in behind.pending()
    behind.bouncer.start()
    assert engine.apply(run, last(run)).results
    cleanup.clean_up_due(run)
    assert "paused-pooler" not in behind.pending()


@pytest.mark.newest
def test_several_poolers_are_paused_and_each_resumed_by_itself(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    services = tmp_path / "consoles"
    monkeypatch.setenv("PGSERVICEFILE", str(services))
    with pgbouncer(database) as one, pgbouncer(database) as other:
        both = [
            Pooler(f"service={bouncer.service(services, name)}", (database.name,), 0.2)
            for name, bouncer in {"one": one, "other": other}.items()
        ]
        console.pause(both)
        assert (one.is_paused(), other.is_paused()) == (True, True)
        with pytest.raises(PreconditionError, match="is paused already"):
            console.pause(both)
        other.stop()

        with pytest.raises(AdapterError, match="cannot be reached"):
            console.resume(both)

        assert not one.is_paused()


def test_after_resume_each_client_has_a_new_session_of_the_server(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So no cached plan and no session of an earlier database outlasts a pause."""
    monkeypatch.setenv("PGSERVICEFILE", str(tmp_path / "consoles"))
    with pgbouncer(database) as bouncer, bouncer.connect() as client:
        pooler = Pooler(f"service={bouncer.service(tmp_path / 'consoles', 'one')}", (database.name,), 1.0)
        before = client.execute("SELECT pg_backend_pid()").fetchone()

        console.pause([pooler])
        assert console.resume([pooler]) == []

        assert client.execute("SELECT pg_backend_pid()").fetchone() != before
