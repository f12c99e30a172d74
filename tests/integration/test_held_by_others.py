"""What others hold on the table is looked for before downtime, and waited for by name once the services are down."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest

from runbook_lib.postgres import blockers

from ..support.bare import SERVICES, Bare, words

pytestmark = pytest.mark.newest

SECONDS = 3.0  # for which somebody else holds the table
HOLDING = """import psycopg, threading, time
from runbook_lib.postgres import lock_budget

lock_budget.FIRST_PAUSE = 0.1

def hold(statements, then, began):
    with psycopg.connect({conninfo!r}, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement)
        began.set()
        time.sleep({seconds})
        connection.execute(then)

began = threading.Event()
threading.Thread(target=hold, args=({statements!r}, {then!r}, began)).start()
assert began.wait(20)"""
EXCLUSIVE = ["BEGIN", "LOCK TABLE messages IN ACCESS EXCLUSIVE MODE"]
READS = ["BEGIN", "SELECT count(*) FROM messages"]
ROWS = ["BEGIN", "SELECT id FROM messages FOR UPDATE"]
BUILDS = ["BEGIN", "LOCK TABLE messages IN SHARE MODE"]
PREPARED = ["BEGIN", "UPDATE messages SET content = content WHERE id < 50", "PREPARE TRANSACTION 'payment-7'"]


@pytest.mark.parametrize(
    ("held", "step", "option", "choose"),
    [
        (EXCLUSIVE, "clear-backfill", "A", "STRATEGY=keyed"),
        (EXCLUSIVE, "back-up", "A", "STRATEGY=keyed"),
        pytest.param(EXCLUSIVE, "remove-columns", "B", "REMOVAL=drop", marks=pytest.mark.slow),
        pytest.param(READS, "clear-backfill", "A", "STRATEGY=batched", marks=pytest.mark.slow),
        (READS, "clear-backfill", "A", "STRATEGY=swap"),
        pytest.param(ROWS, "clear-backfill", "A", "STRATEGY=batched", marks=pytest.mark.slow),
        pytest.param(BUILDS, "clear-backfill", "A", "STRATEGY=keyed", marks=pytest.mark.slow),
        (PREPARED, "clear-backfill", "A", "STRATEGY=keyed"),
    ],
)
def test_a_step_waits_for_whoever_holds_the_table_and_names_him(
    target: Bare, held: list[str], step: str, option: str, choose: str
) -> None:
    target.plan["backfills"][0]["touch_column"] = None
    target.steps("stop-services", "back-up", "clear-backfill" if option == "A" else "remove-columns")
    then = "ROLLBACK PREPARED 'payment-7'" if held is PREPARED else "ROLLBACK"
    conninfo = target.database.conninfo()
    target.before[step] = HOLDING.format(conninfo=conninfo, seconds=SECONDS, statements=held, then=then)
    assert target.planned(option, choose).exit_code == 0

    ended = target.executed()

    assert (ended.exit_code, target.status()) == (0, "verified"), ended.text
    waited = [event.data for event in target.opened().journal.events() if event.kind == "waiting"]
    named = [blocker for data in waited if data["step"] == step for blocker in data["blockers"]]
    assert any(("'payment-7'" if held is PREPARED else "(postgres, ") in blocker for blocker in named), waited


@contextmanager
def holding(target: Bare, *statements: str, then: str = "ROLLBACK") -> Iterator[psycopg.Connection]:
    with target.database.server.connect(dbname=target.database.name) as connection:
        for statement in statements:
            connection.execute(statement)  # type: ignore[call-overload]
        yield connection
        connection.execute(then)  # type: ignore[call-overload]


@pytest.mark.parametrize(
    ("held", "option"), [(EXCLUSIVE, "A"), (READS, "A"), (BUILDS, "A"), (PREPARED, "A"), (READS, "B"), (PREPARED, "B")]
)
def test_whoever_holds_the_table_for_long_stops_the_preview_by_name(
    target: Bare, monkeypatch: pytest.MonkeyPatch, held: list[str], option: str
) -> None:
    monkeypatch.setattr(blockers, "IDLE", 0.0)
    target.steps("stop-services", "clear-backfill" if option == "A" else "remove-columns")
    then = "ROLLBACK PREPARED 'payment-7'" if held is PREPARED else "ROLLBACK"
    with holding(target, *held, then=then) as connection:
        time.sleep(0.01)  # idle is longer than none
        named = "'payment-7'" if held is PREPARED else f"pid {connection.info.backend_pid} (postgres, "
        ended = target.planned(option)

    assert ended.exit_code == 3, ended.text
    assert named in words(ended.text), ended.text
    assert target.running() == set(SERVICES)


def test_what_the_stop_of_the_services_ends_is_no_obstacle(target: Bare, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blockers, "IDLE", 0.0)
    with psycopg.connect(target.database.conninfo(target.database.application)) as application:
        application.execute("SELECT count(*) FROM messages")

        assert target.planned().exit_code == 0
