"""What the preview of option B reports, and what stops it."""

from typing import Any

import psycopg
import pytest

from runbook_lib.errors import ParametersError, PreconditionError
from runbook_lib.postgres.catalog import differences
from runbook_lib.postgres.connection import Postgres
from runbook_lib.rehearsal.database import Database
from runbook_lib.results import Status, not_passed
from runbook_lib.steps import Effect
from runbook_lib.steps.remove_columns import RemoveColumns

from ...support.removing import MODES, Application, Journal, ask, has_own_schema, in_mode, migrated_by, naming, shape

WITH_MORE_THAN_THE_BACKFILL = """
    SELECT count(*) FROM messages WHERE EXISTS (
        SELECT FROM jsonb_array_elements(attachments) e
        WHERE e <> jsonb_build_object('type', media_type, 'url', media_url, 'source', 'legacy_migration'))
"""


def test_values_that_only_users_gave_are_counted_before_their_removal(step: RemoveColumns, application: Application) -> None:
    ((replies,),) = ask(application, "SELECT count(replied_to_message_id) FROM messages")
    ((own,),) = ask(application, WITH_MORE_THAN_THE_BACKFILL)

    preview = in_mode(step, "drop").preview()

    assert f"{replies} values of replied_to_message_id, which users entered and no backfill can restore" in str(
        preview.loses
    )
    assert preview.volumes["values of replied_to_message_id"] == replies > 0
    assert f"of which {own} hold users' input" in str(preview.loses)
    assert own > 0


@pytest.mark.parametrize("mode", MODES)
def test_a_before_b_is_called_needless(step: RemoveColumns, mode: str) -> None:
    assert "no need to clear the backfilled entries first" in str(in_mode(step, mode).preview().would)


def test_the_preview_names_locks_mode_and_what_undo_changes(step: RemoveColumns, postgres: Postgres) -> None:
    before = shape(postgres)

    aside, dropped = (in_mode(step, mode).preview() for mode in MODES)

    assert "ACCESS EXCLUSIVE on public.messages, ROW EXCLUSIVE on public.schema_migrations" in aside.locks
    assert "SHARE ROW EXCLUSIVE on public.messages" in dropped.locks
    assert "as the last ones" in dropped.undone_by
    assert (aside.facts["mode"], dropped.facts["mode"]) == MODES
    assert not has_own_schema(postgres)
    assert shape(postgres) == before


def test_a_parent_table_is_locked_too_where_its_foreign_key_goes(step: RemoveColumns, application: Application) -> None:
    application.execute(
        """ALTER TABLE messages DROP CONSTRAINT fk_messages_replied_to_message, ADD CONSTRAINT fk_messages_replied_to_message
           FOREIGN KEY (replied_to_message_id) REFERENCES users (id) NOT VALID"""
    )

    assert "ACCESS EXCLUSIVE on public.messages and public.users" in in_mode(step, "drop").preview().locks
    assert "public.users" not in in_mode(step, "quarantine").preview().locks


def test_a_trigger_that_undo_would_fire_is_named(step: RemoveColumns, application: Application) -> None:
    application.execute("CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'")
    application.execute("CREATE TRIGGER note BEFORE UPDATE ON messages FOR EACH ROW EXECUTE FUNCTION note()")

    assert "fires the triggers note" in in_mode(step, "drop").preview().undone_by


def test_functions_and_publications_that_may_break_are_shown_as_risks(
    step: RemoveColumns, application: Application, database: Database
) -> None:
    application.execute("CREATE FUNCTION latest() RETURNS jsonb LANGUAGE sql AS 'SELECT attachments FROM messages LIMIT 1'")
    application.execute("CREATE FUNCTION other() RETURNS int LANGUAGE sql AS 'SELECT 1 AS my_attachments'")
    with database.server.connect(dbname=database.name) as superuser:
        superuser.execute("CREATE PUBLICATION everything FOR TABLE messages")

    risks = [line for line in step.preview().would if line.startswith("RISK")]

    assert [line.split(":")[1] for line in risks] == [
        " the text of function latest() names attachments",
        " publication everything publishes the table",
    ]


def test_a_mode_that_cannot_be_chosen_is_an_error_before_any_change(step: RemoveColumns) -> None:
    with pytest.raises(ParametersError, match="quarantine, drop"):
        in_mode(step, "cascade").preview()


# --- what stops it


DEPENDENTS = {
    "view": ("CREATE VIEW latest AS SELECT id, attachments FROM messages", "view latest uses attachments"),
    "materialized view": (
        "CREATE MATERIALIZED VIEW latest AS SELECT replied_to_message_id FROM messages",
        "materialized view latest uses replied_to_message_id",
    ),
    "function with a body in SQL": (
        "CREATE FUNCTION latest() RETURNS jsonb LANGUAGE sql BEGIN ATOMIC SELECT attachments FROM messages LIMIT 1; END",
        "function latest() uses attachments",
    ),
    "generated column": (
        "ALTER TABLE messages ADD size int GENERATED ALWAYS AS (jsonb_array_length(attachments)) STORED",
        "generated column size uses attachments",
    ),
    "policy": (
        "CREATE POLICY own ON messages USING (replied_to_message_id IS NULL)",
        "policy own on table messages uses replied_to_message_id",
    ),
    "trigger on an update of it": (
        """CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
           CREATE TRIGGER note AFTER UPDATE OF attachments ON messages FOR EACH ROW EXECUTE FUNCTION note()""",
        "trigger note on table messages uses attachments",
    ),
    "trigger whose function names it": (
        """CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.attachments = null; RETURN NEW; END';
           CREATE TRIGGER note BEFORE UPDATE ON messages FOR EACH ROW EXECUTE FUNCTION note()""",
        "trigger note calls note(), whose text names attachments",
    ),
    "index": ("CREATE INDEX extra ON messages ((attachments -> 0))", "index extra uses attachments"),
    "index by its predicate": (
        "CREATE INDEX extra ON messages (id) WHERE replied_to_message_id IS NOT NULL",
        "index extra uses replied_to_message_id",
    ),
    "constraint": (
        "ALTER TABLE messages ADD CONSTRAINT extra CHECK (replied_to_message_id <> id)",
        "constraint extra on table messages uses replied_to_message_id",
    ),
    "extended statistics": (
        "CREATE STATISTICS extra ON attachments, replied_to_message_id FROM messages",
        "statistics object extra uses attachments, replied_to_message_id",
    ),
    "rights on the column": ("GRANT SELECT (attachments) ON messages TO PUBLIC", "rights on attachments: {=r/"),
    "foreign key from elsewhere": (
        """ALTER TABLE messages ADD UNIQUE (replied_to_message_id, id);
           CREATE TABLE threads (reply bigint, id bigint,
                                 FOREIGN KEY (reply, id) REFERENCES messages (replied_to_message_id, id))""",
        "constraint threads_reply_id_fkey on table threads uses replied_to_message_id",
    ),
    "sequence": (
        "CREATE SEQUENCE numbers OWNED BY messages.replied_to_message_id",
        "sequence numbers uses replied_to_message_id",
    ),
    "child table": ("CREATE TABLE more () INHERITS (messages)", "more inherits from messages"),
    "row security that hides rows": (
        "ALTER TABLE messages ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY",
        "row security hides rows of messages from our role",
    ),
}


@pytest.mark.parametrize(("statement", "told"), DEPENDENTS.values(), ids=DEPENDENTS.keys())
def test_what_hangs_on_the_columns_is_named_and_stops_the_step(
    step: RemoveColumns, application: Application, postgres: Postgres, statement: str, told: str
) -> None:
    application.execute(statement)  # type: ignore[arg-type]
    before = shape(postgres)

    preview = step.preview()
    refused = {result.name: result for result in not_passed(step.preconditions())}["remove-columns: dependents"]
    with pytest.raises(PreconditionError) as error:
        step.apply()

    assert f"STOPPED by: {told}" in "\n".join(preview.would)
    assert told in refused.summary
    assert told in error.value.what
    assert differences(before, shape(postgres)) == []


def test_a_publication_with_a_list_of_columns_stops_the_step(step: RemoveColumns, database: Database) -> None:
    with database.server.connect(dbname=database.name) as superuser:
        superuser.execute("CREATE PUBLICATION partly FOR TABLE messages (id, attachments)")

    assert "publication of table messages in publication partly uses attachments" in str(step.preview().would)


def test_a_view_made_in_the_last_moment_is_never_dropped_along(
    step: RemoveColumns, application: Application, journal: Journal
) -> None:
    def make_view(kind: str, data: dict[str, Any]) -> None:
        if kind == "progress":
            journal.on = lambda kind, data: None
            application.execute("CREATE VIEW latest AS SELECT id, attachments FROM messages")

    journal.on = make_view

    with pytest.raises(PreconditionError, match="view latest"):
        in_mode(step, "drop").apply()

    assert len(ask(application, "SELECT attachments FROM latest")) == 600
    assert in_mode(step, "drop").probe().effect is Effect.HALF_DONE
    in_mode(step, "drop").undo()
    assert in_mode(step, "drop").probe().effect is Effect.NOT_DONE


@pytest.mark.parametrize(
    ("names", "told"),
    [
        ({"columns": {"attachmnets": "jsonb", "replied_to_message_id": "bigint"}}, "the column attachmnets"),
        ({"columns": {"attachmnets": "jsonb"}}, "the column attachmnets"),
        ({"columns": {"attachments": "text"}}, "the column attachments of the type text"),
        ({"indexes": ["idx_messages_atachments"]}, "the index idx_messages_atachments"),
        ({"constraints": ["fk_messages_replied"]}, "the constraint fk_messages_replied"),
        ({"table": "mesages"}, 'the table "public"."mesages"'),
    ],
    ids=["one column", "the only column", "type", "index", "constraint", "table"],
)
def test_a_name_that_is_misspelt_is_an_error_before_any_change(
    step: RemoveColumns, postgres: Postgres, names: dict[str, Any], told: str
) -> None:
    before = shape(postgres)
    misspelt = naming(step, **names)

    for act in (misspelt.preview, misspelt.apply):
        with pytest.raises(PreconditionError, match=told):
            act()

    assert shape(postgres) == before
    assert not has_own_schema(postgres)


def test_a_migration_not_in_the_history_is_an_error_before_any_change(step: RemoveColumns) -> None:
    with pytest.raises(PreconditionError, match="migration 093 in schema_migrations"):
        migrated_by(step, "plain", "093").preview()


def test_a_connection_of_the_application_stops_the_step_by_its_pid(step: RemoveColumns, application: Application) -> None:
    bad = not_passed(step.preconditions())

    assert [(r.name, r.status) for r in bad] == [("remove-columns: disconnected", Status.FAIL)]
    assert f"pid {application.info.backend_pid}" in bad[0].summary


def test_a_pooled_session_whose_plan_would_break_is_named_by_its_pid(step: RemoveColumns, application: Application) -> None:
    application.execute("PREPARE pooled AS SELECT * FROM messages WHERE id = 1")
    application.execute("EXECUTE pooled")

    bad = not_passed(step.preconditions())

    assert [r.name for r in bad] == ["remove-columns: disconnected"]
    assert f"pid {application.info.backend_pid}" in bad[0].summary
    step.apply()
    with pytest.raises(psycopg.errors.FeatureNotSupported, match="cached plan"):
        application.execute("EXECUTE pooled")


def test_nothing_stops_the_step_once_all_is_stopped(step: RemoveColumns) -> None:
    assert not_passed(step.preconditions()) == []
