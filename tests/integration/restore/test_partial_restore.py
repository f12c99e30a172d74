"""One column or one table from the backup, without the rest."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, LiteralString

import psycopg
import pytest
from psycopg import sql

from runbook_lib.errors import AdapterError, PreconditionError, StepFailed
from runbook_lib.postgres.connection import Postgres
from runbook_lib.postgres.dump import DumpTools
from runbook_lib.postgres.restore import part_kinds
from runbook_lib.postgres.restore.dump_inspector import look
from runbook_lib.postgres.restore.part import Count, Source
from runbook_lib.postgres.restore.part_kinds import ColumnPart, RowsPart, TablePart
from runbook_lib.rehearsal.database import Database, dump
from runbook_lib.rehearsal.postgres import binaries
from runbook_lib.system.processes import LocalProcesses

MESSAGES = ("public", "messages")
MEDIA: LiteralString = "SELECT id, media_url FROM messages ORDER BY id"
ALL: LiteralString = "SELECT to_jsonb(m) FROM messages m ORDER BY id"


@pytest.fixture
def parts(postgres: Postgres, database: Database, backup: Path) -> Iterator[Source]:
    tools = DumpTools(LocalProcesses(), str(database.server.tools or binaries()), postgres.service)
    yield Source(postgres, tools, look(tools, backup))
    with database.server.connect() as it:
        left = it.execute("SELECT datname FROM pg_database WHERE datname LIKE %s", [f"{database.name}_part%"]).fetchall()
    assert left == []


@pytest.fixture
def parts_of(parts: Source, database: Database, tmp_path: Path) -> Callable[[], Source]:
    """The clone's own dump, made when it is called."""
    return lambda: Source(parts.postgres, parts.tools, look(parts.tools, dump(database, tmp_path)))


def asked(application: psycopg.Connection, query: LiteralString) -> list[Any]:
    return application.execute(query).fetchall()


def test_a_column_that_was_dropped_comes_back_and_nothing_else_changes(
    parts: Source, application: psycopg.Connection
) -> None:
    rest: LiteralString = "SELECT to_jsonb(m) - 'media_url' FROM messages m ORDER BY id"
    before, media = asked(application, rest), asked(application, MEDIA)
    application.execute("ALTER TABLE messages DROP media_url")

    foretold = ColumnPart(parts, MESSAGES, "media_url").count()
    done = ColumnPart(parts, MESSAGES, "media_url").take()

    assert foretold == done == Count(restored=200, kept=0, gone=0, newer=0, column_added=True)
    assert (asked(application, rest), asked(application, MEDIA)) == (before, media)


def test_only_rows_without_a_value_are_filled_and_what_differs_is_counted(
    parts: Source, application: psycopg.Connection
) -> None:
    application.execute("UPDATE messages SET media_url = NULL WHERE id <= 30")
    application.execute("UPDATE messages SET media_url = '/media/mine.svg' WHERE id IN (33, 36)")
    application.execute("UPDATE messages SET media_url = '/media/mine.svg' WHERE id = 1")
    application.execute("DELETE FROM messages WHERE id = 600")
    application.execute("INSERT INTO messages (conversation_id, sender_id, content) VALUES (1, 1, 'newer')")

    foretold = ColumnPart(parts, MESSAGES, "media_url").count()
    done = ColumnPart(parts, MESSAGES, "media_url").take()

    assert foretold == done == Count(restored=10, kept=3, gone=1, newer=1)


def test_values_that_differ_are_taken_back_by_choice(parts: Source, application: psycopg.Connection) -> None:
    before = asked(application, MEDIA)
    application.execute("UPDATE messages SET media_url = '/media/wrong.svg'")

    part = ColumnPart(parts, MESSAGES, "media_url", only="differing")
    assert part.count() == part.take() == Count(restored=600, kept=0, gone=0, newer=0)
    assert asked(application, MEDIA) == before


def test_undo_of_a_column_leaves_alone_what_was_changed_since(parts: Source, application: psycopg.Connection) -> None:
    application.execute("UPDATE messages SET media_url = NULL WHERE id <= 30")
    ColumnPart(parts, MESSAGES, "media_url").take()
    application.execute("UPDATE messages SET media_url = '/media/mine.svg' WHERE id = 3")

    assert ColumnPart(parts, MESSAGES, "media_url").give_back() == (9, 1)
    assert asked(application, "SELECT id FROM messages WHERE id <= 30 AND media_url IS NOT NULL") == [(3,)]


def test_undo_drops_a_column_that_was_added(parts: Source, application: psycopg.Connection) -> None:
    application.execute("ALTER TABLE messages DROP media_url")
    before = asked(application, ALL)
    ColumnPart(parts, MESSAGES, "media_url").take()

    assert ColumnPart(parts, MESSAGES, "media_url").give_back() == (200, 0)
    assert asked(application, ALL) == before


def test_an_interrupted_column_is_resumed(
    parts: Source, application: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = asked(application, MEDIA)
    application.execute("UPDATE messages SET media_url = NULL")
    monkeypatch.setattr(part_kinds, "BATCH", 50)

    def cut(rows: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ColumnPart(replace(parts, filled=cut), MESSAGES, "media_url").take()

    assert ColumnPart(parts, MESSAGES, "media_url").take().restored == 150
    assert asked(application, MEDIA) == before
    assert ColumnPart(parts, MESSAGES, "media_url").give_back() == (200, 0)


def test_rows_that_are_gone_come_back_and_the_others_stay_as_they_are(
    parts: Source, application: psycopg.Connection
) -> None:
    before = asked(application, "SELECT to_jsonb(m) FROM messages m WHERE id BETWEEN 101 AND 103 ORDER BY id")
    application.execute("UPDATE messages SET replied_to_message_id = NULL")
    application.execute("DELETE FROM messages WHERE id BETWEEN 101 AND 103")
    application.execute("UPDATE messages SET content = 'mine' WHERE id = 200")
    application.execute("INSERT INTO messages (conversation_id, sender_id, content) VALUES (1, 1, 'newer')")

    foretold = RowsPart(parts, MESSAGES).count()
    done = RowsPart(parts, MESSAGES).take()

    assert foretold == done
    assert (done.restored, done.gone, done.newer) == (3, 0, 1)
    assert done.kept > 1
    assert asked(application, "SELECT to_jsonb(m) FROM messages m WHERE id BETWEEN 101 AND 103 ORDER BY id") == before
    assert asked(application, "SELECT content FROM messages WHERE id = 200") == [("mine",)]


def test_undo_takes_out_the_rows_that_are_as_they_were_put_back(parts: Source, application: psycopg.Connection) -> None:
    application.execute("DELETE FROM messages WHERE id IN (600, 599)")
    RowsPart(parts, MESSAGES).take()
    application.execute("UPDATE messages SET content = 'mine' WHERE id = 600")

    assert RowsPart(parts, MESSAGES).give_back() == (1, 1)
    assert asked(application, "SELECT id FROM messages WHERE id > 597 ORDER BY 1") == [(598,), (600,)]


def test_rows_that_point_to_one_that_is_gone_are_not_put_back(parts: Source, application: psycopg.Connection) -> None:
    application.execute("DELETE FROM messages WHERE conversation_id = 24")
    application.execute("DELETE FROM conversations WHERE id = 24")

    with pytest.raises(AdapterError, match="messages_conversation_id_fkey"):
        RowsPart(parts, MESSAGES).take()

    assert asked(application, "SELECT count(*) FROM messages WHERE conversation_id = 24") == [(0,)]


def test_a_table_that_was_dropped_comes_back_whole(parts: Source, application: psycopg.Connection) -> None:
    shape: LiteralString = """SELECT pg_get_constraintdef(oid) AS it FROM pg_constraint WHERE conrelid = 'messages'::regclass
        UNION ALL SELECT pg_get_indexdef(indexrelid) FROM pg_index WHERE indrelid = 'messages'::regclass
        UNION ALL SELECT tableowner FROM pg_tables WHERE tablename = 'messages'
        UNION ALL SELECT pg_get_serial_sequence('messages', 'id') ORDER BY 1"""
    before, rows = asked(application, shape), asked(application, ALL)
    application.execute("DROP TABLE messages")

    assert TablePart(parts, MESSAGES).count() == TablePart(parts, MESSAGES).take() == Count(600, 0, 0, 0)
    assert (asked(application, shape), asked(application, ALL)) == (before, rows)


def test_a_table_comes_back_and_goes_where_all_tables_are_published(
    parts: Source, application: psycopg.Connection, database: Database
) -> None:
    with database.server.connect(dbname=database.name) as superuser:
        superuser.execute("CREATE PUBLICATION everything FOR ALL TABLES")
    application.execute("DROP TABLE messages CASCADE")

    assert TablePart(parts, MESSAGES).take() == Count(600, 0, 0, 0)
    assert TablePart(parts, MESSAGES).give_back() == (600, 0)


def test_a_table_that_was_brought_back_is_dropped_only_if_unchanged(parts: Source, application: psycopg.Connection) -> None:
    application.execute("DROP TABLE messages")
    part = TablePart(parts, MESSAGES)
    part.take()
    application.execute("UPDATE messages SET content = 'mine' WHERE id = 3")

    with pytest.raises(PreconditionError, match="were written since it was restored"):
        part.give_back()
    application.execute("DELETE FROM messages")
    part.take()
    assert part.give_back() == (0, 0)

    assert asked(application, "SELECT to_regclass('messages')") == [(None,)]


def test_a_table_that_returned_without_a_foreign_key_gets_it_next_time(
    parts: Source, application: psycopg.Connection
) -> None:
    users: LiteralString = "SELECT to_jsonb(u) FROM users u WHERE id = 1"
    (user,) = asked(application, users)[0]
    constraints: LiteralString = "SELECT count(*) FROM pg_constraint WHERE conrelid = to_regclass('messages')"
    before = asked(application, constraints)
    application.execute("DROP TABLE messages")
    application.execute("DELETE FROM users WHERE id = 1")
    with pytest.raises(AdapterError, match="violates foreign key"):
        TablePart(parts, MESSAGES).take()
    with parts.postgres.connect() as live:
        assert (TablePart(parts, MESSAGES).begun(live), TablePart(parts, MESSAGES).finished(live)) == (True, False)
    application.execute("INSERT INTO users SELECT * FROM jsonb_populate_record(NULL::users, %s)", [json.dumps(user)])

    TablePart(parts, MESSAGES).take()

    assert asked(application, constraints) == before


def test_a_trigger_that_writes_elsewhere_stops_the_batch(parts: Source, application: psycopg.Connection) -> None:
    application.execute("UPDATE messages SET media_url = NULL")
    application.execute("CREATE TABLE audit (id bigint)")
    application.execute(
        """CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS
           'BEGIN INSERT INTO audit VALUES (NEW.id); RETURN NEW; END'"""
    )
    application.execute("CREATE TRIGGER note AFTER UPDATE ON messages FOR EACH ROW EXECUTE FUNCTION note()")

    with pytest.raises(StepFailed, match="audit"):
        ColumnPart(parts, MESSAGES, "media_url").take()

    assert asked(application, "SELECT count(media_url) FROM messages") == [(0,)]


def test_a_value_that_a_trigger_changed_is_found(parts: Source, application: psycopg.Connection) -> None:
    application.execute("UPDATE messages SET media_url = NULL")
    application.execute(
        """CREATE FUNCTION mine() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.media_url = ''mine''; RETURN NEW; END'"""
    )
    application.execute("CREATE TRIGGER mine BEFORE UPDATE ON messages FOR EACH ROW EXECUTE FUNCTION mine()")
    part = ColumnPart(parts, MESSAGES, "media_url")

    part.take()

    with parts.postgres.connect() as live:
        assert part.altered(live) == 200
        application.execute("DROP TRIGGER mine ON messages")
        application.execute("UPDATE messages SET media_url = 'theirs'")
        assert part.altered(live) == 0


@pytest.mark.parametrize(
    ("what", "told"),
    [
        (lambda parts: ColumnPart(parts, MESSAGES, "medium").take(), "no column medium"),
        (
            lambda parts: ColumnPart(parts, ("public", "massages"), "media_url").take(),
            "no column media_url in public.massages",
        ),
        (lambda parts: RowsPart(parts, ("public", "massages")).take(), "no table public.massages"),
        (lambda parts: TablePart(parts, MESSAGES).take(), "exists already"),
        (lambda parts: TablePart(parts, ("public", "massages")).take(), "does not hold the table"),
    ],
)
def test_a_missing_object_is_named_before_anything_is_changed(parts: Source, what: Any, told: str) -> None:
    with pytest.raises(PreconditionError, match=told):
        what(parts)


PAIRS = ("public", "Pairs")
PAIRED: LiteralString = 'SELECT a, "b C", value FROM "Pairs" ORDER BY 1, 2'


def paired(application: psycopg.Connection) -> None:
    application.execute('CREATE TABLE "Pairs" (value text, a numeric, "b C" text, note text, PRIMARY KEY (a, "b C"))')
    application.execute(
        """INSERT INTO "Pairs" SELECT 'v' || i, i / 3, E'x\\t' || i % 3, NULL FROM generate_series(1, 60) i"""
    )


def test_a_column_of_a_table_with_a_key_of_several_columns_comes_back(
    parts_of: Callable[[], Source], application: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(part_kinds, "BATCH", 7)
    paired(application)
    before, parts = asked(application, PAIRED), parts_of()
    application.execute('UPDATE "Pairs" SET value = NULL WHERE a < 10')
    blanked = asked(application, PAIRED)
    part = ColumnPart(parts, PAIRS, "value")

    assert part.count() == part.take() == Count(restored=29, kept=0, gone=0, newer=0)
    assert asked(application, PAIRED) == before
    assert part.give_back() == (29, 0)
    assert asked(application, PAIRED) == blanked


def test_rows_of_a_table_with_a_key_of_several_columns_come_back(
    parts_of: Callable[[], Source], application: psycopg.Connection
) -> None:
    paired(application)
    before, parts = asked(application, PAIRED), parts_of()
    application.execute("""DELETE FROM "Pairs" WHERE "b C" = E'x\\t1'""")
    left = asked(application, PAIRED)
    part = RowsPart(parts, PAIRS)

    assert part.count() == part.take() == Count(restored=20, kept=0, gone=0, newer=0)
    assert asked(application, PAIRED) == before
    assert part.give_back() == (20, 0)
    assert asked(application, PAIRED) == left


def test_the_prediction_is_read_from_the_dump_without_a_database(
    parts: Source, database: Database, application: psycopg.Connection
) -> None:
    application.execute("UPDATE messages SET media_url = NULL WHERE id <= 30")
    with database.server.connect() as superuser:
        role = sql.Identifier(database.runbook.name)
        superuser.execute(sql.SQL("ALTER ROLE {} NOCREATEDB").format(role))
        try:
            assert ColumnPart(parts, MESSAGES, "media_url").count().restored == 10
            assert RowsPart(parts, MESSAGES).count().restored == 0
            application.execute("DROP TABLE messages")
            assert TablePart(parts, MESSAGES).count().restored == 600
        finally:
            superuser.execute(sql.SQL("ALTER ROLE {} CREATEDB").format(role))


def test_the_preview_locks_access_share_at_most_and_leaves_nothing(parts: Source, application: psycopg.Connection) -> None:
    objects: LiteralString = "SELECT oid::text, relname FROM pg_class ORDER BY oid"
    before = asked(application, objects)
    with application.transaction():
        application.execute("LOCK TABLE messages IN EXCLUSIVE MODE")  # next to it only ACCESS SHARE is granted
        ColumnPart(parts, MESSAGES, "media_url").count()
        RowsPart(parts, MESSAGES).count()

    assert asked(application, objects) == before


POINTING: LiteralString = """SELECT conrelid::regclass::text, conname, convalidated FROM pg_constraint
    WHERE confrelid = to_regclass('messages') AND conrelid <> to_regclass('messages') ORDER BY 1, 2"""


def pointed_at(application: psycopg.Connection) -> None:
    for name in ("marks", '"Odd marks"', "lost"):
        application.execute(
            f"CREATE TABLE {name} (message bigint REFERENCES messages (id) ON DELETE CASCADE, other int)"  # type: ignore[arg-type]
        )
        application.execute(f"INSERT INTO {name} VALUES (3, 1), (NULL, 2)")  # type: ignore[arg-type]


def test_foreign_keys_of_other_tables_to_a_dropped_one_are_made_again(
    parts_of: Callable[[], Source], application: psycopg.Connection
) -> None:
    pointed_at(application)
    before, parts = asked(application, POINTING), parts_of()
    application.execute("DROP TABLE messages CASCADE")
    application.execute("DROP TABLE lost")
    part = TablePart(parts, MESSAGES)

    foretold = part.count()
    assert foretold == part.take()

    assert set(foretold.keys) == {"Odd marks_message_fkey of public.Odd marks", "marks_message_fkey of public.marks"}
    assert foretold.without == ("lost_message_fkey of public.lost: the table public.lost does not exist",)
    assert asked(application, POINTING) == [row for row in before if row[0] != "lost"]
    assert part.give_back() == (600, 0)
    assert asked(application, "SELECT to_regclass('messages')") == [(None,)]


def test_a_restored_foreign_key_holds_for_new_rows_where_old_ones_break_it(
    parts_of: Callable[[], Source], application: psycopg.Connection
) -> None:
    pointed_at(application)
    before, parts = asked(application, POINTING), parts_of()
    application.execute("DROP TABLE messages CASCADE")
    application.execute("INSERT INTO marks VALUES (999999, 1)")

    with pytest.raises(AdapterError, match="marks_message_fkey"):
        TablePart(parts, MESSAGES).take()

    with pytest.raises(psycopg.errors.ForeignKeyViolation):
        application.execute("INSERT INTO marks VALUES (888888, 1)")
    with parts.postgres.connect() as live:
        assert not TablePart(parts, MESSAGES).finished(live)
    application.execute("DELETE FROM marks WHERE message = 999999")
    TablePart(parts, MESSAGES).take()
    assert asked(application, POINTING) == before
