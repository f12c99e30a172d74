"""The exchange of the names: who waits, who is ended, and what follows the name."""

from typing import Any, LiteralString

import psycopg
import pytest

from runbook_lib.errors import PreconditionError, StepFailed
from runbook_lib.postgres.restore import cutover
from runbook_lib.run import engine
from runbook_lib.steps import swap_database

from ...support.restoring import ADDED, SWAP, Restoring


def test_new_connections_are_refused_before_present_ones_are_ended(
    restoring: Restoring, monkeypatch: pytest.MonkeyPatch
) -> None:
    restoring.restore_staging()
    refused = []
    let_in = cutover.let_in

    def and_try(maintenance: Any, database: str, it_does: bool) -> None:
        let_in(maintenance, database, it_does)
        if not it_does:
            with pytest.raises(psycopg.OperationalError, match="not currently accepting connections"):
                psycopg.connect(restoring.database.conninfo(restoring.database.application))
            refused.append(database)

    with psycopg.connect(restoring.database.conninfo(restoring.database.application)) as idle:
        pid = idle.info.backend_pid
        restoring.approve()
        shown = restoring.run.steps[SWAP].preview()
        monkeypatch.setattr(cutover, "let_in", and_try)
        engine.apply(restoring.run, SWAP)
        with pytest.raises(psycopg.OperationalError):
            idle.execute("SELECT 1")

    assert f"pid {pid} " in shown.would[0]
    ended_sessions = [line for event in restoring.journaled("sessions-ended") for line in event["sessions"]]
    assert sum(f"pid {pid} " in line for line in ended_sessions) == 1  # a session of ours may still be closing
    assert refused[0] == restoring.database.name


def test_writes_wait_from_the_last_comparison_on_and_reads_do_not(
    restoring: Restoring, monkeypatch: pytest.MonkeyPatch
) -> None:
    restoring.restore_staging()
    restoring.approve()
    compared = swap_database.compared
    seen = []

    def and_try(*arguments: Any, **named: Any) -> Any:
        with psycopg.connect(restoring.database.conninfo(restoring.database.application), autocommit=True) as it:
            it.execute("SET lock_timeout = '50ms'")
            seen.append(it.execute("SELECT count(*) FROM messages").fetchone())
            with pytest.raises(psycopg.errors.LockNotAvailable):
                it.execute(ADDED)
        return compared(*arguments, **named)

    monkeypatch.setattr(swap_database, "compared", and_try)
    engine.apply(restoring.run, SWAP)

    assert seen == [(600,)]


@pytest.mark.newest
def test_a_writer_that_does_not_end_is_shown_and_nothing_is_changed(
    restoring: Restoring, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cutover, "TRIES", (200,))
    restoring.restore_staging()
    restoring.approve()
    with psycopg.connect(restoring.database.conninfo(restoring.database.application)) as writer:
        writer.execute(ADDED)

        with pytest.raises(StepFailed, match=f"pid {writer.info.backend_pid} "):
            engine.apply(restoring.run, SWAP)

        writer.rollback()
    assert set(restoring.databases) == {"live", "restored"}
    assert set(restoring.run.state.pending) == {"restored-database"}


def test_a_superusers_session_stops_the_swap_beforehand(restoring: Restoring) -> None:
    restoring.restore_staging()
    restoring.approve()
    with (
        restoring.database.server.connect(dbname=restoring.database.name) as session,
        pytest.raises(PreconditionError, match=f"superusers' sessions: pid {session.info.backend_pid} "),
    ):
        engine.apply(restoring.run, SWAP)

    assert set(restoring.databases) == {"live", "restored"}


@pytest.mark.newest
def test_a_session_that_cannot_be_ended_lets_connections_in_again(
    restoring: Restoring, monkeypatch: pytest.MonkeyPatch
) -> None:
    restoring.restore_staging()
    restoring.approve()
    monkeypatch.setattr(swap_database, "outranks", lambda maintenance, role: False)
    with (
        restoring.database.server.connect(dbname=restoring.database.name) as session,
        pytest.raises(StepFailed, match=f"could not be ended: pid {session.info.backend_pid} "),
    ):
        engine.apply(restoring.run, SWAP)

    restoring.change("SELECT 1")
    assert set(restoring.databases) == {"live", "restored"}
    assert set(restoring.run.state.pending) == {"restored-database"}


@pytest.mark.newest
def test_a_process_that_has_lost_the_target_does_not_swap(restoring: Restoring, monkeypatch: pytest.MonkeyPatch) -> None:
    restoring.restore_staging()
    restoring.approve()
    compared = swap_database.compared

    def and_lose(*arguments: Any, **named: Any) -> Any:
        restoring.administer("UPDATE runbook.lease SET epoch = epoch + 1")
        return compared(*arguments, **named)

    monkeypatch.setattr(swap_database, "compared", and_lose)
    with pytest.raises(StepFailed, match="does not hold the target any more"):
        engine.apply(restoring.run, SWAP)

    assert set(restoring.databases) == {"live", "restored"}


@pytest.mark.usefixtures("really_restored")
def test_settings_grants_comment_and_limit_follow_the_name(restoring: Restoring) -> None:
    restoring.administer(
        "ALTER DATABASE {} SET work_mem = '7MB'",
        """ALTER DATABASE {} SET search_path = "$user", public, "Odd, one" """,
        "ALTER ROLE social_selling_user IN DATABASE {} SET statement_timeout = '90s'",
        "REVOKE CONNECT, TEMPORARY ON DATABASE {} FROM PUBLIC",
        "GRANT CONNECT ON DATABASE {} TO pg_monitor WITH GRANT OPTION",
        "ALTER DATABASE {} CONNECTION LIMIT 33",
        "COMMENT ON DATABASE {} IS 'The one''s own'",
    )
    query: LiteralString = """SELECT datname ~ '_', datconnlimit, shobj_description(oid, 'pg_database'),
        (SELECT array_agg((setrole::regrole, entry)::text ORDER BY (setrole::regrole, entry)::text)
         FROM pg_db_role_setting, unnest(setconfig) entry WHERE setdatabase = d.oid),
        (SELECT array_agg(a::text ORDER BY a::text) FROM unnest(datacl) a)
        FROM pg_database d WHERE datname = current_database()"""
    before = restoring.ask(query)

    done = restoring.swap()

    assert restoring.ask(query) == before
    assert done.results[0].status == "PASS"


@pytest.mark.newest
def test_settings_that_did_not_follow_the_name_are_reported(restoring: Restoring) -> None:
    restoring.swap()
    restoring.administer("ALTER DATABASE {} SET work_mem = '7MB'", "GRANT TEMPORARY ON DATABASE {} TO pg_monitor")

    found = restoring.run.steps[SWAP].verify()[0]

    assert found.status == "FAIL"
    assert "work_mem" in found.summary
    assert "pg_monitor" in found.summary


def test_no_sequence_issues_a_value_again(restoring: Restoring) -> None:
    restoring.change(
        "SELECT setval('messages_id_seq', 5000)",
        "CREATE SEQUENCE newer",
        "SELECT nextval('users_id_seq')",
        "SELECT setval('conversations_id_seq', 3)",
    )
    before = restoring.ask("SELECT last_value FROM conversations_id_seq", restoring.database.name)

    restoring.swap()

    values = restoring.ask("SELECT sequencename, last_value FROM pg_sequences ORDER BY 1")
    assert dict(values) == {"conversations_id_seq": 24, "messages_id_seq": 5000, "users_id_seq": 41}
    assert before == [(3,)]


@pytest.mark.newest
def test_a_sequence_that_is_behind_is_reported(restoring: Restoring) -> None:
    restoring.swap()
    restoring.administer("SELECT setval('messages_id_seq', 5)")

    found = restoring.run.steps[SWAP].verify()[1]

    assert (found.status, "messages_id_seq" in found.summary) == ("FAIL", True)


@pytest.mark.usefixtures("really_restored")
def test_the_runbooks_own_records_come_along_and_back(restoring: Restoring) -> None:
    with restoring.run.context.adapters.postgres.connect() as own:
        own.execute("CREATE SCHEMA IF NOT EXISTS runbook")
        own.execute("CREATE TABLE runbook.records (id int PRIMARY KEY, text text)")
        own.execute("INSERT INTO runbook.records VALUES (1, 'before')")

    restoring.swap()
    assert restoring.ask("SELECT * FROM runbook.records") == [(1, "before")]
    restoring.administer("INSERT INTO runbook.records VALUES (2, 'after')")
    engine.undo(restoring.run, SWAP)

    assert restoring.ask("SELECT * FROM runbook.records ORDER BY 1") == [(1, "before"), (2, "after")]
    assert restoring.ask("SELECT count(*) FROM pg_index WHERE indrelid = 'runbook.records'::regclass") == [(1,)]


@pytest.mark.newest
@pytest.mark.parametrize(
    ("made", "found"),
    [
        ("INSERT INTO runbook.records VALUES (2)", [(1,), (2,)]),
        ("DELETE FROM runbook.records", []),
        ("ALTER TABLE runbook.records ADD COLUMN text text", [(1, None)]),
        ("CREATE TABLE runbook.later AS SELECT 1 AS id", [(1,)]),
    ],
)
def test_later_changes_of_records_once_carried_over_are_carried_over_too(
    restoring: Restoring, made: LiteralString, found: list[Any]
) -> None:
    restoring.restore_staging()
    with psycopg.connect(restoring.database.conninfo(restoring.database.runbook), autocommit=True) as own:
        own.execute("CREATE TABLE runbook.records (id int PRIMARY KEY)")
        own.execute("INSERT INTO runbook.records VALUES (1)")
        bring = cutover.bring_records

        def and_then(*given: Any) -> None:
            bring(*given)
            patched.undo()
            own.execute(made)

        restoring.approve()
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(cutover, "bring_records", and_then)
            engine.apply(restoring.run, SWAP)

    assert restoring.ask("SELECT * FROM runbook.records ORDER BY 1") == found
    assert restoring.ask("SELECT to_regclass('runbook.later') IS NOT NULL") == [("runbook.later" in made,)]


@pytest.mark.usefixtures("really_restored")
def test_the_restored_database_is_like_the_live_one_and_has_statistics(restoring: Restoring) -> None:
    query: LiteralString = """SELECT pg_get_userbyid(datdba), encoding, datcollate, datctype, datlocprovider
        FROM pg_database WHERE datname = current_database()"""
    before = restoring.ask(query)

    restoring.swap()

    assert restoring.ask(query) == before
    assert restoring.ask("SELECT count(*) > 0 FROM pg_stats WHERE tablename = 'messages'") == [(True,)]
    assert restoring.ask("SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname = 'public'") == [
        ("social_selling_user",)
    ]
