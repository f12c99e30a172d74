"""The undo of option A."""

import json
from dataclasses import replace

import psycopg
import pytest

from runbook_lib.errors import Declined
from runbook_lib.postgres.backfill import Backfill
from runbook_lib.postgres.backfill_removal import batches
from runbook_lib.postgres.backfill_removal.removal import Progress
from runbook_lib.postgres.catalog import catalog
from runbook_lib.postgres.connection import Connection, Postgres

from ...support.clearing import LEGACY, OWN, attachments, clearing, insert, rows


def test_undo_gives_every_row_back_as_it_was(
    postgres: Postgres, connection: Connection, application: psycopg.Connection, backfill: Backfill, strategy: str
) -> None:
    before, shape = rows(application), catalog(connection)
    work = clearing(postgres, backfill, strategy)
    work.apply(["idx_messages_attachments"])
    assert rows(application) != before

    restored, conflicts = work.undo()

    assert restored > 0
    assert conflicts == []
    assert rows(application) == before
    assert catalog(connection) == shape


def test_an_undo_can_be_ended_between_two_batches_and_resumed(
    postgres: Postgres,
    connection: Connection,
    application: psycopg.Connection,
    backfill: Backfill,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(batches, "BUNDLE", 5)  # so few undo rows together that they fill more than one page
    before = rows(application)
    work = clearing(postgres, backfill, "batched")
    work.apply()
    cleared = work.rows(connection)

    given_back: list[int] = []
    told = Progress(cleared=lambda rows, _: given_back.append(rows))

    with pytest.raises(Declined, match="aborted between two batches"):
        replace(work, progress=told, requested=lambda: "abort" if any(given_back) else "resume").undo()
    left = work.rows(connection)
    restored, conflicts = work.undo()

    assert 0 < left < cleared
    assert (restored, conflicts) == (left, [])
    assert rows(application) == before


def test_undo_leaves_alone_what_someone_has_changed_since(
    postgres: Postgres, application: psycopg.Connection, backfill: Backfill, strategy: str
) -> None:
    key = insert(application, [LEGACY])
    work = clearing(postgres, backfill, strategy)
    work.apply()
    application.execute("UPDATE messages SET attachments = %s WHERE id = %s", [json.dumps([OWN]), key])

    _, conflicts = work.undo()

    assert conflicts == [key]
    assert attachments(application, key) == [OWN]


def test_undo_restores_around_a_conflict_and_the_row_once_it_is_gone(
    postgres: Postgres, connection: Connection, application: psycopg.Connection, backfill: Backfill
) -> None:
    before = rows(application)
    work = clearing(postgres, backfill, "keyed")
    work.apply()
    cleared, key = work.rows(connection), 3
    written = json.dumps(attachments(application, key))
    application.execute("UPDATE messages SET attachments = %s WHERE id = %s", [json.dumps([OWN]), key])

    first = work.undo()
    application.execute("UPDATE messages SET attachments = %s WHERE id = %s", [written, key])
    second = work.undo()

    assert (first, second) == ((cleared - 1, [key]), (1, []))
    assert rows(application) == before


def test_undo_keeps_rows_that_came_since(
    postgres: Postgres, application: psycopg.Connection, backfill: Backfill, strategy: str
) -> None:
    work = clearing(postgres, backfill, strategy)
    work.apply()
    key = insert(application, [OWN])

    work.undo()

    assert attachments(application, key) == [OWN]
