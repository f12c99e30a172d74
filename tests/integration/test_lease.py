"""One run per target: two engineers at once, a lost network, a takeover, a pooler, and the remains of a dead process."""

import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest

from runbook_lib.errors import AdapterError, PreconditionError
from runbook_lib.postgres.connection import Connection, Postgres
from runbook_lib.postgres.lease import Holder, Lease, holder
from runbook_lib.rehearsal.database import Database
from runbook_lib.rehearsal.workspace import until

from ..support.relay import Pooler, Relay, Strict

Relayed = Callable[..., tuple[Postgres, Relay]]

ENGINEER = """
import sys
from runbook_lib.postgres.connection import Postgres
from runbook_lib.postgres.lease import Lease
with Lease(Postgres("test", "other"), "run-of-bo", "Bo").held(acted=False):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def ann(postgres: Postgres) -> Lease:
    return Lease(postgres, "run-of-ann", "Ann")


@pytest.fixture
def bo(postgres: Postgres) -> Lease:
    return Lease(postgres, "run-of-bo", "Bo")


def held(lease: Lease) -> None:
    with lease.held(acted=True):
        pass


def epoch(connection: Connection) -> int:
    found = holder(connection)
    assert found
    return found.epoch


def working(lease: Lease) -> AbstractContextManager[Connection]:
    """A connection of a run, as its steps have it."""
    return Postgres("test", "test", lease.check).connect()


def commit(connection: Connection) -> None:
    with connection.transaction():
        connection.execute("CREATE TABLE IF NOT EXISTS runbook.written (it int)")
        connection.execute("INSERT INTO runbook.written VALUES (1)")


def took(lease: Lease) -> list[tuple[Holder, int]]:
    found: list[tuple[Holder, int]] = []
    lease.take_over(lambda before, epoch: found.append((before, epoch)))
    return found


# --- two engineers at once


def test_of_two_engineers_the_second_is_shown_who_acts(ann: Lease, bo: Lease) -> None:
    with ann.held(acted=False), pytest.raises(PreconditionError) as refused:
        held(bo)

    assert "acts on this target now: Ann on " in refused.value.what
    assert "run run-of-ann, since 20" in refused.value.what
    assert "server session " in refused.value.what
    assert refused.value.state == "This process changed nothing."


@pytest.mark.newest
def test_two_engineers_in_two_processes(ann: Lease) -> None:
    with engineer() as other, pytest.raises(PreconditionError, match=f"pid {other.pid}, run run-of-bo"):
        held(ann)


@pytest.mark.newest
def test_the_lock_of_a_killed_process_is_free_and_its_run_is_not(ann: Lease) -> None:
    with engineer() as other:
        other.kill()
        other.wait()

    assert until(lambda: "left behind" in refusal(ann), 5)


@pytest.mark.newest
def test_a_run_that_waits_between_two_steps_keeps_the_target(ann: Lease, bo: Lease) -> None:
    held(ann)

    with pytest.raises(PreconditionError, match="was left behind on this target, or waits: Ann on ") as refused:
        held(bo)

    assert "--take-over" in refused.value.safe_next


@pytest.mark.newest
def test_two_notebooks_of_one_run_share_it(ann: Lease, postgres: Postgres, connection: Connection) -> None:
    second = Lease(postgres, ann.run, "Cy")
    for acts in (ann, second):
        with acts.held(acted=acts is second), working(acts) as of_run:
            commit(of_run)

    found = holder(connection)
    assert found
    assert (found.run, found.operator, found.epoch) == ("run-of-ann", "Cy", 2)


@pytest.mark.newest
def test_two_notebooks_of_one_run_do_not_act_at_once(ann: Lease, postgres: Postgres) -> None:
    with ann.held(acted=False), pytest.raises(PreconditionError, match="acts on this target now"):
        held(Lease(postgres, ann.run, "Ann"))


@pytest.mark.newest
def test_what_was_let_go_is_free(ann: Lease, bo: Lease, connection: Connection) -> None:
    held(ann)

    assert ann.release()
    held(bo)

    assert epoch(connection) == 2
    assert not ann.release()


# --- takeover, epoch, lost network


@pytest.mark.newest
def test_a_takeover_names_the_previous_owner_and_raises_the_epoch(ann: Lease, bo: Lease, connection: Connection) -> None:
    held(ann)

    ((before, epoch),) = took(bo)

    assert (before.run, before.operator, epoch) == ("run-of-ann", "Ann", 2)
    with bo.held(acted=True), working(bo) as of_bo:
        commit(of_bo)
    with pytest.raises(PreconditionError, match="run-of-bo"):
        held(ann)


@pytest.mark.newest
def test_a_takeover_of_nothing_is_nothing(ann: Lease, bo: Lease) -> None:
    assert took(bo) == []
    held(ann)
    assert took(ann) == []
    ann.release()
    assert took(bo) == []


@pytest.mark.newest
def test_a_takeover_that_is_not_journaled_is_none(ann: Lease, bo: Lease, connection: Connection) -> None:
    held(ann)

    def journal(before: Holder, epoch: int) -> None:
        raise OSError("the disk is full")

    with pytest.raises(OSError, match="disk is full"):
        bo.take_over(journal)

    assert epoch(connection) == 1


@pytest.mark.newest
def test_nobody_is_taken_over_while_he_acts(ann: Lease, bo: Lease) -> None:
    with ann.held(acted=False), pytest.raises(PreconditionError, match="acts on this target now"):
        took(bo)


def test_a_lost_network_lets_another_take_over_and_the_first_cannot_commit(
    ann: Lease, bo: Lease, connection: Connection, database: Database
) -> None:
    with ann.held(acted=False), working(ann) as of_ann:
        commit(of_ann)
        lose_lock(database)
        commit(of_ann)  # nobody took it: there is nothing to be kept out of
        assert until(lambda: "left behind" in refusal(bo), 5)
        took(bo)

        with pytest.raises(PreconditionError, match="does not hold the target any more: Bo on ") as refused:
            commit(of_ann)

    assert "rolled back" in refused.value.state
    assert connection.execute("SELECT count(*) AS n FROM runbook.written").fetchone() == {"n": 2}


@pytest.mark.newest
def test_the_first_process_of_a_run_cannot_commit_once_a_second_acts(
    ann: Lease, postgres: Postgres, database: Database
) -> None:
    second = Lease(postgres, ann.run, "Ann")
    with ann.held(acted=False), working(ann) as connection:
        commit(connection)
        lose_lock(database)
        assert until(lambda: refusal(second) == "", 5)

        with pytest.raises(PreconditionError, match="does not hold the target any more"):
            commit(connection)


@pytest.mark.newest
def test_what_only_reads_asks_nothing(ann: Lease, bo: Lease, database: Database) -> None:
    with ann.held(acted=False), working(ann) as of_ann:
        lose_lock(database)
        assert until(lambda: "left behind" in refusal(bo), 5)
        took(bo)

        with of_ann.transaction():
            of_ann.execute("SET TRANSACTION READ ONLY")
            assert of_ann.execute("SELECT count(*) AS n FROM messages").fetchone() == {"n": 600}


@pytest.mark.newest
def test_a_takeover_waits_for_a_transaction_that_is_about_to_commit(
    ann: Lease, bo: Lease, postgres: Postgres, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runbook_lib.postgres.lease.PATIENCE", 0.5)
    monkeypatch.setattr("runbook_lib.postgres.lock_budget.FIRST_PAUSE", 0.05)
    with ann.held(acted=False), postgres.connect() as connection, connection.transaction():
        ann.check(connection)
        lose_lock(database)
        assert until(lambda: "left behind" in refusal(bo), 5)

        with pytest.raises(PreconditionError, match=f"Blocked by: pid {connection.info.backend_pid} "):
            took(bo)


@pytest.mark.newest
def test_a_check_before_anything_is_held_says_nothing(ann: Lease, connection: Connection) -> None:
    ann.check(connection)


@pytest.mark.newest
def test_the_check_is_one_cheap_statement(ann: Lease, connection: Connection) -> None:
    with ann.held(acted=False):
        begun = time.perf_counter()
        for _ in range(100):
            ann.check(connection)

    assert (time.perf_counter() - begun) / 100 < 0.05


# --- a target that is renamed, restored or closed


def test_the_lock_outlasts_the_renaming_of_the_target(ann: Lease, bo: Lease, database: Database) -> None:
    with ann.held(acted=False), database.server.connect() as superuser:
        superuser.execute(f"ALTER DATABASE {database.name} RENAME TO aside")  # type: ignore[arg-type]
        with pytest.raises(PreconditionError, match="acts on this target now: no lease is on record yet"):
            held(bo)
        superuser.execute(f"ALTER DATABASE aside RENAME TO {database.name}")  # type: ignore[arg-type]


@pytest.mark.newest
def test_only_the_run_that_closed_its_target_may_continue(ann: Lease, bo: Lease, database: Database) -> None:
    held(ann)
    with database.server.connect() as superuser:
        superuser.execute(f"ALTER DATABASE {database.name} ALLOW_CONNECTIONS false")  # type: ignore[arg-type]
        with pytest.raises(AdapterError, match="not currently accepting connections"), bo.held(acted=False):
            pass
        with ann.held(acted=True):
            superuser.execute(f"ALTER DATABASE {database.name} ALLOW_CONNECTIONS true")  # type: ignore[arg-type]
            with working(ann) as connection:
                commit(connection)


@pytest.mark.newest
def test_a_run_that_closed_its_target_and_was_taken_over_does_not_commit(ann: Lease, bo: Lease, database: Database) -> None:
    held(ann)
    took(bo)
    with database.server.connect() as superuser:
        superuser.execute(f"ALTER DATABASE {database.name} ALLOW_CONNECTIONS false")  # type: ignore[arg-type]
        with ann.held(acted=True):
            superuser.execute(f"ALTER DATABASE {database.name} ALLOW_CONNECTIONS true")  # type: ignore[arg-type]
            with working(ann) as connection, pytest.raises(PreconditionError, match="does not hold the target any more"):
                commit(connection)


@pytest.mark.newest
def test_a_server_that_does_not_answer_is_no_closed_target(ann: Lease, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGSERVICEFILE", "/nowhere")

    with pytest.raises(AdapterError, match="cannot be reached"):
        held(ann)


# --- a pooler, and the settings of a connection


def test_a_pooler_is_refused(relayed: Relayed) -> None:
    through, _ = relayed(Pooler)

    with pytest.raises(PreconditionError, match="as a connection pooler does") as refused:
        held(Lease(through, "run-of-ann", "Ann"))

    assert "set host and port to those of PostgreSQL itself" in refused.value.safe_next


@pytest.mark.newest
def test_a_pooler_that_refuses_our_settings_is_named_as_a_pooler(relayed: Relayed) -> None:
    through, _ = relayed(Strict)

    with pytest.raises(AdapterError, match="unsupported startup parameter") as refused:
        held(Lease(through, "run-of-ann", "Ann"))

    assert "set host and port to those of PostgreSQL itself" in refused.value.safe_next


@pytest.mark.newest
def test_a_relay_that_keeps_its_sessions_is_none(relayed: Relayed) -> None:
    through, _ = relayed()

    held(Lease(through, "run-of-ann", "Ann"))


@pytest.mark.newest
def test_the_next_step_is_not_blocked_by_the_session_of_the_last_one(relayed: Relayed) -> None:
    through, relay = relayed()
    relay.cut_before = b"X\0\0\0\4"  # the server is late to hear that a session is closed
    lease = Lease(through, "run-of-ann", "Ann")

    held(lease)
    held(lease)

    assert lease.in_the_way() == ""


def test_a_connection_has_the_name_of_its_run_and_its_limits(postgres: Postgres, connection: Connection) -> None:
    settings = connection.execute(
        """SELECT current_setting('application_name') AS name, current_setting('lock_timeout') AS lock,
                  current_setting('statement_timeout') AS statement,
                  current_setting('idle_in_transaction_session_timeout') AS idle"""
    ).fetchone()
    given = connection.info.get_parameters()

    assert settings == {"name": "runbook test", "lock": "2s", "statement": "10min", "idle": "1min"}
    assert [given[f"keepalives_{name}"] for name in ("idle", "interval", "count")] == ["10", "5", "3"]


def test_the_blocker_is_named_and_nothing_is_changed(ann: Lease, bo: Lease, connection: Connection) -> None:
    assert bo.in_the_way() == ""
    with ann.held(acted=False):
        assert bo.in_the_way().startswith("acting now: Ann on ")
    assert bo.in_the_way().startswith("left behind or waiting: Ann on ")
    assert ann.in_the_way() == ""
    assert epoch(connection) == 1


def refusal(lease: Lease) -> str:
    try:
        held(lease)
    except PreconditionError as error:
        return error.what
    return ""


def lose_lock(database: Database) -> None:
    """End the session that holds the lock, as the server does when a network is lost."""
    with database.server.connect() as superuser:
        ended = superuser.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND pid <> pg_backend_pid()"
        ).fetchall()
    assert ended == [(True,)]


class engineer:
    """Another process that holds the target."""

    def __enter__(self) -> "subprocess.Popen[str]":
        self.process = subprocess.Popen(
            [sys.executable, "-c", ENGINEER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout
        assert self.process.stdout.readline() == "held\n"
        return self.process

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()
