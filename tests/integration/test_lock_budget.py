"""Strong locks are short: limits on the wait for them and on the work under them hold; a lost COMMIT is looked up."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import psycopg
import pytest
from psycopg import errors

from runbook_lib.config.plan import Database as DatabasePlan
from runbook_lib.config.plan import Plan
from runbook_lib.errors import AdapterError, PreconditionError
from runbook_lib.postgres import lock_budget
from runbook_lib.postgres.backfill import Backfill
from runbook_lib.postgres.backfill_removal.column import Column
from runbook_lib.postgres.backfill_removal.removal import BackfillRemoval
from runbook_lib.postgres.backfill_removal.swap import Stage, Swap
from runbook_lib.postgres.catalog import catalog
from runbook_lib.postgres.column_removal import Removal, drop_columns, restore_columns
from runbook_lib.postgres.column_removal import Stage as Removed
from runbook_lib.postgres.connection import Connection, Postgres, one
from runbook_lib.postgres.lock_budget import EXCHANGING, Blocker, LockBudget, with_short_lock, with_short_lock_in_one_message
from runbook_lib.postgres.round_trip import Statements
from runbook_lib.rehearsal.database import Database

from ..support.reader import reading
from ..support.recorded import recorded
from ..support.relay import COMMIT, Far, Relay

Relayed = Callable[..., tuple[Postgres, Relay]]
SHORT = LockBudget((100,), 200)
SETTINGS = ("lock_timeout", "statement_timeout", "idle_in_transaction_session_timeout")


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock_budget, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(lock_budget, "LONGEST_PAUSE", 0.01)


@pytest.fixture
def backfill(changed: Callable[..., DatabasePlan]) -> Backfill:
    return Backfill(changed(touch_column=None), "test")


def clearing(postgres: Postgres, backfill: Backfill) -> BackfillRemoval:
    return BackfillRemoval(postgres.connect, backfill, "swap", stopped=False)


def silent(seen: Sequence[Blocker]) -> None:
    pass


# --- the limits themselves


@pytest.mark.parametrize(
    ("kept", "wait", "whole"),
    [(lock_budget.RENAMING, 100, 150), (lock_budget.DROPPING, 200, 300), (lock_budget.EXCHANGING, 250, 250)],
    ids=["quarantine", "drop", "cut_over"],
)
def test_no_lock_is_planned_to_be_longer_than_its_bar(kept: LockBudget, wait: int, whole: int) -> None:
    assert max(kept.waits) <= wait
    assert kept.limit is not None
    assert kept.limit <= whole
    assert kept.unlimited() == LockBudget(kept.waits)


def test_the_server_itself_holds_the_limits(postgres: Postgres) -> None:
    def asked(connection: Connection) -> tuple[str, ...]:
        names = [*SETTINGS, *(["transaction_timeout"] if connection.info.server_version >= 170000 else [])]
        return tuple(one(connection, f"SHOW {name}")[name] for name in names)

    found = with_short_lock(postgres.connect, asked, silent, budget=SHORT)

    assert found[0] == "100ms"
    assert set(found[1:]) == {"200ms"}


def one_long_statement(connection: Connection) -> None:
    connection.execute("SELECT pg_sleep(5)")


def many_short_statements(connection: Connection) -> None:
    for _ in range(100):
        connection.execute("SELECT pg_sleep(0.05)")


def an_idle_client(connection: Connection) -> None:
    time.sleep(0.6)
    connection.execute("SELECT 1")


@pytest.mark.parametrize("slow", [one_long_statement, many_short_statements, an_idle_client])
def test_what_takes_too_long_under_a_lock_is_ended_and_tried_again(
    postgres: Postgres, database: Database, slow: Callable[[Connection], None]
) -> None:
    tries: list[int] = []

    def work(connection: Connection) -> str:
        connection.execute("LOCK TABLE messages IN ACCESS EXCLUSIVE MODE")
        tries.append(connection.info.backend_pid)
        if len(tries) == 1:
            slow(connection)
        return "done"

    with reading(database) as waits:
        assert with_short_lock(postgres.connect, work, silent, budget=SHORT) == "done"

    assert len(tries) == 2
    assert max(waits) < 0.5  # of 5 s that it would have taken


def test_what_always_takes_too_long_is_refused_and_leaves_nothing(postgres: Postgres, connection: Connection) -> None:
    def work(connection: Connection) -> None:
        connection.execute("CREATE TABLE left_over (it int)")
        one_long_statement(connection)

    with pytest.raises(PreconditionError, match="took longer than 50 ms in 8 tries"):
        with_short_lock(postgres.connect, work, silent, budget=LockBudget((50,), 50))

    assert one(connection, "SELECT to_regclass('left_over') IS NULL AS it")["it"]


def test_what_has_no_limit_and_is_cancelled_is_not_tried_again(postgres: Postgres) -> None:
    tries: list[int] = []

    def work(connection: Connection) -> None:
        tries.append(1)
        connection.execute("SET LOCAL statement_timeout = 50")
        one_long_statement(connection)

    with pytest.raises(AdapterError, match="statement timeout"):
        with_short_lock(postgres.connect, work, silent)

    assert len(tries) == 1


def test_a_limited_lock_outlasts_autovacuum_only_after_its_short_tries(
    postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextmanager
    def watched(open_: object, pid: int) -> Iterator[list[Blocker]]:
        yield [Blocker(1, "", 2.0, "autovacuum: VACUUM public.messages", "autovacuum worker")]

    monkeypatch.setattr(lock_budget, "watched", watched)
    found: list[tuple[str, str]] = []

    def work(connection: Connection) -> None:
        found.append(
            (
                one(connection, "SHOW lock_timeout")["lock_timeout"],
                one(connection, "SHOW statement_timeout")["statement_timeout"],
            )
        )
        if len(found) < 4:
            raise errors.LockNotAvailable

    with_short_lock(postgres.connect, work, silent, budget=LockBudget((10, 20), 100))

    assert found == [("10ms", "100ms"), ("20ms", "100ms"), ("1200ms", "1280ms"), ("1200ms", "1280ms")]


# --- a server that is far away


@pytest.mark.newest
@pytest.mark.parametrize("mode", ["quarantine", "drop"])
def test_columns_go_and_return_within_the_limits_at_ten_ms_latency(
    relayed: Relayed, database: Database, connection: Connection, plan: Plan, mode: str
) -> None:
    removal = Removal(relayed(Far)[0], plan.database, "test", recorded(plan))
    before = catalog(connection)
    tries: list[Sequence[Blocker]] = []

    with reading(database) as waits:
        if mode == "quarantine":
            drop_columns.set_aside(removal, {}, tries.append)
        else:
            drop_columns.copy(removal, {}, lambda *_: None, tries.append)
            drop_columns.drop(removal, tries.append)
        assert removal.state(connection).there == []
        restore_columns.restore(removal, lambda *_: None, tries.append)

    assert catalog(connection) == before
    assert tries == []
    assert max(waits) < {"quarantine": 0.2, "drop": 0.35}[mode]


def test_shadow_columns_are_purged_within_the_limit_at_ten_ms_latency(
    relayed: Relayed, connection: Connection, plan: Plan
) -> None:
    removal = Removal(relayed(Far)[0], plan.database, "test", recorded(plan))
    tries: list[Sequence[Blocker]] = []

    drop_columns.set_aside(removal, {}, tries.append)
    restore_columns.purge(removal, tries.append)

    assert removal.state(connection).stage is Removed.PURGED
    assert tries == []


def test_round_trips_under_the_lock_do_not_grow_with_the_work(relayed: Relayed, application: psycopg.Connection) -> None:
    def work(statements: Statements) -> int:
        statements.write("LOCK TABLE messages IN ACCESS EXCLUSIVE MODE")
        for number in range(30):
            assert one(statements.connection, "SELECT %s::int AS it", [number])["it"] == number
            statements.write("INSERT INTO schema_migrations (version, name) VALUES (%s, %s)", [f"far-{number}", "far"])
        return 30

    done = with_short_lock_in_one_message(relayed(Far)[0].connect, work, silent, budget=LockBudget((100,), 150))

    assert done == 30
    assert application.execute("SELECT count(*) FROM schema_migrations WHERE version LIKE 'far-%'").fetchall() == [(30,)]


def test_a_change_between_the_check_and_the_lock_is_checked_again(
    postgres: Postgres, application: psycopg.Connection
) -> None:
    application.execute("CREATE TABLE seen (it int)")
    application.execute("GRANT ALL ON seen TO PUBLIC")
    looked: list[int] = []

    def work(statements: Statements) -> None:
        looked.append(one(statements.connection, "SELECT count(*) AS n FROM seen")["n"])
        if len(looked) == 1:
            application.execute("INSERT INTO seen VALUES (1)")
        statements.write("INSERT INTO seen SELECT 10 + %s", [looked[-1]])

    with_short_lock_in_one_message(postgres.connect, work, silent, budget=EXCHANGING)

    assert looked == [0, 1]
    assert application.execute("SELECT it FROM seen ORDER BY 1").fetchall() == [(1,), (11,)]


def test_what_others_change_each_time_is_refused_and_left_as_it_is(
    postgres: Postgres, application: psycopg.Connection
) -> None:
    application.execute("CREATE TABLE seen (it int)")
    application.execute("GRANT ALL ON seen TO PUBLIC")

    def work(statements: Statements) -> None:
        statements.look("SELECT count(*) AS n FROM seen")
        application.execute("INSERT INTO seen VALUES (1)")
        statements.write("DELETE FROM seen")

    with pytest.raises(PreconditionError, match="others changed what the step had read"):
        with_short_lock_in_one_message(postgres.connect, work, silent, budget=EXCHANGING)

    assert application.execute("SELECT count(*) FROM seen").fetchall() == [(8,)]


# --- the exchange of a swap


def on_ddl(database: Database, body: str) -> None:
    """Have the server do something after each command that changes a table's shape."""
    with database.server.connect(dbname=database.name) as superuser:
        superuser.execute(
            f"""CREATE FUNCTION on_ddl() RETURNS event_trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ {body} $$;
            CREATE EVENT TRIGGER on_ddl ON ddl_command_end WHEN TAG IN ('ALTER TABLE') EXECUTE FUNCTION on_ddl()"""  # type: ignore[arg-type]
        )


SEEN = """BEGIN INSERT INTO public.seen SELECT (SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid()
         AND relation = 'public.messages'::regclass AND mode = 'AccessExclusiveLock'),
       current_setting('lock_timeout'), current_setting('statement_timeout')
     FROM pg_event_trigger_ddl_commands(); END"""


@pytest.mark.parametrize(("mode", "limits"), [("quarantine", ("60ms", "150ms")), ("drop", ("100ms", "300ms"))])
def test_columns_are_removed_under_the_limits_of_their_mode(
    postgres: Postgres, database: Database, application: psycopg.Connection, plan: Plan, mode: str, limits: tuple[str, str]
) -> None:
    application.execute("CREATE TABLE seen (locked int, wait text, whole text)")
    on_ddl(database, SEEN)
    removal = Removal(postgres, plan.database, "test", recorded(plan))

    if mode == "quarantine":
        drop_columns.set_aside(removal, {}, silent)
    else:
        drop_columns.copy(removal, {}, lambda *_: None, silent)
        drop_columns.drop(removal, silent)

    assert application.execute("SELECT DISTINCT wait, whole FROM seen WHERE locked = 1").fetchall() == [limits]


def test_a_volatile_default_returns_within_the_limits_without_a_rewrite(
    postgres: Postgres, database: Database, application: psycopg.Connection, plan: Plan
) -> None:
    application.execute("CREATE TABLE seen (locked int, wait text, whole text)")
    application.execute("ALTER TABLE messages ADD token text NOT NULL DEFAULT gen_random_uuid()")
    on_ddl(database, SEEN)
    removal = Removal(
        postgres,
        plan.database.model_copy(update={"columns": {**plan.database.columns, "token": "text"}}),
        "test",
        recorded(plan),
    )
    file = application.execute("SELECT pg_relation_filenode('messages')").fetchall()

    drop_columns.copy(removal, {}, lambda *_: None, silent)
    drop_columns.drop(removal, silent)
    application.execute("DELETE FROM seen")
    restore_columns.restore(removal, lambda *_: None, silent)

    assert application.execute("SELECT DISTINCT wait, whole FROM seen WHERE locked = 1").fetchall() == [("100ms", "300ms")]
    assert application.execute("SELECT pg_relation_filenode('messages')").fetchall() == file


def test_a_swap_and_its_undo_lock_within_a_quarter_of_a_second(
    postgres: Postgres, database: Database, application: psycopg.Connection, backfill: Backfill
) -> None:
    application.execute("CREATE TABLE seen (locked int, wait text, whole text)")
    on_ddl(database, SEEN)

    work = clearing(postgres, backfill)
    work.apply()
    work.undo()

    assert application.execute("SELECT DISTINCT wait, whole FROM seen WHERE locked = 1").fetchall() == [("100ms", "250ms")]


def test_a_cut_over_that_takes_too_long_releases_its_lock_and_is_retried(
    postgres: Postgres, database: Database, connection: Connection, application: psycopg.Connection, backfill: Backfill
) -> None:
    application.execute("CREATE SEQUENCE tries")
    renamed = "EXISTS (SELECT FROM pg_attribute WHERE attname LIKE '%\\_\\_old\\_test')"
    on_ddl(
        database,
        f"""BEGIN IF {renamed} AND nextval('public.tries') = 1 THEN PERFORM pg_sleep(3); END IF; END""",
    )
    work = clearing(postgres, backfill)

    with reading(database) as waits:
        work.apply()

    assert one(connection, "SELECT last_value > 1 AS it FROM tries")["it"]
    assert work.swap.stage(connection) is Stage.CUT_OVER
    assert not work.unexpected(connection)
    assert max(waits) < 1.0  # of 3 s


def cut_at_the_exchange(relay: Relay, monkeypatch: pytest.MonkeyPatch, **cut: bytes) -> None:
    cut_over = Swap.cut_over

    def cutting(swap: Swap, connection: Connection) -> None:
        for name, said in cut.items():
            setattr(relay, name, said)
        cut_over(swap, connection)

    monkeypatch.setattr(Swap, "cut_over", cutting)


def test_a_cut_over_whose_commit_is_not_answered_is_found_done(
    relayed: Relayed, connection: Connection, backfill: Backfill, monkeypatch: pytest.MonkeyPatch
) -> None:
    through, relay = relayed()
    cut_at_the_exchange(relay, monkeypatch, cut_after=COMMIT)
    work = clearing(through, backfill)

    work.apply()

    assert work.swap.stage(connection) is Stage.CUT_OVER
    assert backfill.count(connection) == 0


def test_a_cut_over_whose_commit_never_arrives_is_found_and_resumed(
    relayed: Relayed, postgres: Postgres, connection: Connection, backfill: Backfill, monkeypatch: pytest.MonkeyPatch
) -> None:
    through, relay = relayed()
    with monkeypatch.context() as patched, pytest.raises(AdapterError, match="was not committed"):
        cut_at_the_exchange(relay, patched, cut_before=COMMIT)
        clearing(through, backfill).apply()

    assert clearing(postgres, backfill).swap.stage(connection) is Stage.SHADOW
    work = clearing(postgres, backfill)
    work.apply()
    assert work.swap.stage(connection) is Stage.CUT_OVER


def test_an_undo_of_a_swap_whose_commit_is_not_answered_is_found_done(
    relayed: Relayed, postgres: Postgres, connection: Connection, backfill: Backfill, monkeypatch: pytest.MonkeyPatch
) -> None:
    clearing(postgres, backfill).apply()
    through, relay = relayed()
    cut_back = Column.cut_back

    def cutting(column: Column, connection: Connection) -> None:
        relay.cut_after = COMMIT
        cut_back(column, connection)

    monkeypatch.setattr(Column, "cut_back", cutting)

    restored, conflicts = clearing(through, backfill).undo()

    assert (restored > 0, conflicts) == (True, [])
    assert backfill.count(connection) == restored
