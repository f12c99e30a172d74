"""The application's statements run on the clone before and after the DDL, and what fails then is named."""

from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from runbook_lib.config.plan import Exercise, Plan
from runbook_lib.context import Context
from runbook_lib.postgres.connection import Postgres, one
from runbook_lib.rehearsal.database import Database
from runbook_lib.results import Result, Status
from runbook_lib.steps.ddl_dry_run import EXERCISE, NAME

from ..support.cloned import all_tried, as_superuser, context_of, has_superuser_service

COPY = """CREATE TABLE audit AS SELECT * FROM messages WITH NO DATA;
CREATE FUNCTION copy_row() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN INSERT INTO audit SELECT NEW.*; RETURN NULL; END';
CREATE TRIGGER copy_row AFTER INSERT ON messages FOR EACH ROW EXECUTE FUNCTION copy_row()"""
INSERT = "INSERT INTO messages (conversation_id, sender_id, content) VALUES ($1, $2, $3)"
UPDATE = "UPDATE messages SET content = $2 WHERE id = $1"

Tried = Callable[..., dict[str, Result]]


@pytest.fixture
def context(plan: Plan, database: Database, postgres: Postgres, tmp_path: Path) -> Context:
    return context_of(plan, database, postgres, tmp_path)


@pytest.fixture
def tried(context: Context) -> Tried:
    """What came of trying a way on a clone, by name, with statements of the plan."""

    def trying(way: str, *statements: str | dict[str, object]) -> dict[str, Result]:
        given = [{"sql": each} if isinstance(each, str) else each for each in statements]
        planned = [Exercise.model_validate(each) for each in given]
        context.plan = context.plan.model_copy(update={"exercise": planned})
        return {found.name: found for found in all_tried(context, way)}

    return trying


def test_a_trigger_that_copies_rows_by_position_is_found(tried: Tried, application: psycopg.Connection) -> None:
    application.execute(COPY)

    found = tried("swap", INSERT, UPDATE)

    assert found[NAME].status is Status.PASS
    assert found[EXERCISE].status is Status.FAIL
    assert f"`{INSERT}` fails after swap" in found[EXERCISE].summary
    assert "copy_row()" in found[EXERCISE].summary
    assert "UPDATE" not in found[EXERCISE].summary
    assert "waive exercise" in found[EXERCISE].summary


LOG = """CREATE FUNCTION log() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN {}; RETURN NULL; END$$;
CREATE TRIGGER log AFTER INSERT OR UPDATE ON messages FOR EACH ROW EXECUTE FUNCTION log()"""
OF_TEXTS = "CREATE TABLE log (a text, b text, c text, d text, e text, f text, g text, h text, i text, j text, k text);"
OF_ROWS = "CREATE TABLE log (id bigserial, at timestamptz DEFAULT clock_timestamp(), row jsonb, text text);"
BY_POSITION = "INSERT INTO log SELECT NEW.*"
AS_JSON = "INSERT INTO log (row, text) VALUES (to_jsonb(NEW), row_to_json(NEW)::text)"


@pytest.mark.newest
@pytest.mark.parametrize(
    ("way", "table", "writes", "said"),
    [
        ("swap", OF_TEXTS, BY_POSITION, "writes something else after swap: log."),
        *((way, OF_ROWS, AS_JSON, "") for way in ("swap", "quarantine", "drop")),
    ],
)
def test_a_statement_that_writes_something_else_is_found(
    tried: Tried, application: psycopg.Connection, way: str, table: str, writes: str, said: str
) -> None:
    application.execute(table + LOG.format(writes))  # type: ignore[call-overload]

    found = tried(way, INSERT, UPDATE)[EXERCISE]

    assert (found.status, said in found.summary) == (Status.FAIL if said else Status.PASS, True), found.summary


@pytest.mark.parametrize("way", ["swap", "batched", "quarantine", "drop"])
def test_statements_that_run_as_before_pass(
    tried: Tried, application: psycopg.Connection, postgres: Postgres, way: str
) -> None:
    rows = "SELECT md5(string_agg(m::text, ',' ORDER BY id)) FROM messages m"
    before = application.execute(rows).fetchone()

    found = tried(way, INSERT, UPDATE, "SELECT * FROM messages WHERE conversation_id = $1 ORDER BY id LIMIT $2")

    assert [(each.name, each.status) for each in found.values()] == [(NAME, Status.PASS), (EXERCISE, Status.PASS)], found
    assert "3 statements of the plan run as before" in found[EXERCISE].summary
    assert application.execute(rows).fetchone() == before
    with postgres.connect() as connection:
        assert one(connection, "SELECT last_value AS it FROM messages_id_seq")["it"] == 600


@pytest.mark.newest
def test_what_fails_before_already_is_named_and_not_counted(tried: Tried) -> None:
    found = tried("swap", UPDATE, "UPDATE messages SET sender_id = -1", "SELECT nothing FROM messages")[EXERCISE]

    assert found.status is Status.PASS
    assert "already fail before it: 2 (`UPDATE messages SET sender_id" in found.summary
    assert "violates foreign key" in found.summary


@pytest.mark.newest
@pytest.mark.parametrize("way", ["quarantine", "drop"])
def test_a_statement_that_names_what_goes_is_the_features_own(tried: Tried, way: str) -> None:
    found = tried(way, UPDATE, "UPDATE messages m SET attachments = $1 WHERE m.id = $2")[EXERCISE]

    assert found.status is Status.PASS
    assert "they name what is removed: 1 (`UPDATE messages m SET attachments" in found.summary


def test_a_trigger_that_uses_what_goes_fails(tried: Tried, application: psycopg.Connection) -> None:
    application.execute(
        """CREATE FUNCTION looks() RETURNS trigger LANGUAGE plpgsql AS
             $$BEGIN EXECUTE 'SELECT ($1).att' || 'achments' USING NEW; RETURN NEW; END$$;
           CREATE TRIGGER looks BEFORE UPDATE OF content ON messages FOR EACH ROW EXECUTE FUNCTION looks()"""
    )

    found = tried("quarantine", UPDATE)[EXERCISE]

    assert (found.status, "looks()" in found.summary) == (Status.FAIL, True), found.summary


@pytest.mark.newest
def test_example_values_are_taken_as_given(tried: Tried, application: psycopg.Connection) -> None:
    application.execute("ALTER TABLE messages ADD CHECK (content <> 'no')")

    found = tried("swap", UPDATE, {"sql": UPDATE, "with": {2: "no"}}, {"sql": UPDATE, "with": {1: 7, 2: "yes"}})[EXERCISE]

    assert found.status is Status.PASS
    assert "2 statements of the plan" in found.summary
    assert "messages_content_check" in found.summary


@pytest.mark.newest
def test_where_no_statement_of_the_plan_runs_it_is_unknown(tried: Tried) -> None:
    found = tried("swap", "SELECT nothing FROM messages", "VACUUM messages")[EXERCISE]

    assert found.status is Status.UNKNOWN
    assert "waive exercise" in found.summary
    assert "not exercised: 1 (VACUUM messages): neither reads nor writes rows" in found.summary


@pytest.mark.newest
def test_where_the_plan_names_nothing_that_can_be_tried_it_is_unknown(tried: Tried) -> None:
    found = tried("swap", "VACUUM messages")[EXERCISE]

    assert found.status is Status.UNKNOWN
    assert "not exercised: 1 (VACUUM messages)" in found.summary


@pytest.mark.newest
def test_an_insert_with_a_key_of_the_applications_own_gets_an_unused_one(
    tried: Tried, application: psycopg.Connection
) -> None:
    application.execute(
        """CREATE TABLE notes (id uuid PRIMARY KEY, slug text UNIQUE, number int UNIQUE, message bigint REFERENCES messages);
           INSERT INTO notes VALUES (gen_random_uuid(), 'a', 1, 600)"""
    )

    found = tried("swap", "INSERT INTO notes (id, slug, number, message) VALUES ($1, $2, $3, $4)")[EXERCISE]

    assert (found.status, "1 statement of the plan runs as before" in found.summary) == (Status.PASS, True), found.summary


@pytest.mark.newest
def test_nothing_outside_the_database_happens(
    tried: Tried, database: Database, application: psycopg.Connection, tmp_path: Path
) -> None:
    """The stand-in for what acts elsewhere is a C function of no extension."""
    as_superuser(
        database,
        """CREATE FUNCTION far(text) RETURNS int LANGUAGE c AS 'citext', 'citext_hash';
           CREATE FUNCTION send() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM far(NEW.content); RETURN NEW; END';
           CREATE FUNCTION plain() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN PERFORM pg_notify('x', ''); RETURN NEW; END$$;
           CREATE VIEW afar AS SELECT far(content) AS it FROM messages;
           GRANT SELECT ON afar TO PUBLIC;
           CREATE TRIGGER send BEFORE INSERT ON messages FOR EACH ROW EXECUTE FUNCTION send();
           CREATE TRIGGER plain BEFORE INSERT ON messages FOR EACH ROW EXECUTE FUNCTION plain()""",
    )
    has_superuser_service(database, tmp_path)
    application.execute("LISTEN x")

    found = tried("swap", INSERT, "SELECT it FROM afar", "SELECT far($1)", "SELECT pg_terminate_backend($1)")[EXERCISE]

    assert found.status is Status.PASS, found.summary
    assert "did not fire: send of messages" in found.summary
    assert "1 (`SELECT it FROM afar`): afar may act outside" in found.summary
    assert "1 (`SELECT far($1)`): far may act outside" in found.summary
    assert "pg_terminate_backend may act outside" in found.summary
    assert list(application.notifies(timeout=0.1)) == []


@pytest.mark.newest
def test_it_runs_in_the_applications_role(tried: Tried, database: Database) -> None:
    as_superuser(
        database,
        f"""CREATE TABLE kept (it int); ALTER TABLE kept OWNER TO runbook;
            GRANT INSERT ON kept TO {database.application.name}""",
    )

    found = tried("swap", "INSERT INTO kept (it) VALUES ($1)", "DELETE FROM kept WHERE it = $1")[EXERCISE]

    assert found.status is Status.PASS
    assert "already fail before it: 1 (`DELETE FROM kept" in found.summary
    assert "permission denied" in found.summary


@pytest.mark.newest
def test_where_owners_cannot_be_restored_it_runs_as_our_role(tried: Tried, database: Database) -> None:
    as_superuser(database, "CREATE TABLE elsewhere (it int); GRANT SELECT ON elsewhere TO postgres")

    found = tried("quarantine", UPDATE)[EXERCISE]

    assert found.status is Status.PASS, found.summary
    assert "they ran as our role" in found.summary


@pytest.mark.usefixtures("measured")
def test_without_statements_of_the_plan_the_most_frequent_ones_are_tried(
    tried: Tried, application: psycopg.Connection
) -> None:
    application.execute(COPY)
    for number in range(3):
        application.execute("BEGIN")
        application.execute("INSERT INTO messages (conversation_id, sender_id, content) VALUES (1, 1, %s)", [str(number)])
        application.execute("COMMIT")
    application.execute("SELECT id, content FROM messages WHERE conversation_id = 3 AND media_type = 'image' LIMIT 5")

    found = tried("swap")[EXERCISE]

    assert found.status is Status.FAIL
    assert found.summary.startswith("`INSERT INTO messages (conversation_id, sender_id, content) VALUES (")
    assert "fails after swap" in found.summary
    assert "neither reads nor writes rows" in found.summary


@pytest.mark.newest
def test_where_nobody_measures_statements_the_preview_says_so(tried: Tried, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runbook_lib.postgres.exercise.trial.frequent", lambda *_: None)

    found = tried("swap")

    assert list(found) == [NAME]
    assert "no statement of the application was tried: pg_stat_statements is not on this server" in found[NAME].summary


@pytest.mark.newest
def test_where_none_of_the_most_frequent_ones_runs_the_preview_says_so(
    tried: Tried, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runbook_lib.postgres.exercise.trial.frequent", lambda *_: ["SELECT nothing FROM messages"])

    found = tried("swap")

    assert list(found) == [NAME]
    assert (
        "no statement of the application was tried: not counted, since they already fail before it: 1" in found[NAME].summary
    )


def test_rows_come_with_all_that_they_refer_to(tried: Tried, application: psycopg.Connection) -> None:
    application.execute(
        """CREATE TABLE a (id int PRIMARY KEY, "B" int, part text);
           CREATE TABLE b ("Id" int, of text, up int, PRIMARY KEY ("Id", of)) PARTITION BY LIST (of);
           CREATE TABLE b1 PARTITION OF b FOR VALUES IN ('x'); ALTER TABLE b ADD FOREIGN KEY (up, of) REFERENCES b;
           INSERT INTO b SELECT n, 'x', nullif(n - 1, 0) FROM generate_series(1, 9) n;
           INSERT INTO a SELECT n, 10 - n, 'x' FROM generate_series(1, 9) n;
           ALTER TABLE a ADD FOREIGN KEY ("B", part) REFERENCES b; CREATE VIEW seen AS SELECT * FROM a JOIN b ON "B" = "Id";
           ALTER TABLE a ADD double int GENERATED ALWAYS AS (id * 2) STORED"""
    )

    found = tried("quarantine", 'UPDATE a SET "B" = $1 WHERE id = $2', "SELECT * FROM seen WHERE id = $1")

    assert [each.status for each in found.values()] == [Status.PASS, Status.PASS], found
    assert "2 statements" in found[EXERCISE].summary
