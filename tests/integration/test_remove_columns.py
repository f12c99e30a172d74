"""Option B on a real database: both ways of removing, their undo, what stops them, and what is proven of the rest."""

import json
import socket
import sys
from collections.abc import Callable
from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest

from runbook_lib.adapters.postgres import locks
from runbook_lib.adapters.postgres.catalog import Catalog, catalog, differences
from runbook_lib.adapters.postgres.connection import Connection, Postgres
from runbook_lib.adapters.postgres.removal import former_values, taking
from runbook_lib.adapters.postgres.removal.dropping import Dropping
from runbook_lib.adapters.postgres.removal.quarantine import Quarantine
from runbook_lib.adapters.services import MemoryServices
from runbook_lib.context import Context
from runbook_lib.errors import AdapterError, Declined, ParametersError, PreconditionError, StepFailed
from runbook_lib.folder import RunFolder
from runbook_lib.plan import Plan
from runbook_lib.rehearsal.database import Database
from runbook_lib.results import Result, Status, not_passed
from runbook_lib.steps.base import Effect
from runbook_lib.steps.remove_columns import CONFLICTS, COPY, SET_ASIDE, RemoveColumns
from runbook_lib.target import load_target

from .reader import reading
from .relay import COMMIT, Relay

ROOT = Path(__file__).parents[2]
MODES = ("quarantine", "drop")
Application = psycopg.Connection[Any]


class Killed(BaseException):
    """Ends a step as a SIGKILL would: nothing of it goes on."""


class Journal:
    """What the step reported; `on` acts in the middle of it."""

    def __init__(self) -> None:
        self.told: list[tuple[str, dict[str, Any]]] = []
        self.on: Callable[[str, dict[str, Any]], object] = lambda kind, data: None

    def __call__(self, kind: str, **data: Any) -> None:
        self.told.append((kind, data))
        self.on(kind, data)

    @property
    def debts(self) -> set[str]:
        """The debts that are open."""
        owed: set[str] = set()
        for kind, data in self.told:
            if kind == "owed":
                owed.add(data["debt"])
            if kind == "paid":
                owed.discard(data["debt"])
        return owed


@pytest.fixture
def journal() -> Journal:
    return Journal()


@pytest.fixture
def step(plan: Plan, database: Database, postgres: Postgres, journal: Journal, tmp_path: Path) -> RemoveColumns:
    """The step of a run with option B whose services are all stopped."""
    names = ("ROOT", "BACKEND_URL", "FRONTEND_URL", "API_TOKEN", "PG_BIN", "PYTHON")
    environment = {f"REHEARSAL_{name}": str(tmp_path) for name in names}
    environment["REHEARSAL_APPLICATION_ROLE"] = database.application.name
    target = load_target(ROOT / "parameters" / "rehearsal.yaml", environment)
    target = target.model_copy(update={"database": target.database.model_copy(update={"service": "test"})})
    opened = datetime(2025, 11, 3, 12, 0, tzinfo=UTC)
    context = Context(plan, target, RunFolder.create(tmp_path, "INC-1", "full"), "full", "B", "Dana", opened, report=journal)
    context.debts = lambda: journal.debts
    context.__dict__.update(services=MemoryServices(plan.services, lambda name: []), postgres=postgres)
    (tmp_path / "backend").mkdir()
    return RemoveColumns("remove-columns", context)


def in_mode(step: RemoveColumns, mode: str) -> RemoveColumns:
    """The same step as another process of the run would make it, with that mode chosen."""
    step.context.choices = {"REMOVAL": mode}
    return RemoveColumns(step.name, step.context)


def naming(step: RemoveColumns, **names: Any) -> RemoveColumns:
    """The step under a plan whose database part names other things."""
    plan = step.context.plan
    step.context.plan = plan.model_copy(update={"database": plan.database.model_copy(update=names)})
    return RemoveColumns(step.name, step.context)


def ask(application: Application, query: str) -> list[Any]:
    return application.execute(query).fetchall()  # type: ignore[arg-type]


def rows(application: Application) -> dict[int, dict[str, Any]]:
    return {key: row for key, row in ask(application, "SELECT id, to_jsonb(m) FROM messages m ORDER BY id")}


def shape(postgres: Postgres) -> Catalog:
    with postgres.connect() as connection:
        return catalog(connection)


def history(application: Application) -> list[Any]:
    return ask(application, "SELECT * FROM schema_migrations ORDER BY version")


def summaries(results: list[Result]) -> str:
    return "; ".join(f"{result.status} {result.summary}" for result in results)


# --- both ways, there and back


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
def test_an_undo_that_was_killed_takes_no_former_null_for_a_value_that_a_default_is_to_give(
    step: RemoveColumns, application: Application, journal: Journal, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    monkeypatch.setattr(former_values, "BATCH", 100)
    application.execute("ALTER TABLE messages ADD token text DEFAULT gen_random_uuid()")
    application.execute("UPDATE messages SET token = NULL WHERE id % 3 = 0")
    before = rows(application)
    in_mode(naming(step, columns={**step.context.plan.database.columns, "token": "text"}), "drop").apply()
    application.execute("INSERT INTO messages (id, conversation_id, sender_id, content) VALUES (9001, 1, 1, 'new')")

    def kill(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patched:
        if moment == "filling":
            patched.setattr("runbook_lib.adapters.postgres.removal.filling.Filling.fill_rest", kill)
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
def test_undo_that_rows_written_since_do_not_satisfy_says_so_and_goes_on_once_they_are_corrected(
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


def test_undo_leaves_alone_what_someone_has_written_since_and_keeps_the_former_value_apart(
    step: RemoveColumns, application: Application, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(former_values, "BATCH", 20)
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
    assert in_mode(step, "drop").purge_preview(CONFLICTS).volumes == {"rows of former values": 1}
    in_mode(step, "drop").purge(CONFLICTS)
    assert journal.debts == set()


def test_a_reference_to_a_row_deleted_since_is_a_conflict_where_the_key_would_have_refused_the_deletion(
    step: RemoveColumns, application: Application
) -> None:
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


# --- what is told beforehand

WITH_MORE_THAN_THE_BACKFILL = """
    SELECT count(*) FROM messages WHERE EXISTS (
        SELECT FROM jsonb_array_elements(attachments) e
        WHERE e <> jsonb_build_object('type', media_type, 'url', media_url, 'source', 'legacy_migration'))
"""


def test_what_only_users_gave_is_counted_and_said_plainly_before_it_goes_pitfall_5(
    step: RemoveColumns, application: Application
) -> None:
    ((replies,),) = ask(application, "SELECT count(replied_to_message_id) FROM messages")
    ((own,),) = ask(application, WITH_MORE_THAN_THE_BACKFILL)

    preview = in_mode(step, "drop").preview()

    assert f"{replies} values of replied_to_message_id, which users gave and no backfill can make again" in str(
        preview.loses
    )
    assert preview.volumes["values of replied_to_message_id"] == replies > 0
    assert f"of which {own} hold what users gave" in str(preview.loses)
    assert own > 0


@pytest.mark.parametrize("mode", MODES)
def test_a_before_b_is_called_wasted_work_pitfall_6(step: RemoveColumns, mode: str) -> None:
    assert "wasted work" in str(in_mode(step, mode).preview().would)


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


def test_a_trigger_that_undo_would_fire_is_named_pitfall_8(step: RemoveColumns, application: Application) -> None:
    application.execute("CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'")
    application.execute("CREATE TRIGGER note BEFORE UPDATE ON messages FOR EACH ROW EXECUTE FUNCTION note()")

    assert "fires the triggers note" in in_mode(step, "drop").preview().undone_by


def test_functions_and_publications_that_may_break_are_told_as_risks(
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


def test_a_mode_that_cannot_be_chosen_is_an_error_before_anything_is_touched(step: RemoveColumns) -> None:
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


def test_a_view_made_in_the_last_moment_is_never_dropped_along_pitfall_10(
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
def test_a_name_that_is_misspelt_is_an_error_before_anything_is_touched_pitfall_10(
    step: RemoveColumns, postgres: Postgres, names: dict[str, Any], told: str
) -> None:
    before = shape(postgres)
    misspelt = naming(step, **names)

    for act in (misspelt.preview, misspelt.apply):
        with pytest.raises(PreconditionError, match=told):
            act()

    assert shape(postgres) == before
    assert not has_own_schema(postgres)


def has_own_schema(postgres: Postgres) -> bool:
    with postgres.connect() as connection:
        return connection.execute("SELECT to_regnamespace('runbook') AS it").fetchone() != {"it": None}


def test_a_migration_that_is_not_in_the_history_is_an_error_before_anything_is_touched(step: RemoveColumns) -> None:
    migration = step.context.plan.database.migration.model_copy(update={"version": "093"})

    with pytest.raises(PreconditionError, match="migration 093 in schema_migrations"):
        naming(step, migration=migration).preview()


def test_a_connection_of_the_application_stops_the_step_by_its_pid(step: RemoveColumns, application: Application) -> None:
    bad = not_passed(step.preconditions())

    assert [(r.name, r.status) for r in bad] == [("remove-columns: disconnected", Status.FAIL)]
    assert f"pid {application.info.backend_pid}" in bad[0].summary


def test_pitfall_20_a_pooled_session_with_a_plan_of_the_old_shape_is_told_by_its_pid_before_that_plan_breaks(
    step: RemoveColumns, application: Application
) -> None:
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


# --- locks


def test_a_running_dump_or_an_open_transaction_is_named_and_readers_hardly_wait_for_it_pitfall_9(
    step: RemoveColumns, application: Application, database: Database, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "FIRST_PAUSE", 0.01)
    with psycopg.connect(database.conninfo()) as dump, reading(database) as waited:
        dump.execute("SELECT count(*) FROM messages")
        pid, seen = dump.info.backend_pid, list[str]()

        def end_dump(kind: str, data: dict[str, Any]) -> None:
            if kind == "waiting" and data["blockers"]:
                seen.extend(data["blockers"])
                dump.rollback()

        journal.on = end_dump
        step.apply()

    assert seen[0].startswith(f"pid {pid} ")
    assert not_passed(step.verify()) == []
    assert max(waited) < 1


# --- cut off, and written to, in the middle

WRITES = """
    UPDATE messages SET attachments = '[{"source": "late"}]' WHERE id = 3;
    UPDATE messages SET attachments = '[]', replied_to_message_id = NULL WHERE id = 6;
    UPDATE messages SET id = 9000 WHERE id = 12;
    DELETE FROM messages WHERE id = 601;
    INSERT INTO messages (id, conversation_id, sender_id, content, attachments) VALUES (9001, 1, 1, 'late', '[1]')
"""


def test_rows_written_while_they_are_copied_are_caught_up_with(
    step: RemoveColumns, application: Application, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(taking, "BLOCKS", 2)
    written: list[dict[int, Any]] = []

    def write(kind: str, data: dict[str, Any]) -> None:
        if kind == "progress" and not written and data["done"] >= data["total"] // 2:
            application.execute(WRITES)  # type: ignore[arg-type]
            written.append(rows(application))

    journal.on = write
    in_mode(step, "drop").apply()
    in_mode(step, "drop").undo()

    assert rows(application) == written[0]


@pytest.mark.parametrize("moment", ["copying", "catching up", "dropping"])
def test_a_drop_that_was_killed_goes_on_and_misses_no_write_in_between(
    step: RemoveColumns,
    application: Application,
    journal: Journal,
    monkeypatch: pytest.MonkeyPatch,
    moment: str,
) -> None:
    monkeypatch.setattr(taking, "BLOCKS", 2)

    def kill(*_: object, **__: object) -> None:
        raise Killed

    with monkeypatch.context() as patched:
        if moment == "copying":
            journal.on = lambda kind, data: kill() if kind == "progress" and data["done"] > 4 else None
        elif moment == "catching up":
            patched.setattr(taking, "_keep_up", kill)
        else:
            patched.setattr(
                taking.records, "keep", lambda c, run, record: kill() if record.stage == "removed" else keep(c, run, record)
            )
        with pytest.raises(Killed):
            in_mode(step, "drop").apply()
    journal.on = lambda kind, data: None
    assert in_mode(step, "drop").probe().effect is Effect.HALF_DONE
    application.execute(WRITES)  # type: ignore[arg-type]
    before = rows(application)

    in_mode(step, "drop").apply()

    assert not_passed(in_mode(step, "drop").verify()) == []
    in_mode(step, "drop").undo()
    assert rows(application) == before


keep = taking.records.keep


def test_a_row_written_just_before_the_table_is_locked_is_caught_up_with(
    step: RemoveColumns, application: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep_up, written = taking._keep_up, list[int]()

    def then_write(*arguments: Any) -> None:
        keep_up(*arguments)
        written.append(len(written))
        application.execute("UPDATE messages SET attachments = %s WHERE id = 7", [json.dumps(written)])

    monkeypatch.setattr(taking, "_keep_up", then_write)
    in_mode(step, "drop").apply()
    in_mode(step, "drop").undo()

    assert rows(application)[7]["attachments"] == written


def test_a_row_written_past_the_trigger_stops_the_drop(
    step: RemoveColumns, application: Application, journal: Journal
) -> None:
    def write(kind: str, data: dict[str, Any]) -> None:
        if kind == "progress":
            journal.on = lambda kind, data: None
            application.execute("ALTER TABLE messages DISABLE TRIGGER USER")
            application.execute("UPDATE messages SET attachments = '[7]' WHERE id = 7")
            trigger = ask(application, "SELECT tgname FROM pg_trigger WHERE tgname LIKE 'runbook%'")[0][0]
            application.execute(f"ALTER TABLE messages ENABLE ALWAYS TRIGGER {trigger}")

    journal.on = write

    with pytest.raises(StepFailed, match="does not hold what the columns hold"):
        in_mode(step, "drop").apply()

    in_mode(step, "drop").undo()
    assert rows(application)[7]["attachments"] == [7]


@pytest.mark.parametrize(
    "change",
    ["ALTER TABLE messages ALTER attachments SET DEFAULT '[1]'", "ALTER TABLE messages DISABLE TRIGGER USER"],
    ids=["default", "trigger"],
)
def test_what_was_redefined_since_it_was_copied_is_not_dropped(
    step: RemoveColumns, application: Application, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    drop = taking.drop

    def after_change(*arguments: Any) -> None:
        application.execute(change)  # type: ignore[arg-type]
        drop(*arguments)

    monkeypatch.setattr(taking, "drop", after_change)

    with pytest.raises(PreconditionError, match="were changed since the copy was begun"):
        in_mode(step, "drop").apply()

    assert len(rows(application)[7]) == 10


@pytest.mark.parametrize("mode", MODES)
def test_an_undo_that_was_killed_goes_on(
    step: RemoveColumns, application: Application, postgres: Postgres, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    before = shape(postgres), rows(application)
    in_mode(step, mode).apply()

    def kill(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr("runbook_lib.adapters.postgres.removal.returning.Mending.finish", kill)
        with pytest.raises(Killed):
            in_mode(step, mode).undo()
    assert in_mode(step, mode).probe().effect is Effect.HALF_DONE

    in_mode(step, mode).undo()

    assert (differences(before[0], shape(postgres)), rows(application)) == ([], before[1])


def test_an_index_whose_build_was_broken_off_is_built_anew(
    step: RemoveColumns, application: Application, postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = shape(postgres)
    in_mode(step, "drop").apply()
    with pytest.raises(psycopg.errors.UniqueViolation):
        application.execute("CREATE UNIQUE INDEX CONCURRENTLY idx_messages_replied_to ON messages (conversation_id)")

    in_mode(step, "drop").undo()

    assert differences(before, shape(postgres)) == []


def test_a_copy_that_somebody_dropped_fails_the_verification(step: RemoveColumns, postgres: Postgres) -> None:
    left = in_mode(step, "drop").apply()
    with postgres.connect() as connection:
        connection.execute(f"DROP TABLE {left['copy']}")

    assert "the copy is gone" in summaries(not_passed(in_mode(step, "drop").verify()))


def test_a_step_that_was_killed_while_it_was_undone_can_be_carried_out_again(
    step: RemoveColumns, application: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = rows(application)
    in_mode(step, "drop").apply()

    def kill(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr("runbook_lib.adapters.postgres.removal.returning.Mending.finish", kill)
        with pytest.raises(Killed):
            in_mode(step, "drop").undo()

    in_mode(step, "drop").apply()

    assert not_passed(in_mode(step, "drop").verify()) == []
    in_mode(step, "drop").undo()
    assert rows(application) == before


def test_a_drop_that_was_begun_can_be_finished_as_a_quarantine(
    step: RemoveColumns, postgres: Postgres, journal: Journal
) -> None:
    before = shape(postgres)
    journal.on = stop_at_progress
    with pytest.raises(Killed):
        in_mode(step, "drop").apply()
    journal.on = lambda kind, data: None

    in_mode(step, "quarantine").apply()

    assert not_passed(in_mode(step, "quarantine").verify()) == []
    assert journal.debts == {SET_ASIDE}
    in_mode(step, "quarantine").undo()
    assert differences(before, shape(postgres)) == []


def stop_at_progress(kind: str, data: dict[str, Any]) -> None:
    if kind == "progress":
        raise Killed


@pytest.mark.parametrize("mode", MODES)
def test_applied_again_it_changes_nothing(step: RemoveColumns, postgres: Postgres, mode: str) -> None:
    left = in_mode(step, mode).apply()
    before = shape(postgres)

    assert in_mode(step, mode).apply() == left
    assert shape(postgres) == before


class Once(Relay):
    """A network that is lost once: before the server hears of a COMMIT, or once it has answered it."""

    unheard: socket.socket | None = None

    def _says(self, data: bytes, client: socket.socket, server: socket.socket) -> bool:
        if self.cut_after and self.cut_after in data:
            self.cut_after, self.unheard = None, client
        went_on = super()._says(data, client, server)
        if not went_on:
            self.cut_before = None
        return went_on

    def _hears(self, data: bytes, server: socket.socket, client: socket.socket) -> bool:
        if client is self.unheard:
            client.shutdown(socket.SHUT_RDWR)
            return False
        return super()._hears(data, server, client)


@pytest.mark.parametrize("heard", [True, False], ids=["committed", "rolled back"])
@pytest.mark.parametrize("mode", MODES)
def test_a_commit_whose_answer_was_lost_is_looked_up(
    step: RemoveColumns,
    relayed: Callable[..., tuple[Postgres, Once]],
    monkeypatch: pytest.MonkeyPatch,
    mode: str,
    heard: bool,
) -> None:
    through, relay = relayed(Once)
    step.context.__dict__["postgres"] = through
    owner, name = (Quarantine, "set_aside") if mode == "quarantine" else (Dropping, "drop")
    act = getattr(owner, name)

    def then_lose(*arguments: Any) -> None:
        act(*arguments)
        setattr(relay, "cut_after" if heard else "cut_before", COMMIT)

    with monkeypatch.context() as patched:
        patched.setattr(owner, name, then_lose)
        with nullcontext() if heard else pytest.raises(AdapterError):
            in_mode(step, mode).apply()

    assert (in_mode(step, mode).probe().effect is Effect.DONE) is heard
    assert in_mode(step, mode).apply()["mode"] == mode
    assert not_passed(in_mode(step, mode).verify()) == []


@pytest.mark.parametrize("mode", MODES)
def test_a_process_that_lost_the_target_commits_nothing_more(
    step: RemoveColumns, postgres: Postgres, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    before = shape(postgres)

    def refuse(_: Connection) -> None:
        raise PreconditionError("lost")

    step.context.__dict__["postgres"] = Postgres("test", "test", refuse)

    with pytest.raises(PreconditionError, match="lost"):
        in_mode(step, mode).apply()

    assert shape(postgres) == before
    assert not has_own_schema(postgres)


# --- purge


@pytest.mark.parametrize(("mode", "debt"), [("quarantine", SET_ASIDE), ("drop", COPY)])
def test_purging_counts_what_it_destroys_and_cannot_be_undone(
    step: RemoveColumns, application: Application, postgres: Postgres, journal: Journal, mode: str, debt: str
) -> None:
    volumes = in_mode(step, mode).preview().volumes
    in_mode(step, mode).apply()

    preview = in_mode(step, mode).purge_preview(debt)
    left = in_mode(step, mode).purge(debt)

    assert preview.title.startswith("IRREVERSIBLE")
    assert preview.volumes == volumes == left["destroyed"]
    assert all(number > 0 for number in volumes.values())
    assert journal.debts == set()
    assert [name for name in shape(postgres) if "removed" in name or "replied" in name or "attachments" in name] == []
    assert ask(application, "SELECT count(*) FROM pg_class WHERE relname LIKE 'removed%'") == [(0,)]
    assert in_mode(step, mode).probe().effect is Effect.DONE
    assert not_passed(in_mode(step, mode).verify()) == []
    with pytest.raises(PreconditionError, match="purged"):
        in_mode(step, mode).undo()


def test_a_view_made_on_a_column_set_aside_stops_the_purge(step: RemoveColumns, application: Application) -> None:
    left = step.apply()
    application.execute(f"CREATE VIEW look AS SELECT {left['set aside']['attachments']} FROM messages")  # type: ignore[arg-type]

    assert "STOPPED by: view look" in str(step.purge_preview(SET_ASIDE).would)
    with pytest.raises(PreconditionError, match="view look"):
        step.purge(SET_ASIDE)


def test_a_debt_of_another_way_of_removing_destroys_nothing(step: RemoveColumns) -> None:
    step.apply()

    assert step.purge(COPY) == {"destroyed": {}}

    step.undo()
    assert step.probe().effect is Effect.NOT_DONE


def test_what_is_being_put_back_is_not_purged(step: RemoveColumns, monkeypatch: pytest.MonkeyPatch) -> None:
    step.apply()

    def kill(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr("runbook_lib.adapters.postgres.removal.returning.Mending.finish", kill)
        with pytest.raises(Killed):
            step.undo()

    with pytest.raises(PreconditionError, match="restoring"):
        step.purge(SET_ASIDE)


# --- what is found, and proven


@pytest.mark.parametrize("mode", MODES)
def test_one_other_cell_changed_meanwhile_fails_the_proof_by_its_row(
    step: RemoveColumns, application: Application, mode: str
) -> None:
    in_mode(step, mode).apply()
    application.execute("UPDATE messages SET content = content || '!' WHERE id = 7")

    assert "written since: 7" in summaries(not_passed(in_mode(step, mode).verify()))


def test_a_number_that_differs_in_its_high_half_fails_the_proof_too(step: RemoveColumns, application: Application) -> None:
    application.execute("ALTER TABLE messages ADD weight bigint DEFAULT 1")
    in_mode(step, "drop").apply()
    application.execute("UPDATE messages SET weight = 4294967296 WHERE id = 7")

    assert "written since: 7" in summaries(not_passed(in_mode(step, "drop").verify()))


@pytest.mark.parametrize("mode", MODES)
def test_any_other_change_of_the_schema_fails(step: RemoveColumns, application: Application, mode: str) -> None:
    in_mode(step, mode).apply()
    application.execute("DROP INDEX idx_messages_conversation")

    assert "removed: index public.messages idx_messages_conversation" in summaries(not_passed(in_mode(step, mode).verify()))


@pytest.mark.parametrize("mode", MODES)
def test_columns_that_a_migration_on_boot_has_made_again_are_not_taken_for_removed_pitfall_18(
    step: RemoveColumns, application: Application, mode: str
) -> None:
    in_mode(step, mode).apply()
    application.execute("ALTER TABLE messages ADD attachments jsonb")

    assert in_mode(step, mode).probe().effect is Effect.UNKNOWN
    assert "the column attachments is still there" in summaries(not_passed(in_mode(step, mode).verify()))
    with pytest.raises(PreconditionError, match="columns of these names again: attachments"):
        in_mode(step, mode).undo()


def test_columns_that_someone_else_removed_are_found_gone(step: RemoveColumns, application: Application) -> None:
    application.execute("ALTER TABLE messages DROP attachments, DROP replied_to_message_id")
    assert step.probe().effect is Effect.NOT_DONE
    application.execute("DELETE FROM schema_migrations WHERE version = '039'")

    assert (step.probe().effect, step.probe().detail) == (Effect.DONE, "the columns are not there any more")
    assert not_passed(step.verify()) == []
    assert step.preview().would == ["nothing: the columns are not there any more"]


@pytest.mark.parametrize(("exit_code", "status"), [(0, Status.PASS), (3, Status.FAIL)])
def test_the_migration_tools_own_validator_has_a_say_pitfall_25(step: RemoveColumns, exit_code: int, status: Status) -> None:
    code = f"import os, sys; print(os.path.basename(os.getcwd()), os.environ['PGSERVICE']); sys.exit({exit_code})"
    migration = step.context.plan.database.migration.model_copy(update={"validate_": [sys.executable, "-c", code]})
    validated = naming(step, migration=migration)
    validated.apply()

    (result,) = [r for r in validated.verify() if r.name == "remove-columns: validator"]

    assert result.status is status
    assert f"ended with {exit_code} and said: backend test" in result.summary


# --- steered between two parts


def at_the_first_part(step: RemoveColumns, act: Callable[[str], object]) -> None:
    """Have something done once, when the step tells of a part, and each time that it tells that it is paused."""
    report, told = step.context.report, list[str]()

    def seen(kind: str, **data: Any) -> None:
        report(kind, **data)
        if kind == "progress" and (not told or data["text"] == "paused"):
            told.append(data["text"])
            act(data["text"])

    step.context.report = seen


def test_a_copy_that_is_ended_between_two_parts_is_gone_on_with(
    step: RemoveColumns, postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(taking, "BLOCKS", 1)
    step, heard = in_mode(step, "drop"), list[bool]()
    at_the_first_part(step, lambda text: heard.append(in_mode(step, "drop").steer("abort")))

    with pytest.raises(Declined, match="ended, as was asked for"):
        step.apply()

    assert heard == [True]
    assert not step.steer("abort")
    assert step.probe().effect is Effect.HALF_DONE
    assert in_mode(step, "drop").apply()["mode"] == "drop"
    assert not_passed(in_mode(step, "drop").verify()) == []


def test_giving_dropped_columns_back_pauses_and_goes_on_between_two_parts(
    step: RemoveColumns, postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runbook_lib.steps.steered.BETWEEN_LOOKS", 0.01)
    before, step = shape(postgres), in_mode(step, "drop")
    step.apply()
    said: list[str] = []

    def steer(text: str) -> None:
        said.append(text)
        assert step.steer("go on" if text == "paused" else "pause")

    at_the_first_part(step, steer)

    step.undo()

    assert said[1:] == ["paused"]
    assert shape(postgres) == before
