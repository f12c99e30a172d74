"""A round trip of option B, by both removals."""

from typing import Any

import psycopg
import pytest

from runbook_lib.errors import StepFailed
from runbook_lib.postgres.catalog import differences
from runbook_lib.postgres.column_removal import previous_values
from runbook_lib.postgres.connection import Postgres
from runbook_lib.results import not_passed
from runbook_lib.steps import Effect
from runbook_lib.steps.remove_columns import CONFLICTS, COPY, SET_ASIDE, RemoveColumns

from ...support.removing import MODES, Application, Journal, Killed, ask, in_mode, naming, rows, shape, stop_at_progress


def history(application: Application) -> list[Any]:
    return ask(application, "SELECT * FROM schema_migrations ORDER BY version")


@pytest.mark.parametrize("mode", MODES)
def test_columns_index_constraint_and_history_row_go_together(
    step: RemoveColumns, application: Application, journal: Journal, mode: str
) -> None:
    assert in_mode(step, mode).probe().effect is Effect.NOT_DONE

    in_mode(step, mode).apply()

    assert in_mode(step, mode).probe().effect is Effect.DONE
    results = in_mode(step, mode).verify()
    assert (not_passed(results), len(results)) == ([], 4 if mode == "quarantine" else 5)
    assert [version for version, *_ in history(application)] == ["037", "038"]
    assert journal.debts == {SET_ASIDE if mode == "quarantine" else COPY}
    with pytest.raises(psycopg.errors.UndefinedColumn):
        application.execute("SELECT attachments FROM messages")


@pytest.mark.parametrize("mode", MODES)
def test_undo_gives_schema_values_and_history_back_as_they_were(
    step: RemoveColumns, application: Application, postgres: Postgres, journal: Journal, mode: str
) -> None:
    before = shape(postgres), rows(application), history(application)
    in_mode(step, mode).apply()

    in_mode(step, mode).undo()

    assert differences(before[0], shape(postgres)) == []
    assert (rows(application), history(application)) == before[1:]
    assert in_mode(step, mode).probe().effect is Effect.NOT_DONE
    assert journal.debts == set()
    assert ask(
        application, "SELECT count(*) FROM pg_class WHERE relnamespace = 'runbook'::regnamespace AND relkind = 'r'"
    ) == [(1,)]


@pytest.mark.parametrize("mode", MODES)
def test_rows_come_and_go_meanwhile(step: RemoveColumns, application: Application, mode: str) -> None:
    ((parent, child),) = ask(
        application,
        "SELECT replied_to_message_id, id FROM messages WHERE replied_to_message_id IS NOT NULL ORDER BY id LIMIT 1",
    )
    in_mode(step, mode).apply()
    application.execute("DELETE FROM messages WHERE id = %s", [parent])
    application.execute("INSERT INTO messages (id, conversation_id, sender_id, content) VALUES (9001, 1, 1, 'new')")

    in_mode(step, mode).undo()

    after = rows(application)
    assert parent not in after
    assert after[child]["replied_to_message_id"] is None
    assert (after[9001]["attachments"], after[9001]["replied_to_message_id"]) == ([], None)


REFINED = """
    ALTER TABLE messages ALTER attachments TYPE jsonb USING coalesce(attachments, '[]'), ALTER attachments SET NOT NULL,
        ALTER attachments SET STORAGE EXTERNAL, ALTER attachments SET COMPRESSION pglz, ALTER attachments SET STATISTICS 321,
        ALTER attachments SET (n_distinct = -0.5),
        ADD CONSTRAINT "Is a list" CHECK (jsonb_typeof(attachments) = 'array'),
        ADD CONSTRAINT one_reply UNIQUE (replied_to_message_id, id) DEFERRABLE INITIALLY DEFERRED;
    COMMENT ON COLUMN messages.attachments IS 'what''s sent along';
    COMMENT ON CONSTRAINT "Is a list" ON messages IS 'never an object';
    COMMENT ON INDEX idx_messages_attachments IS 'for searches';
"""
REFINEMENTS = """
    SELECT attstorage, attcompression, attstattarget, attoptions, attnotnull, col_description(attrelid, attnum),
           (SELECT array_agg(obj_description(oid, 'pg_constraint') ORDER BY conname)
            FROM pg_constraint WHERE conrelid = attrelid),
           obj_description('idx_messages_attachments'::regclass)
    FROM pg_attribute WHERE attrelid = 'messages'::regclass AND attname = 'attachments'
"""


@pytest.mark.parametrize("mode", MODES)
def test_whatever_makes_a_column_what_it_is_comes_back(
    step: RemoveColumns, application: Application, postgres: Postgres, mode: str
) -> None:
    application.execute(REFINED)  # type: ignore[arg-type]
    before = shape(postgres), rows(application), ask(application, REFINEMENTS)
    named = [*step.context.plan.database.constraints, "Is a list", "one_reply"]
    in_mode(naming(step, constraints=named), mode).apply()
    application.execute("INSERT INTO messages (conversation_id, sender_id, content) VALUES (1, 1, 'meanwhile')")
    application.execute("DELETE FROM messages WHERE content = 'meanwhile'")
    assert not_passed(in_mode(step, mode).verify()) == []

    in_mode(step, mode).undo()

    assert differences(before[0], shape(postgres)) == []
    assert (rows(application), ask(application, REFINEMENTS)) == before[1:]


@pytest.mark.parametrize("default", ["gen_random_uuid()", "now()::text || random()"])
def test_values_of_a_default_that_is_not_constant_come_back_each(
    step: RemoveColumns, application: Application, default: str
) -> None:
    application.execute(f"ALTER TABLE messages ADD token text NOT NULL DEFAULT {default}")  # type: ignore[arg-type]
    before = rows(application)
    in_mode(naming(step, columns={**step.context.plan.database.columns, "token": "text"}), "drop").apply()
    application.execute("INSERT INTO messages (id, conversation_id, sender_id, content) VALUES (9001, 1, 1, 'new')")

    in_mode(step, "drop").undo()

    after = rows(application)
    assert len(after.pop(9001)["token"]) > 30
    assert after == before


@pytest.mark.parametrize("moment", ["filling", "putting values back"])
def test_a_killed_undo_takes_no_prior_null_for_a_missing_default(
    step: RemoveColumns, application: Application, journal: Journal, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    monkeypatch.setattr(previous_values, "BATCH", 100)
    application.execute("ALTER TABLE messages ADD token text DEFAULT gen_random_uuid()")
    application.execute("UPDATE messages SET token = NULL WHERE id % 3 = 0")
    before = rows(application)
    in_mode(naming(step, columns={**step.context.plan.database.columns, "token": "text"}), "drop").apply()
    application.execute("INSERT INTO messages (id, conversation_id, sender_id, content) VALUES (9001, 1, 1, 'new')")

    def kill(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patched:
        if moment == "filling":
            patched.setattr("runbook_lib.postgres.column_removal.previous_values.Filling.fill_rest", kill)
        else:
            journal.on = stop_at_progress
        with pytest.raises(Killed):
            in_mode(step, "drop").undo()
    journal.on = lambda kind, data: None
    assert in_mode(step, "drop").probe().effect is Effect.HALF_DONE
    in_mode(step, "drop").undo()

    after = rows(application)
    assert len(after.pop(9001)["token"]) > 30
    assert after == before


@pytest.mark.parametrize("mode", MODES)
def test_undo_that_newer_rows_violate_says_so_and_resumes_once_corrected(
    step: RemoveColumns, application: Application, postgres: Postgres, mode: str
) -> None:
    application.execute("UPDATE messages SET attachments = '[]' WHERE attachments IS NULL")
    application.execute("ALTER TABLE messages ALTER attachments DROP DEFAULT, ALTER attachments SET NOT NULL")
    before = shape(postgres)
    in_mode(step, mode).apply()
    application.execute("INSERT INTO messages (id, conversation_id, sender_id, content) VALUES (9001, 1, 1, 'old code')")

    with pytest.raises(StepFailed, match="NOT NULL"):
        in_mode(step, mode).undo()
    assert in_mode(step, mode).probe().effect is Effect.HALF_DONE
    application.execute("UPDATE messages SET attachments = '[]' WHERE id = 9001")
    in_mode(step, mode).undo()

    assert differences(before, shape(postgres)) == []


def test_undo_leaves_what_was_written_since_and_keeps_the_prior_value(
    step: RemoveColumns, application: Application, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(previous_values, "BATCH", 20)
    before = rows(application)
    key = max(key for key, row in before.items() if row["attachments"] not in (None, []))
    in_mode(step, "drop").apply()

    def write(kind: str, data: dict[str, Any]) -> None:
        if kind == "progress":
            journal.on = lambda kind, data: None
            application.execute("UPDATE messages SET attachments = '[{}]' WHERE id = %s", [key])

    journal.on = write
    left = in_mode(step, "drop").undo()

    assert (left["conflicts"], left["conflicting keys"]) == (1, [str(key)])
    assert journal.debts == {CONFLICTS}
    assert rows(application) == {**before, key: {**before[key], "attachments": [{}], "replied_to_message_id": None}}
    assert in_mode(step, "drop").purge_preview(CONFLICTS).volumes == {"rows of previous values": 1}
    in_mode(step, "drop").purge(CONFLICTS)
    assert journal.debts == set()


def test_a_reference_to_a_row_deleted_since_is_a_conflict_of_its_key(step: RemoveColumns, application: Application) -> None:
    application.execute(
        """ALTER TABLE messages DROP CONSTRAINT fk_messages_replied_to_message, ADD CONSTRAINT fk_messages_replied_to_message
           FOREIGN KEY (replied_to_message_id) REFERENCES messages (id)"""
    )
    ((parent, children),) = ask(
        application,
        """SELECT replied_to_message_id, array_agg(id::text ORDER BY id) FROM messages
           WHERE replied_to_message_id IS NOT NULL GROUP BY 1 ORDER BY 1 LIMIT 1""",
    )
    in_mode(step, "drop").apply()
    application.execute("DELETE FROM messages WHERE id = %s", [parent])

    assert in_mode(step, "drop").undo()["conflicting keys"] == children
