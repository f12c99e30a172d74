"""A fleet whose targets differ: what retries, waives and takes over them, and both ways to a uniform fleet."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from runbook_lib.fleet import board, undoing, walk
from runbook_lib.fleet.engines import Engine
from runbook_lib.rehearsal.postgres import Server
from runbook_lib.rehearsal.tenants import Tenants, tenants

from ...support.bare import runbook
from ...support.fleets import Exports, facts, keyed, words
from .conftest import ROWS, Planned

pytestmark = pytest.mark.newest

DRIFTED = "UPDATE orders SET channel = NULL WHERE id < 21"
THREADS = ("--engine", "threads")


@pytest.fixture
def shops(servers: Callable[[int], Server], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Tenants]:
    """Two tenants; libpq finds them by their service."""
    with tenants(servers(18), tmp_path, 2, ROWS) as made:
        monkeypatch.setenv("PGSERVICEFILE", str(made.service_file))
        yield made


@pytest.fixture(autouse=True)
def without_clones(shops: Tenants) -> None:
    keyed(shops)


def test_a_mixed_fleet_goes_back_or_forward(shops: Tenants, planned: Planned, engine: Engine) -> None:
    before = [shops.contents(name)[0] for name in shops.names]
    run = planned()
    shops.execute("t001", DRIFTED)
    drifted = shops.contents("t001")[0]

    ended = walk.apply(run, engine)

    assert (ended.status, ended.exit_code) == ("mixed", 4)
    assert words(run) == {"t001": "held back", "t002": "verified"}
    ways = board.ways_on("FLEET", run.state, run.standings())
    assert {"runbook fleet plan FLEET", "runbook fleet undo FLEET"} < {*ways}

    offered = undoing.offer(run)
    undoing.approve(run, offered, offered.digest, "Kim")
    undone = walk.undo(run, engine, run.state.undone_by)

    assert (undone.status, undone.exit_code) == ("undone", 0)
    assert [shops.contents(name)[0] for name in shops.names] == [drifted, before[1]]

    other = planned(name="other")
    assert walk.apply(other, engine).status == "finished"


def test_a_retry_touches_the_failed_targets_alone(shops: Tenants, planned: Planned, engine: Engine) -> None:
    exports = Exports(shops)
    run = planned(at_once=1)
    exports.spoil("t001")
    assert walk.apply(run, engine).status == "stopped by failures"
    exports.fix("t001")

    ended = runbook("fleet", "run", run.path, "--retry-failed", *THREADS)

    assert (ended.exit_code, words(run)) == (4, {"t001": "verified", "t002": "previewed"})
    assert facts(run, "started", "t002") == facts(run, "approved", "t002") == []
    assert runbook("fleet", "run", run.path, *THREADS).exit_code == 0


def test_a_waiver_is_recorded_in_each_run(shops: Tenants, planned: Planned) -> None:
    exports = Exports(shops)
    run = planned()
    exports.spoil("t001")
    reason = "exports are made again tonight"

    refused = runbook("fleet", "run", run.path, "--waive", "no-such-check: for no reason", *THREADS)
    ended = runbook("fleet", "run", run.path, "--waive", f"{Exports.CHECK}: {reason}", "--operator", "Kim", *THREADS)

    assert (refused.exit_code, "no-such-check is not a check or step of t001" in refused.text) == (2, True)
    assert (ended.exit_code, words(run)) == (0, {"t001": "waived", "t002": "verified"})
    for name in shops.names:
        assert facts(run, "waived", name) == [{"name": Exports.CHECK, "reason": reason, "by": "Kim"}]


def test_a_target_is_taken_over_from_an_abandoned_fleet(shops: Tenants, planned: Planned, engine: Engine) -> None:
    exports = Exports(shops)
    abandoned = planned()
    exports.spoil("t001")
    assert walk.apply(abandoned, engine).status == "mixed"
    exports.fix("t001")
    run = planned(name="other")
    assert words(run)["t001"] == "held back"

    taken = runbook("fleet", "plan", run.path, "--take-over", "nobody finishes the first fleet", "--json", *THREADS)

    assert [len(facts(run, "taken-over", name)) for name in shops.names] == [1, 0]
    assert facts(run, "taken-over", "t001")[0]["run"] == abandoned.child("t001").name
    ended = runbook("fleet", "run", run.path, "--approve", json.loads(taken.printed)["digest"], *THREADS)
    assert (ended.exit_code, {*words(run).values()}) == (0, {"verified"}), ended.text
