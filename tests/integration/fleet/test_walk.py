"""One approved plan is rolled back on many real databases, in waves."""

import pytest

from runbook_lib.errors import Declined
from runbook_lib.fleet import walk
from runbook_lib.fleet.engines import Engine
from runbook_lib.rehearsal.tenants import Tenants

from .conftest import Planned


def written(shops: Tenants, name: str) -> int:
    """How many rows still hold what the backfill wrote."""
    database = shops.database(name)
    with database.server.connect(**database.parameters()) as connection:
        found = connection.execute("SELECT count(*) FROM orders WHERE channel = 'web'").fetchone()
    assert found
    return int(found[0])


def words(run: object) -> dict[str, str]:
    return {name: each.word for name, each in run.standings().items()}  # type: ignore[attr-defined]


def test_all_targets_are_rolled_back_in_waves(shops: Tenants, planned: Planned, engine: Engine) -> None:
    run = planned(canaries=["t002"], waves=[1, "rest"])

    ended = walk.apply(run, engine)

    assert (ended.status, ended.exit_code) == ("finished", 0)
    assert words(run) == dict.fromkeys(shops.names, "verified")
    assert [written(shops, name) for name in shops.names] == [0, 0, 0]
    begun = {name: each.began for name, each in run.standings().items()}
    assert begun["t002"] < begun["t001"] < begun["t003"]  # type: ignore[operator]


def test_nothing_is_begun_without_an_approval(shops: Tenants, planned: Planned, engine: Engine) -> None:
    run = planned()
    with pytest.raises(Declined):
        walk.approve(run, "0123456789abcdef", "a test")
    other = planned(name="other")
    other.journal.path.write_bytes(b"".join(line for line in other.journal.path.read_bytes().splitlines(keepends=True)[:-1]))

    with pytest.raises(Declined):
        walk.apply(other, engine)

    assert [written(shops, name) for name in shops.names] == [19, 19, 19]


def test_a_target_that_cannot_be_previewed_is_held_back_by_name(shops: Tenants, planned: Planned, engine: Engine) -> None:
    shops.execute("t002", "ALTER TABLE orders DROP COLUMN channel")

    run = planned()
    ended = walk.apply(run, engine)

    assert [*run.state.held_back] == ["t002"]
    assert words(run) == {"t001": "verified", "t002": "held back", "t003": "verified"}
    assert (ended.status, ended.exit_code) == ("mixed", 4)


def test_a_target_that_drifted_since_the_approval_is_left_alone(shops: Tenants, planned: Planned, engine: Engine) -> None:
    run = planned()
    shops.execute("t001", "UPDATE orders SET channel = NULL WHERE id < 21")

    ended = walk.apply(run, engine)

    assert words(run) == {"t001": "held back", "t002": "verified", "t003": "verified"}
    assert "drifted" in run.standings()["t001"].reason
    assert ended.status == "mixed"

    walk.approve(run, walk.preview(run, engine), "a test")
    assert walk.apply(run, engine).status == "finished"


def test_failures_stop_the_fleet_before_the_next_wave(shops: Tenants, planned: Planned, engine: Engine) -> None:
    run = planned(canaries=["t001"])
    shops.execute("t001", "UPDATE orders SET channel = 'web' WHERE id = 5")  # no row of the backfill, found by a check alone

    ended = walk.apply(run, engine)

    assert (ended.status, ended.exit_code) == ("stopped by failures", 3), ended
    assert words(run) == {"t001": "failed", "t002": "previewed", "t003": "previewed"}
    assert [written(shops, name) for name in shops.names] == [1, 19, 19]
