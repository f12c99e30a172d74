"""Strong locks are taken for a moment, and whoever is in the way is named."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice

import psycopg
import pytest
from psycopg import errors

from runbook_lib.errors import PreconditionError
from runbook_lib.postgres import lock_budget
from runbook_lib.postgres.blockers import Blocker, blockers
from runbook_lib.postgres.connection import Connection, Postgres, one
from runbook_lib.postgres.lock_budget import JITTER, LONGEST_PAUSE, pauses, with_short_lock
from runbook_lib.rehearsal.database import Database
from runbook_lib.rehearsal.workspace import until

from ..support import reader

VACUUM = Blocker(1, "", 2.0, "autovacuum: VACUUM public.messages", "autovacuum worker")


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock_budget, "FIRST_PAUSE", 0.02)
    monkeypatch.setattr(lock_budget, "LONGEST_PAUSE", 0.02)


@pytest.fixture
def reading(application: psycopg.Connection, monkeypatch: pytest.MonkeyPatch) -> Iterator[psycopg.Connection]:
    """The application in a transaction that has read the table and stays open, as a dump's does; there is time to see it."""
    monkeypatch.setattr(lock_budget, "LADDER", (600,))
    application.execute("BEGIN")
    application.execute("SELECT count(*) FROM messages")
    yield application
    application.execute("ROLLBACK")


def lock(connection: Connection) -> str:
    connection.execute("LOCK TABLE messages IN ACCESS EXCLUSIVE MODE")
    return "done"


def nobody(seen: Sequence[Blocker]) -> None:
    raise AssertionError(seen)


def test_what_nobody_is_in_the_way_of_is_done_at_once(postgres: Postgres) -> None:
    assert with_short_lock(postgres.connect, lock, nobody) == "done"


def test_blockers_are_named_while_waiting_and_then_the_work_is_done(postgres: Postgres, reading: psycopg.Connection) -> None:
    told: list[Sequence[Blocker]] = []

    def waiting(seen: Sequence[Blocker]) -> None:
        told.append(seen)
        reading.execute("COMMIT")

    assert with_short_lock(postgres.connect, lock, waiting) == "done"

    ((blocker,),) = told
    assert (blocker.pid, blocker.user) == (reading.info.backend_pid, "social_selling_user")
    assert blocker.query == "SELECT count(*) FROM messages"
    assert 0 < blocker.seconds < 60
    assert str(blocker).startswith(f"pid {blocker.pid} (social_selling_user, ")


def test_patience_ends_with_an_error_that_names_who_was_in_the_way(postgres: Postgres, reading: psycopg.Connection) -> None:
    told: list[Sequence[Blocker]] = []

    with pytest.raises(PreconditionError) as refused:
        with_short_lock(postgres.connect, lock, told.append, patience=0)

    assert f"within 0 s. Blocked by: pid {reading.info.backend_pid} (social_selling_user" in refused.value.what
    assert refused.value.state == "Nothing was changed: each try was rolled back."
    assert len(told) == 1


def test_a_try_that_failed_leaves_nothing(
    postgres: Postgres, connection: Connection, application: psycopg.Connection
) -> None:
    connection.execute("CREATE TABLE tried (it int)")
    application.execute("BEGIN; SELECT FROM messages")

    def work(connection: Connection) -> None:
        connection.execute("INSERT INTO tried VALUES (1)")
        lock(connection)

    with_short_lock(postgres.connect, work, lambda seen: application.execute("COMMIT") and None)

    assert one(connection, "SELECT count(*) AS n FROM tried")["n"] == 1


def test_a_waiting_strong_lock_keeps_no_reader_longer_than_one_try(
    postgres: Postgres, database: Database, reading: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock_budget, "LADDER", (150,))
    with reader.reading(database) as waited, pytest.raises(PreconditionError):
        with_short_lock(postgres.connect, lock, lambda seen: None, patience=0.4)

    assert 0.05 < max(waited) < 0.15 + 0.5


def test_a_deadlock_is_tried_again(postgres: Postgres, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock_budget, "LADDER", (5000,))
    with database.server.connect() as superuser:
        superuser.execute(f"ALTER ROLE runbook IN DATABASE {database.name} SET deadlock_timeout = '20ms'")  # type: ignore[arg-type]
    tries: list[int] = []
    with psycopg.connect(database.conninfo(database.application)) as other, postgres.connect() as watching:
        update(other, 2)
        crossing = threading.Thread(target=lambda: (update(other, 1), other.commit()))

        def work(connection: Connection) -> None:
            tries.append(connection.info.backend_pid)
            update(connection, 1)
            if len(tries) == 1:
                crossing.start()
                assert until(lambda: blockers(watching, other.info.backend_pid) != [], 5)
            update(connection, 2)

        with_short_lock(postgres.connect, work, lambda seen: crossing.join())

    assert len(tries) == 2


def update(connection: "psycopg.Connection | Connection", key: int) -> None:
    connection.execute("UPDATE messages SET content = 'x' WHERE id = %s", [key])


@pytest.mark.parametrize(
    ("seen", "timeout"),
    [
        ([VACUUM], "1200ms"),
        ([VACUUM, Blocker(2, "someone", 1.0, "SELECT", "client backend")], "200ms"),
        ([], "200ms"),
    ],
    ids=["autovacuum alone", "autovacuum and someone", "nobody seen"],
)
def test_the_next_try_outlasts_the_deadlock_timeout_against_autovacuum(
    postgres: Postgres, monkeypatch: pytest.MonkeyPatch, seen: list[Blocker], timeout: str
) -> None:
    @contextmanager
    def watched(open_: object, pid: int) -> Iterator[list[Blocker]]:
        yield seen

    monkeypatch.setattr(lock_budget, "watched", watched)
    found: list[str] = []

    def work(connection: Connection) -> None:
        found.append(one(connection, "SELECT current_setting('lock_timeout') AS it")["it"])
        if len(found) == 1:
            raise errors.LockNotAvailable

    with_short_lock(postgres.connect, work, lambda seen: None)

    assert found == ["100ms", timeout]


@pytest.mark.parametrize(
    ("kind", "query", "gives_way"),
    [
        ("autovacuum worker", "autovacuum: VACUUM public.messages", True),
        ("autovacuum worker", "autovacuum: ANALYZE public.messages", True),
        ("autovacuum worker", "autovacuum: VACUUM public.messages (to prevent wraparound)", False),
        ("client backend", "VACUUM messages", False),
    ],
)
def test_only_an_autovacuum_that_is_not_against_wraparound_gives_way(kind: str, query: str, gives_way: bool) -> None:
    assert Blocker(1, "", 0.0, query, kind).gives_way is gives_way


@pytest.mark.parametrize(("drawn", "factor"), [(0.0, 1 - JITTER), (0.5, 1.0), (1.0, 1 + JITTER)])
def test_pauses_double_up_to_a_limit_and_are_jittered(drawn: float, factor: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()

    found = list(islice(pauses(lambda: drawn), 9))

    assert found == pytest.approx([factor * min(0.5 * 2**n, LONGEST_PAUSE) for n in range(9)])
