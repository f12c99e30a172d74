"""A COMMIT whose answer was lost: what became of it is found out, never guessed."""

import threading
from collections.abc import Callable
from functools import partial

import psycopg
import pytest

from runbook_lib.errors import AdapterError, UnknownOutcome
from runbook_lib.postgres import Open
from runbook_lib.postgres.connection import Connection, Postgres
from runbook_lib.postgres.lock_budget import LockBudget, with_short_lock_in_one_message
from runbook_lib.postgres.round_trip import Statements
from runbook_lib.rehearsal.database import Database
from runbook_lib.rehearsal.workspace import until

from ..support.relay import COMMIT, Relay

Relayed = Callable[..., tuple[Postgres, Relay]]


@pytest.fixture(autouse=True)
def progress(application: psycopg.Connection) -> None:
    application.execute("CREATE TABLE progress (step int PRIMARY KEY, rows int)")


def work(statements: Statements, step: int = 1) -> int:
    statements.write("INSERT INTO progress VALUES (%s, 42)", [step])
    return 42


def recorded(connection: Connection) -> int | None:
    row = connection.execute("SELECT rows FROM progress WHERE step = 1").fetchone()
    return row["rows"] if row else None


def committed(open_: Open, work: Callable[[Statements], int], recorded: Callable[[Connection], int | None]) -> int:
    budget = LockBudget((1000,))
    return with_short_lock_in_one_message(open_, work, lambda blockers: None, budget=budget, recorded=recorded)


def rows(connection: Connection) -> int:
    found = connection.execute("SELECT count(*) AS n FROM progress").fetchone()
    assert found
    return int(found["n"])


def test_a_commit_that_is_answered_needs_no_second_check(postgres: Postgres, connection: Connection) -> None:
    def asked(connection: Connection) -> int | None:
        raise AssertionError

    assert committed(postgres.connect, work, asked) == 42
    assert rows(connection) == 1


def test_a_commit_whose_answer_is_lost_is_found_done(relayed: Relayed, connection: Connection) -> None:
    through, relay = relayed()
    relay.cut_after = COMMIT

    assert committed(through.connect, work, recorded) == 42
    assert rows(connection) == 1


def test_a_commit_that_still_works_when_its_answer_is_lost_is_waited_for(
    relayed: Relayed, connection: Connection, application: psycopg.Connection
) -> None:
    application.execute(
        """CREATE FUNCTION dawdle() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(0.5); RETURN NULL; END $$;
           CREATE CONSTRAINT TRIGGER dawdle AFTER INSERT ON progress DEFERRABLE INITIALLY DEFERRED
           FOR EACH ROW EXECUTE FUNCTION dawdle()"""
    )
    through, relay = relayed()
    cut: list[bool] = []

    def cut_once_it_works() -> None:
        at_work = "SELECT FROM pg_stat_activity WHERE datname = current_database() AND (state, query) = ('active', 'COMMIT')"
        cut.append(until(lambda: connection.execute(at_work).fetchone() is not None, 5))
        relay.cut()

    cutting = threading.Thread(target=cut_once_it_works)
    cutting.start()

    assert committed(through.connect, work, recorded) == 42
    cutting.join()
    assert cut == [True]
    assert rows(connection) == 1


def test_a_commit_that_never_arrived_is_found_and_its_locks_are_free(relayed: Relayed, connection: Connection) -> None:
    through, relay = relayed()
    relay.cut_before = COMMIT

    with pytest.raises(AdapterError, match="was not committed") as lost:
        committed(through.connect, work, recorded)

    assert "Run the step again" in lost.value.safe_next
    assert rows(connection) == 0
    relay.cut_before = None
    assert committed(through.connect, work, recorded) == 42


def test_a_connection_that_breaks_before_the_commit_is_an_ordinary_error(relayed: Relayed, connection: Connection) -> None:
    through, relay = relayed()
    relay.cut_before = b"INSERT"

    with pytest.raises(AdapterError, match="A statement failed"):
        committed(through.connect, work, recorded)

    assert rows(connection) == 0


def test_a_commit_that_the_server_refuses_is_no_lost_one(
    postgres: Postgres, connection: Connection, application: psycopg.Connection
) -> None:
    application.execute("ALTER TABLE progress ADD CONSTRAINT once UNIQUE (rows) DEFERRABLE INITIALLY DEFERRED")
    committed(postgres.connect, work, recorded)

    with pytest.raises(AdapterError, match="duplicate key"):
        committed(postgres.connect, partial(work, step=2), recorded)

    assert rows(connection) == 1


def test_a_commit_that_the_server_wants_again_is_made_again(
    postgres: Postgres, connection: Connection, application: psycopg.Connection
) -> None:
    application.execute(
        """CREATE SEQUENCE tries; GRANT USAGE ON SEQUENCE tries TO PUBLIC;
           CREATE FUNCTION again() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
             IF nextval('tries') = 1 THEN RAISE 'try again' USING ERRCODE = 'serialization_failure'; END IF;
             RETURN NULL; END $$;
           CREATE CONSTRAINT TRIGGER again AFTER INSERT ON progress DEFERRABLE INITIALLY DEFERRED
           FOR EACH ROW EXECUTE FUNCTION again()"""
    )

    assert committed(postgres.connect, work, recorded) == 42
    assert rows(connection) == 1


def test_a_server_that_does_not_come_back_leaves_it_unknown(
    relayed: Relayed, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runbook_lib.postgres.round_trip.PATIENCE", 0.2)
    through, relay = relayed()
    relay.cut_before = COMMIT

    def work_and_lose_the_server(statements: Statements) -> int:
        (relay.directory / ".s.PGSQL.5432").unlink()
        return work(statements)

    with pytest.raises(UnknownOutcome, match="could not be determined"):
        committed(through.connect, work_and_lose_the_server, recorded)
