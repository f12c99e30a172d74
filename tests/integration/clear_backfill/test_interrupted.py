"""Option A that is paused, ended or killed, and resumed."""

from dataclasses import replace
from typing import Any

import psycopg
import pytest

from runbook_lib.errors import Declined, StepFailed
from runbook_lib.journal.control import Request
from runbook_lib.postgres.backfill import Backfill
from runbook_lib.postgres.backfill_removal.removal import Progress
from runbook_lib.postgres.connection import Connection, Postgres
from runbook_lib.postgres.indexes import Indexes

from ...support.clearing import clearing, rows

pytestmark = pytest.mark.newest


def contents(application: psycopg.Connection) -> list[Any]:
    """The rows but for columns that a run sets apart."""
    return application.execute(
        "SELECT id, content, media_url, attachments, replied_to_message_id, updated_at FROM messages ORDER BY id"
    ).fetchall()


def test_clearing_resumes_where_it_stopped(
    postgres: Postgres, connection: Connection, application: psycopg.Connection, backfill: Backfill, strategy: str
) -> None:
    affected = backfill.count(connection)
    work = clearing(postgres, backfill, strategy)
    told = 0

    def stop_after_some(cleared: int, _: str) -> None:
        nonlocal told
        told += cleared
        if told:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        replace(work, progress=Progress(cleared=stop_after_some)).apply(["idx_messages_attachments"])

    work.apply(["idx_messages_attachments"])

    assert work.rows(connection) == affected
    assert not work.unexpected(connection)
    assert backfill.count(connection) == 0
    assert Indexes(backfill).missing(connection) == {}


def test_clearing_twice_is_clearing_once(
    postgres: Postgres, connection: Connection, application: psycopg.Connection, backfill: Backfill, strategy: str
) -> None:
    work = clearing(postgres, backfill, strategy)
    work.apply()
    once, cleared = rows(application), work.rows(connection)

    work.apply()

    assert rows(application) == once
    assert work.rows(connection) == cleared


@pytest.mark.parametrize("request_", ["abort", "pause"])
def test_a_clearing_waits_or_ends_between_batches_as_asked(
    postgres: Postgres, connection: Connection, backfill: Backfill, strategy: str, request_: Request
) -> None:
    work, said = clearing(postgres, backfill, strategy), list[str]()
    told = Progress(cleared=lambda _, why: said.append(why))

    with pytest.raises(Declined, match="aborted between two batches"):
        replace(work, progress=told, requested=lambda: "abort" if "paused" in said else request_).apply()

    assert ("paused" in said) is (request_ == "pause")
    assert work.rows(connection) == 0


@pytest.mark.parametrize("in_place", ["batched", "keyed", "swap"])
def test_a_trigger_that_writes_elsewhere_stops_the_batch_without_a_trace(
    postgres: Postgres, application: psycopg.Connection, backfill: Backfill, in_place: str
) -> None:
    application.execute("CREATE TABLE audit (id bigint)")
    application.execute(
        """CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS
           'BEGIN INSERT INTO audit VALUES (NEW.id); RETURN NEW; END'"""
    )
    application.execute("CREATE TRIGGER note AFTER UPDATE ON messages FOR EACH ROW EXECUTE FUNCTION note()")
    before = contents(application)

    with pytest.raises(StepFailed, match="audit"):
        clearing(postgres, backfill, in_place).apply()

    assert contents(application) == before
    assert application.execute("SELECT count(*) FROM audit").fetchone() == (0,)
