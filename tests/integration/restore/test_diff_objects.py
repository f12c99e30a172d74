"""The differences of two databases in objects other than rows, and differences that cannot be known."""

import pytest

from runbook_lib.errors import PreconditionError
from runbook_lib.postgres.restore.diff import Ledger, diff
from runbook_lib.postgres.restore.difference_kinds import Kind

from ...support.two import BACKFILLED, Two


def test_generated_and_identity_columns_are_compared_as_any_other(two: Two) -> None:
    two.both(
        """CREATE TABLE made (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, a int,
           twice int GENERATED ALWAYS AS (a * 2) STORED)""",
        "INSERT INTO made (a) VALUES (1), (2)",
    )
    two.live.execute("UPDATE made SET a = 3 WHERE id = 2")

    assert two.samples("public.made", Kind.CHANGED) == ("2",)


def test_columns_of_one_side_alone_are_named_with_the_rows_that_use_them(two: Two) -> None:
    two.both("CREATE TABLE shaped (id bigint PRIMARY KEY, v text)", "INSERT INTO shaped VALUES (1), (2)")
    two.live.execute("ALTER TABLE shaped ADD later text")
    two.live.execute("UPDATE shaped SET later = 'x' WHERE id = 1")
    two.backup.execute("ALTER TABLE shaped ADD earlier text DEFAULT 'x'")
    table = two.diff().table("public.shaped")

    assert (table.columns_only_in_live, table.columns_only_in_backup) == ({"later": 1}, {"earlier": 2})
    assert not table.differs


def test_a_backup_from_before_the_feature_counts_what_users_put_in(two: Two) -> None:
    two.backup.execute("ALTER TABLE messages DROP attachments, DROP replied_to_message_id")

    table = two.diff().table(BACKFILLED)

    own = two.live.execute(
        """SELECT count(*) FROM messages m WHERE EXISTS (SELECT FROM jsonb_array_elements(attachments) e
           WHERE e <> jsonb_build_object('type', media_type, 'url', media_url, 'source', 'legacy_migration'))"""
    ).fetchone()
    assert own is not None
    assert table.columns_only_in_live["attachments"] == own[0] > 0
    assert table.columns_only_in_live["replied_to_message_id"] > 0
    assert table.counts == {}


def test_without_the_source_column_every_difference_counts_as_the_users(two: Two) -> None:
    two.both("ALTER TABLE messages DROP media_url")
    two.backup.execute("UPDATE messages SET attachments = '[]' WHERE id = 3")

    assert two.counts(BACKFILLED) == {"feature": 1}


def test_tables_of_one_side_alone_are_listed_with_their_rows(two: Two) -> None:
    two.live.execute("CREATE TABLE later AS SELECT 1 AS a")
    two.backup.execute("CREATE TABLE earlier AS SELECT n FROM generate_series(1, 2) n")
    ledger = two.diff()

    assert (ledger.tables_only_in_live, ledger.tables_only_in_backup) == ({"public.later": 1}, {"public.earlier": 2})


def test_a_publication_that_the_backup_does_not_hold_is_listed(two: Two) -> None:
    with two.here.connect() as connection:
        connection.execute("CREATE PUBLICATION changes FOR TABLE users")
    assert two.diff().only_in_live == ("publication changes",)


def test_an_extension_that_the_backup_does_not_hold_is_listed(two: Two) -> None:
    two.live.execute("CREATE EXTENSION citext")

    (name,) = two.diff().only_in_live
    assert name.startswith("extension citext ")


def test_functions_views_and_triggers_redefined_since_are_listed(two: Two) -> None:
    two.both(
        "CREATE FUNCTION kept() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "CREATE FUNCTION \"Changed\"(a int) RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "CREATE PROCEDURE done() LANGUAGE sql AS 'SELECT 1'",
        "CREATE VIEW seen AS SELECT id FROM users",
        "CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'",
        "CREATE TRIGGER noting AFTER INSERT ON users FOR EACH ROW EXECUTE FUNCTION note()",
    )
    assert two.diff().defined_otherwise == ()

    for statement in (
        "CREATE OR REPLACE FUNCTION \"Changed\"(a int) RETURNS int LANGUAGE sql AS 'SELECT 2'",
        "CREATE OR REPLACE PROCEDURE done() LANGUAGE sql AS 'SELECT 2'",
        "CREATE OR REPLACE VIEW seen AS SELECT id FROM users WHERE id > 0",
        "ALTER TABLE users DISABLE TRIGGER noting",
        "CREATE FUNCTION newer() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    ):
        two.live.execute(statement)  # type: ignore[call-overload]

    ledger = two.diff()
    assert ledger.defined_otherwise == (
        'function public."Changed"(integer)',
        "procedure public.done()",
        "trigger noting of public.users",
        "view public.seen",
    )
    assert Ledger.from_json(ledger.as_json()) == ledger


def test_a_table_of_an_extension_or_on_another_server_is_not_compared(two: Two) -> None:
    two.as_superuser(
        "CREATE EXTENSION file_fdw",
        "CREATE SERVER files FOREIGN DATA WRAPPER file_fdw",
        "CREATE FOREIGN TABLE elsewhere (a text) SERVER files OPTIONS (filename '/nowhere')",
        "CREATE TABLE settings (a int)",
        "ALTER EXTENSION file_fdw ADD TABLE settings",
    )

    assert two.diff().not_compared == {
        "public.elsewhere": "its rows are elsewhere",
        "public.settings": "belongs to the extension file_fdw",
        "public.schema_migrations": "the history of migrations belongs to the schema, so it stays as the backup has it",
    }


def test_large_objects_are_counted_and_fingerprinted(two: Two) -> None:
    for connection in (two.live, two.backup):
        connection.execute("SELECT lo_from_bytea(4711, 'old')")
    assert not two.diff().large_objects.differs

    two.live.execute("SELECT lo_put(4711, 0, 'new')")
    found = two.diff().large_objects

    assert (found.differs, found.live, found.backup, found.unknown) == (True, 1, 1, "")


def test_large_objects_that_our_role_may_not_read_are_unknown(two: Two) -> None:
    two.both("SELECT lo_from_bytea(4711, 'same')")
    two.as_superuser(f"REVOKE pg_read_all_data FROM {two.role}")
    try:
        assert list(two.diff().unknown) == ["large objects"]
    finally:
        two.as_superuser(f"GRANT pg_read_all_data TO {two.role}")


def test_rows_that_a_policy_would_hide_are_unknown_and_not_absent(two: Two) -> None:
    two.both(
        "CREATE TABLE secret (id bigint PRIMARY KEY)",
        "INSERT INTO secret VALUES (1)",
        "ALTER TABLE secret ENABLE ROW LEVEL SECURITY",
        "ALTER TABLE secret FORCE ROW LEVEL SECURITY",
    )
    ledger = two.diff()

    assert "row-level security" in ledger.unknown["public.secret"]
    assert ledger.table(BACKFILLED).live == 600


def test_row_security_that_does_not_concern_our_role_is_no_hindrance(two: Two) -> None:
    two.both("CREATE TABLE secret (id bigint PRIMARY KEY)", "ALTER TABLE secret ENABLE ROW LEVEL SECURITY")
    two.live.execute("INSERT INTO secret VALUES (1)")

    assert two.counts("public.secret") == {"new": 1}


def test_databases_in_different_encodings_are_refused(two: Two) -> None:
    name = f"{two.backup.info.dbname}_latin"
    with two.server.connect() as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE template0 ENCODING latin1 LOCALE 'C'")  # type: ignore[call-overload]
    try:
        with pytest.raises(PreconditionError, match="LATIN1"):
            diff(two.here.connect, lambda: two.there.connect(name), two.plan, [])
    finally:
        with two.server.connect() as connection:
            connection.execute(f"DROP DATABASE {name} (FORCE)")  # type: ignore[call-overload]
