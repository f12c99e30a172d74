"""Code and a service that all tenants share are rolled back once, in the order that the compatibility table allows."""

import pytest

from runbook_lib import fleet
from runbook_lib.errors import ParametersError
from runbook_lib.fleet import FleetRun, undoing, walk
from runbook_lib.fleet.engines import Engine
from runbook_lib.rehearsal.tenants import Tenants
from runbook_lib.run import lifecycle, undo

from ...support.shared_code import NEW_ON_OLD, OLD_ON_NEW, SharedCode
from .conftest import Planned

ORDERS = pytest.mark.parametrize(("when", "allowed"), [("before", OLD_ON_NEW), ("after", NEW_ON_OLD)])
Row = tuple[str, str, str]


@pytest.fixture
def code(shops: Tenants) -> SharedCode:
    return SharedCode(shops)


def words(run: FleetRun) -> dict[str, str]:
    return {name: each.word for name, each in run.standings().items()}


def undone(run: FleetRun, engine: Engine) -> str:
    offered = undoing.offer(run)
    assert offered.refused == {}
    undoing.approve(run, offered, offered.digest, "a test")
    return walk.undo(run, engine, run.state.undone_by).status


def refused_alone(run: FleetRun, name: str) -> str:
    """Why the undo of one run, without the fleet, is refused."""
    opened = lifecycle.open_existing(run.child(name))
    try:
        return str(undo.offer(opened).refused)
    finally:
        opened.close_adapters()


@ORDERS
def test_what_is_shared_is_rolled_back_once_and_undone(
    when: str, allowed: Row, code: SharedCode, shops: Tenants, planned: Planned, engine: Engine
) -> None:
    released = {name: shops.contents(name) for name in shops.names}
    run = planned(**code.keys(when, allowed), waves=[1, "rest"])
    assert [*run.state.ready] == [*shops.names, "shared"]
    assert run.state.waves[0 if when == "before" else -1] == ["shared"]

    ended = walk.apply(run, engine)

    assert ended.status == "finished", (ended, run.standings())
    assert code.text() == "old\n"
    assert code.running() not in ("", code.new)
    assert [shops.contents(name)[0] for name in shops.names] == [released[name][1] for name in shops.names]
    begun = {name: each.began for name, each in run.standings().items()}
    assert sorted(begun, key=lambda name: begun[name])[0 if when == "before" else -1] == "shared"  # type: ignore[arg-type,return-value]

    new_on_old = "web would run the feature's code on the schema with the feature and data from before"
    old_on_new = "web would run the code from before on the schema with the feature and data with the feature"
    name, said = ("shared", new_on_old) if when == "before" else ("t002", old_on_new)
    assert said in refused_alone(run, name)

    assert undone(run, engine) == "undone", run.standings()
    assert (code.text(), code.running()) == ("old\nnew\n", code.new)
    assert {name: shops.contents(name) for name in shops.names} == released


@pytest.mark.parametrize(
    ("when", "allowed", "said"),
    [
        ("after", [OLD_ON_NEW], "feature's code .* and data from before, .* does not allow; `when: before` is allowed"),
        (
            "before",
            [NEW_ON_OLD],
            "code from before .* data with the feature, .* does not allow; `when: after` is allowed",
        ),
        ("before", [], r"web would run the code from before .* and data with the feature, .* does not allow\."),
        ("after", [], r"web would run the feature's code .* and data from before, .* does not allow\."),
    ],
)
def test_an_order_that_is_not_allowed_is_refused_by_name(
    when: str, allowed: list[Row], said: str, code: SharedCode, shops: Tenants
) -> None:
    with pytest.raises(ParametersError, match=said):
        fleet.open_new(shops.write(**code.keys(when, *allowed)), outputs=shops.root / "outputs")

    assert not [*shops.root.glob("outputs/*")]


@pytest.mark.parametrize(
    ("when", "allowed", "others", "ended_as"),
    [("before", OLD_ON_NEW, "previewed", ("stopped by failures", 3)), ("after", NEW_ON_OLD, "verified", ("mixed", 4))],
)
def test_a_failure_of_what_is_shared_stops_the_fleet(
    when: str,
    allowed: Row,
    others: str,
    ended_as: tuple[str, int],
    code: SharedCode,
    shops: Tenants,
    planned: Planned,
    engine: Engine,
) -> None:
    run = planned(**code.keys(when, allowed), max_failures=3)
    (code.root / "broken").touch()

    ended = walk.apply(run, engine)

    assert words(run) == {**dict.fromkeys(shops.names, others), "shared": "failed"}
    assert (ended.status, ended.exit_code) == ended_as, ended
    (code.root / "broken").unlink()
    assert walk.apply(run, engine).status == "finished", run.standings()


def test_a_type_of_a_fleet_is_not_walked_alone(code: SharedCode, shops: Tenants) -> None:
    code.keys("before", OLD_ON_NEW)

    with pytest.raises(ParametersError, match="Only a fleet walks the rollback type code"):
        lifecycle.open_new(shops.root / "plan.yaml", shops.root / "shared.yaml", "code", outputs=shops.root / "outputs")
