"""One column or one table from the backup, without the rest."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, LiteralString

import psycopg
import pytest

from runbook_lib.adapters.postgres.connection import Postgres
from runbook_lib.adapters.postgres.dump import DumpTools
from runbook_lib.adapters.postgres.restore import partial
from runbook_lib.adapters.postgres.restore.look import look
from runbook_lib.adapters.postgres.restore.partial import Part, Parts
from runbook_lib.adapters.processes import LocalProcesses
from runbook_lib.errors import AdapterError, PreconditionError
from runbook_lib.rehearsal.data import dump
from runbook_lib.rehearsal.database import Database
from runbook_lib.rehearsal.postgres import binaries

MESSAGES = ("public", "messages")
MEDIA: LiteralString = "SELECT id, media_url FROM messages ORDER BY id"
ALL: LiteralString = "SELECT to_jsonb(m) FROM messages m ORDER BY id"


@pytest.fixture(scope="session")
def backup(template: Database, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return dump(template, tmp_path_factory.mktemp("backups"))


@pytest.fixture
def parts(postgres: Postgres, database: Database, backup: Path) -> Iterator[Parts]:
    tools = DumpTools(LocalProcesses(), str(database.server.tools or binaries()), postgres.service)
    yield Parts(postgres, tools, look(tools, backup))
    with database.server.connect() as it:
        left = it.execute("SELECT datname FROM pg_database WHERE datname LIKE %s", [f"{database.name}_part%"]).fetchall()
    assert left == []


def asked(application: psycopg.Connection, query: LiteralString) -> list[Any]:
    return application.execute(query).fetchall()


def test_a_column_that_was_dropped_comes_back_and_nothing_else_changes(
    parts: Parts, application: psycopg.Connection
) -> None:
    rest: LiteralString = "SELECT to_jsonb(m) - 'media_url' FROM messages m ORDER BY id"
    before, media = asked(application, rest), asked(application, MEDIA)
    application.execute("ALTER TABLE messages DROP media_url")

    done = parts.column(MESSAGES, "media_url")

    assert done == Part(restored=200, kept=0, gone=0, newer=0, column_added=True)
    assert (asked(application, rest), asked(application, MEDIA)) == (before, media)


def test_only_rows_without_a_value_are_filled_and_what_differs_is_counted(
    parts: Parts, application: psycopg.Connection
) -> None:
    application.execute("UPDATE messages SET media_url = NULL WHERE id <= 30")
    application.execute("UPDATE messages SET media_url = '/media/mine.svg' WHERE id IN (33, 36)")
    application.execute("UPDATE messages SET media_url = '/media/mine.svg' WHERE id = 1")
    application.execute("DELETE FROM messages WHERE id = 600")
    application.execute("INSERT INTO messages (conversation_id, sender_id, content) VALUES (1, 1, 'newer')")

    done = parts.column(MESSAGES, "media_url")

    assert done == Part(restored=10, kept=3, gone=1, newer=1)


def test_values_that_differ_are_taken_back_by_choice(parts: Parts, application: psycopg.Connection) -> None:
    before = asked(application, MEDIA)
    application.execute("UPDATE messages SET media_url = '/media/wrong.svg'")

    assert parts.column(MESSAGES, "media_url", only="differing").restored == 600
    assert asked(application, MEDIA) == before


def test_undo_of_a_column_leaves_alone_what_was_changed_since(parts: Parts, application: psycopg.Connection) -> None:
    application.execute("UPDATE messages SET media_url = NULL WHERE id <= 30")
    parts.column(MESSAGES, "media_url")
    application.execute("UPDATE messages SET media_url = '/media/mine.svg' WHERE id = 3")

    assert parts.undo_column(MESSAGES, "media_url") == (9, 1)
    assert asked(application, "SELECT id FROM messages WHERE id <= 30 AND media_url IS NOT NULL") == [(3,)]


def test_undo_drops_a_column_that_was_added(parts: Parts, application: psycopg.Connection) -> None:
    application.execute("ALTER TABLE messages DROP media_url")
    before = asked(application, ALL)
    parts.column(MESSAGES, "media_url")

    assert parts.undo_column(MESSAGES, "media_url") == (200, 0)
    assert asked(application, ALL) == before


def test_a_column_that_was_cut_short_is_gone_on_with(
    parts: Parts, application: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = asked(application, MEDIA)
    application.execute("UPDATE messages SET media_url = NULL")
    monkeypatch.setattr(partial, "BATCH", 50)
    fill = partial._fill

    def once(live: Any, terms: Any, after: Any) -> Any:
        if after is not None:
            raise KeyboardInterrupt
        return fill(live, terms, after)

    with monkeypatch.context() as cut, pytest.raises(KeyboardInterrupt):
        cut.setattr(partial, "_fill", once)
        parts.column(MESSAGES, "media_url")

    assert parts.column(MESSAGES, "media_url").restored == 150
    assert asked(application, MEDIA) == before
    assert parts.undo_column(MESSAGES, "media_url") == (200, 0)


def test_rows_that_are_gone_come_back_and_the_others_stay_as_they_are(parts: Parts, application: psycopg.Connection) -> None:
    before = asked(application, "SELECT to_jsonb(m) FROM messages m WHERE id BETWEEN 101 AND 103 ORDER BY id")
    application.execute("UPDATE messages SET replied_to_message_id = NULL")
    application.execute("DELETE FROM messages WHERE id BETWEEN 101 AND 103")
    application.execute("UPDATE messages SET content = 'mine' WHERE id = 200")
    application.execute("INSERT INTO messages (conversation_id, sender_id, content) VALUES (1, 1, 'newer')")

    done = parts.rows(MESSAGES)

    assert (done.restored, done.gone, done.newer) == (3, 0, 1)
    assert done.kept > 1
    assert asked(application, "SELECT to_jsonb(m) FROM messages m WHERE id BETWEEN 101 AND 103 ORDER BY id") == before
    assert asked(application, "SELECT content FROM messages WHERE id = 200") == [("mine",)]


def test_undo_takes_out_the_rows_that_are_as_they_were_put_back(parts: Parts, application: psycopg.Connection) -> None:
    application.execute("DELETE FROM messages WHERE id IN (600, 599)")
    parts.rows(MESSAGES)
    application.execute("UPDATE messages SET content = 'mine' WHERE id = 600")

    assert parts.undo_rows(MESSAGES) == (1, 1)
    assert asked(application, "SELECT id FROM messages WHERE id > 597 ORDER BY 1") == [(598,), (600,)]


def test_rows_that_point_to_one_that_is_gone_are_not_put_back(parts: Parts, application: psycopg.Connection) -> None:
    application.execute("DELETE FROM messages WHERE conversation_id = 24")
    application.execute("DELETE FROM conversations WHERE id = 24")

    with pytest.raises(AdapterError, match="messages_conversation_id_fkey"):
        parts.rows(MESSAGES)

    assert asked(application, "SELECT count(*) FROM messages WHERE conversation_id = 24") == [(0,)]


def test_a_table_that_was_dropped_comes_back_whole(parts: Parts, application: psycopg.Connection) -> None:
    shape: LiteralString = """SELECT pg_get_constraintdef(oid) AS it FROM pg_constraint WHERE conrelid = 'messages'::regclass
        UNION ALL SELECT pg_get_indexdef(indexrelid) FROM pg_index WHERE indrelid = 'messages'::regclass
        UNION ALL SELECT tableowner FROM pg_tables WHERE tablename = 'messages'
        UNION ALL SELECT pg_get_serial_sequence('messages', 'id') ORDER BY 1"""
    before, rows = asked(application, shape), asked(application, ALL)
    application.execute("DROP TABLE messages")

    assert parts.table(MESSAGES) == 600
    assert (asked(application, shape), asked(application, ALL)) == (before, rows)


@pytest.mark.parametrize(
    ("what", "told"),
    [
        (lambda parts: parts.column(MESSAGES, "medium"), "no column medium"),
        (lambda parts: parts.column(("public", "massages"), "media_url"), "no column media_url in public.massages"),
        (lambda parts: parts.rows(("public", "massages")), "no table public.massages"),
        (lambda parts: parts.table(MESSAGES), "is there already"),
        (lambda parts: parts.table(("public", "massages")), "does not hold the table"),
    ],
)
def test_what_is_not_there_is_told_before_anything_is_touched(parts: Parts, what: Any, told: str) -> None:
    with pytest.raises(PreconditionError, match=told):
        what(parts)
