"""How a fleet keeps to its file: canaries, waves, failures, soak, deadline, and targets of one server at once."""

import pytest

from runbook_lib.fleet import walk
from runbook_lib.fleet.engines import Engine
from runbook_lib.rehearsal.tenants import Tenants

from ...support.fleets import Acts, Gates, acted, facts, words
from .conftest import Planned

pytestmark = pytest.mark.newest

SPOILED = "UPDATE orders SET channel = 'web' WHERE id = 5"  # no row of the backfill: found by a check alone
FIXED = "UPDATE orders SET channel = NULL WHERE id = 5"


def test_waves_are_counted_and_shared_out(planned: Planned, engine: Engine) -> None:
    run = planned(waves=[1, "34 %", "rest"])

    assert walk.apply(run, engine).status == "finished"

    assert [(each["number"], each["count"]) for each in facts(run, "wave-started")] == [(1, 1), (2, 2)]
    begun = {name: acted(run, name)[0] for name in words(run)}
    assert acted(run, "t001")[1] < min(begun["t002"], begun["t003"])


def test_one_failure_is_allowed_and_the_next_stops_the_fleet(shops: Tenants, planned: Planned, engine: Engine) -> None:
    run = planned(max_failures=1, at_once=1)
    for name in ("t001", "t002"):
        shops.execute(name, SPOILED)

    ended = walk.apply(run, engine)

    assert (ended.status, ended.exit_code) == ("stopped by failures", 3)
    assert ended.summary.endswith("; 2 targets failed (t001, t002), and max_failures is 1")
    assert words(run) == {"t001": "failed", "t002": "failed", "t003": "previewed"}


def test_a_target_under_way_that_fails_too_is_named(shops: Tenants, planned: Planned, engine: Engine) -> None:
    gates = Gates(shops)
    run = planned(at_once=2)
    for name in ("t001", "t002"):
        shops.execute(name, SPOILED)
    acts = Acts(
        (lambda: gates.reached("t001", "t002"), lambda: gates.open("t001")),
        (lambda: run.standing("t001").word == "failed", lambda: gates.open()),
    )

    ended = walk.apply(run, engine, watch=acts)

    assert ended.status == "stopped by failures", ended
    assert "2 targets failed (t001, t002)" in ended.summary
    assert words(run)["t003"] == "previewed"
