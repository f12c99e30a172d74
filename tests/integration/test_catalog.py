"""The shape of a database, as facts that can be compared."""

from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from runbook_lib.config.plan import Plan
from runbook_lib.errors import AdapterError
from runbook_lib.postgres.blockers import blockers
from runbook_lib.postgres.catalog import catalog, differences, make_own_schema, missing
from runbook_lib.postgres.connection import Connection, Postgres, identity, rights_missing
from runbook_lib.postgres.sessions import of_role
from runbook_lib.rehearsal.database import Database
from runbook_lib.rehearsal.workspace import until


def test_the_feature_is_there_as_the_plan_says(connection: Connection, plan: Plan) -> None:
    assert missing(catalog(connection), plan.database, feature=True) == []


@pytest.mark.parametrize(
    ("statement", "told"),
    [
        ("ALTER TABLE messages DROP COLUMN media_url", "the column media_url is missing"),
        ("ALTER TABLE messages DROP COLUMN attachments", "the column attachments is missing"),
        ("DROP INDEX idx_messages_attachments", "the index idx_messages_attachments is missing"),
        (
            "ALTER TABLE messages DROP CONSTRAINT fk_messages_replied_to_message",
            "the constraint fk_messages_replied_to_message is missing",
        ),
        ("ALTER TABLE messages ALTER media_url TYPE varchar", "the column media_url is character varying, not text"),
    ],
)
def test_what_is_missing_is_named(
    connection: Connection, application: psycopg.Connection, plan: Plan, statement: str, told: str
) -> None:
    application.execute(statement)  # type: ignore[arg-type]

    assert told in missing(catalog(connection), plan.database, feature=True)


@pytest.mark.parametrize(
    ("statement", "told"),
    [
        ("ALTER TABLE users ADD note text", "added: column public.users note"),
        ("DROP INDEX idx_messages_replied_to", "removed: index public.messages idx_messages_replied_to"),
        ("ALTER TABLE users ALTER name DROP NOT NULL", "changed: column public.users name"),
        ("GRANT SELECT ON users TO PUBLIC", "changed: rights public.users"),
        ("ALTER TABLE users ENABLE ROW LEVEL SECURITY", "changed: rights public.users"),
    ],
)
def test_any_change_of_shape_is_a_difference(
    connection: Connection, application: psycopg.Connection, statement: str, told: str
) -> None:
    before = catalog(connection)
    application.execute(statement)  # type: ignore[arg-type]

    assert any(line.startswith(told) for line in differences(before, catalog(connection)))


def test_the_runbooks_own_tables_are_no_difference(connection: Connection) -> None:
    before = catalog(connection)
    connection.execute("CREATE SCHEMA runbook")
    connection.execute("CREATE TABLE runbook.undo_test (id bigint)")

    assert differences(before, catalog(connection)) == []


def test_who_and_where(connection: Connection, database: Database) -> None:
    here = identity(connection)

    assert (here.database, here.role) == (database.name, "runbook")


def test_the_applications_connections_are_seen(connection: Connection, application: psycopg.Connection) -> None:
    pids = [session.pid for session in of_role(connection, "social_selling_user")]

    assert pids == [application.info.backend_pid]


def test_the_rights_that_are_missing_are_named(connection: Connection, database: Database) -> None:
    assert rights_missing(connection, "public", "messages") == []
    with database.server.connect(dbname=database.name) as superuser:
        superuser.execute(f"ALTER DATABASE {database.name} OWNER TO postgres")  # type: ignore[arg-type]
        superuser.execute(f"REVOKE CREATE ON DATABASE {database.name} FROM runbook")  # type: ignore[arg-type]

    assert rights_missing(connection, "public", "messages") == ["make a schema for undo rows"]


def test_a_database_that_is_not_there_is_a_clear_error(postgres: Postgres, database: Database) -> None:
    database.drop()

    with pytest.raises(AdapterError, match="cannot be reached"), postgres.connect():
        pass


def test_a_failed_statement_is_reported_without_the_drivers_traceback(postgres: Postgres) -> None:
    with pytest.raises(AdapterError, match="no_such_table"), postgres.connect() as connection:
        connection.execute("SELECT * FROM no_such_table")


def test_two_sessions_that_make_the_runbooks_schema_at_once_both_succeed(postgres: Postgres, connection: Connection) -> None:
    with postgres.connect() as first, postgres.connect() as second, ThreadPoolExecutor(1) as pool:
        with first.transaction():
            make_own_schema(first)
            later = pool.submit(make_own_schema, second)
            assert until(lambda: blockers(connection, second.info.backend_pid) != [], 5)
        later.result()

        assert second.execute("SELECT to_regnamespace('runbook') IS NOT NULL AS it").fetchall() == [{"it": True}]
