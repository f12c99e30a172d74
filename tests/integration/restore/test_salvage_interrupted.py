"""A salvage that crashed, failed or was ended, and is resumed."""

from collections.abc import Callable

import pytest
from psycopg import sql

from runbook_lib.errors import PreconditionError
from runbook_lib.postgres.restore import pair, salvage
from runbook_lib.postgres.restore.diff import Watch, compare
from runbook_lib.postgres.restore.difference_kinds import CARRIED, Kind

from ...support.salvaging import CHILD, LEGACY, OWN, Crash, carried, salvage_of, written_since
from ...support.two import Two

pytestmark = pytest.mark.newest


def crash_at(part: str) -> Callable[[str], None]:
    def between(done: str) -> None:
        if done == part:
            raise Crash

    return between


def prepare(two: Two) -> None:
    two.both(CHILD, "INSERT INTO child VALUES (1), (2)")
    two.live.execute("INSERT INTO users (name) VALUES ('Later')")
    written_since(two, f"[{LEGACY}, {OWN}]", reply="3")
    two.live.execute("INSERT INTO child VALUES (3, 4), (4, 3)")
    two.live.execute("UPDATE child SET name = 'x' WHERE id = 1")
    two.live.execute("DELETE FROM child WHERE id = 2")


PARTS = [
    "staged public.child",
    "staged public.messages",
    "started",
    "1 new public.child",
    "1 changed public.child",
    "again",
]


@pytest.mark.parametrize("part", PARTS)
def test_a_crash_after_any_part_is_resumed_where_it_stopped(two: Two, part: str) -> None:
    prepare(two)
    with pytest.raises(Crash):
        salvage_of(two).stage(Watch(lambda table: crash_at(part)(f"staged {table}")))
        salvage_of(two).carry(between=crash_at(part))
    told: list[str] = []

    ledger = salvage_of(two).stage(Watch(lambda table: told.append(f"staged {table}")))
    outcome = salvage_of(two).carry(between=told.append)

    assert part not in told
    assert outcome.carried == {
        "public.users": {Kind.NEW: 1},
        "public.messages": {Kind.NEW: 1},
        "public.child": {Kind.NEW: 2, Kind.CHANGED: 1, Kind.DELETED: 1},
    }
    assert ledger.totals[Kind.NEW] == 4
    assert compare(ledger.after(outcome.carried), two.diff(), CARRIED) == []


def test_a_failure_within_a_part_leaves_nothing_of_it(two: Two, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare(two)
    salvage_of(two).stage()
    monkeypatch.setattr("runbook_lib.postgres.restore.staged_rows.Progress.note", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        salvage_of(two).carry()

    assert two.restored("SELECT count(*) FROM child WHERE id = 2") == [(1,)]


def test_staging_that_ended_within_a_table_leaves_nothing_of_it(two: Two) -> None:
    prepare(two)

    def heed() -> None:
        raise Crash

    with pytest.raises(Crash):
        salvage_of(two).stage(Watch(heed=heed))
    assert two.restored("SELECT relname FROM pg_class WHERE relname LIKE 'cargo%'") == []

    assert carried(two).carried["public.child"] == {Kind.NEW: 2, Kind.CHANGED: 1, Kind.DELETED: 1}


def test_rows_carried_over_differ_only_in_a_new_comparison(two: Two) -> None:
    prepare(two)
    salvage_of(two).stage()
    with pytest.raises(Crash):
        salvage_of(two).carry(between=crash_at("1 new public.child"))
    two.live.execute("UPDATE child SET name = 'y' WHERE id = 3")

    salvage_of(two).start_over()
    salvage_of(two).start_over()
    outcome = carried(two)

    assert outcome.carried == {
        "public.users": {Kind.NEW: 1},
        "public.messages": {Kind.NEW: 1},
        "public.child": {Kind.CHANGED: 2},
    }
    assert outcome.earlier == {"public.child": {"new": 2, "deleted": 1}}
    assert outcome.as_json()["carried by earlier tries"] == outcome.earlier
    assert two.counts("public.child") == {}


def test_rows_that_are_not_staged_cannot_be_carried_over(two: Two) -> None:
    prepare(two)
    with pytest.raises(PreconditionError, match="not staged"):
        salvage_of(two).carry()
    with pytest.raises(Crash):
        salvage_of(two).stage(Watch(crash_at("public.child")))
    with pytest.raises(PreconditionError, match="not all of them"):
        salvage_of(two).carry()
    assert salvage_of(two).outcome() is None


def test_the_rows_carried_over_can_be_read_later(two: Two) -> None:
    prepare(two)
    done = carried(two)

    assert salvage_of(two).outcome() == done


def test_two_keys_with_the_same_hash_are_staged_once(two: Two, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first hash is made to collide for all rows, its check does not."""
    hashed = pair.hashed
    monkeypatch.setattr(pair, "hashed", lambda terms, seed=0: hashed(terms, seed) if seed else sql.SQL("7::bigint"))
    two.both("CREATE TABLE texts (id text PRIMARY KEY)", "INSERT INTO texts VALUES ('a'), ('b')")
    two.live.execute("INSERT INTO texts VALUES ('c'), ('d')")

    assert carried(two).carried == {"public.texts": {Kind.NEW: 2}}


def test_the_runs_own_tables_can_be_dropped(two: Two) -> None:
    prepare(two)
    carried(two)

    salvage_of(two).forget()

    assert two.restored("SELECT relname FROM pg_class WHERE relnamespace = 'runbook'::regnamespace") == []
    salvage_of(two).forget()


def test_rows_are_staged_in_many_bites(two: Two, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(salvage, "BY_KEY", 3)
    monkeypatch.setattr(salvage, "BY_HASH", 3)
    two.both("CREATE TABLE texts (id text PRIMARY KEY)")
    two.live.execute("INSERT INTO texts SELECT n FROM generate_series(1, 100) n")
    two.live.execute("UPDATE messages SET content = 'other'")

    outcome = carried(two)

    assert outcome.carried == {"public.texts": {Kind.NEW: 100}, "public.messages": {Kind.CHANGED: 600}}
    assert two.counts("public.messages") == two.counts("public.texts") == {}
