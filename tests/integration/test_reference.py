"""Media missing that a backup holds, what statements took, and who is connected, on a real server."""

from pathlib import Path

import psycopg
import pytest

from runbook_lib.config.plan import Plan
from runbook_lib.errors import PreconditionError
from runbook_lib.postgres import sessions
from runbook_lib.postgres.backfill import Backfill
from runbook_lib.postgres.backfill_statistics import Missed, missed
from runbook_lib.postgres.connection import Connection, Postgres
from runbook_lib.postgres.dump import DumpTools
from runbook_lib.rehearsal.database import Database, dump
from runbook_lib.rehearsal.postgres import binaries
from runbook_lib.system.processes import LocalProcesses

SHOWN = 200  # of 600 rows, each third has a picture


@pytest.fixture
def data(database: Database, postgres: Postgres, tmp_path: Path) -> Path:
    """The table's rows in a backup of the clone as it is before the test spoils it."""
    tools = DumpTools(LocalProcesses(), str(database.server.tools or binaries()), postgres.service)
    tools.rows_of(dump(database, tmp_path), "public", "messages", tmp_path / "rows.copy", 60)
    return tmp_path / "rows.copy"


def compared(connection: Connection, plan: Plan, data: Path, column: str) -> Missed:
    return missed(connection, Backfill(plan.database, "test"), data, column)


def test_nothing_is_missing_where_nothing_was_changed(connection: Connection, plan: Plan, data: Path) -> None:
    found = compared(connection, plan, data, "media_url")

    assert found == Missed(SHOWN, 0, 0, [])


@pytest.mark.parametrize("value", ["NULL", "''"])
def test_a_row_without_a_value_is_missing_and_named(
    connection: Connection, application: psycopg.Connection, plan: Plan, data: Path, value: str
) -> None:
    application.execute(f"UPDATE messages SET media_url = {value} WHERE id IN (3, 300)")  # type: ignore[arg-type]

    found = compared(connection, plan, data, "media_url")

    assert (found.missing, found.keys) == (2, ["3", "300"])


def test_a_deleted_row_is_distinguished_from_a_missing_picture(
    connection: Connection, application: psycopg.Connection, plan: Plan, data: Path
) -> None:
    application.execute("UPDATE messages SET replied_to_message_id = NULL")
    application.execute("DELETE FROM messages WHERE id = 3")

    found = compared(connection, plan, data, "media_url")

    assert (found.rows, found.missing, found.gone) == (SHOWN - 1, 0, 1)


@pytest.mark.parametrize("value", ["'[]'", "NULL", "'{\"broken\": 1}'", "'[\"a text\"]'"])
def test_a_list_without_an_object_shows_nothing(
    connection: Connection, application: psycopg.Connection, plan: Plan, data: Path, value: str
) -> None:
    application.execute(f"UPDATE messages SET attachments = {value} WHERE id = 9")  # type: ignore[arg-type]

    assert compared(connection, plan, data, "attachments").keys == ["9"]
    assert compared(connection, plan, data, "media_url").missing == 0


def test_an_upload_of_a_users_own_counts_where_the_list_is_what_is_shown(
    connection: Connection, application: psycopg.Connection, plan: Plan, data: Path
) -> None:
    application.execute("UPDATE messages SET attachments = '[]' WHERE id = 7")  # an upload, and never a picture of old

    assert compared(connection, plan, data, "attachments").keys == ["7"]


def test_a_backup_without_the_table_is_no_reference(connection: Connection, plan: Plan, tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("--\n")

    with pytest.raises(PreconditionError, match="no data"):
        compared(connection, plan, tmp_path / "empty", "media_url")


# --- statements


def test_statements_between_two_samples_are_listed_slowest_first(
    measured: Database, postgres: Postgres, application: psycopg.Connection
) -> None:
    application.execute("SELECT count(*) FROM messages")
    before = sessions.taken(postgres, measured.application.name)
    application.execute("SELECT pg_sleep(0.05)")
    application.execute("SELECT count(*) FROM users")
    after = sessions.taken(postgres, measured.application.name)
    assert before is not None
    assert after is not None

    found = sessions.during(before, after)

    assert ["pg_sleep" in found[0].query, found[0].calls, found[0].milliseconds >= 50] == [True, 1, True]
    assert not [each for each in found if "FROM messages" in each.query]


def test_where_the_extension_is_not_there_nobody_has_measured(measured: Database, postgres: Postgres) -> None:
    with measured.server.connect() as superuser:
        superuser.execute("DROP EXTENSION pg_stat_statements")

    assert sessions.taken(postgres, measured.application.name) is None


# --- sessions


def test_a_session_is_ended_only_while_it_is_the_one_that_was_named(
    connection: Connection, application: psycopg.Connection
) -> None:
    (session,) = sessions.of_others(connection)
    assert session.pid == application.info.backend_pid
    another = sessions.Session(session.pid, "2001-01-01", session.user, "", "", 0, "")

    assert sessions.end(connection, [another]) == []
    assert application.execute("SELECT 1").fetchone() == (1,)

    assert sessions.end(connection, [session]) == [session.name]
    with pytest.raises(psycopg.OperationalError):
        application.execute("SELECT 1")


def test_a_session_that_our_role_may_not_end_is_named(connection: Connection, database: Database) -> None:
    with psycopg.connect(database.conninfo()) as superuser:
        superuser.execute("SELECT 1")
        (session,) = sessions.of_others(connection)

        with pytest.raises(PreconditionError, match="may not be ended"):
            sessions.end(connection, [session])


def test_the_runbooks_own_sessions_are_not_among_those_in_the_way(connection: Connection, postgres: Postgres) -> None:
    with postgres.connect():
        assert sessions.of_others(connection) == []
