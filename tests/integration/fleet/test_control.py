"""How a fleet keeps to its file: canaries, waves, failures, soak, deadline, and targets of one server at once."""

import pytest

from runbook_lib.errors import ParametersError
from runbook_lib.fleet import board, walk
from runbook_lib.fleet.engines import Engine
from runbook_lib.rehearsal.tenants import Tenants

from ...support.fleets import Acts, Exports, Gates, acted, facts, words
from .conftest import Planned

pytestmark = pytest.mark.newest


def test_waves_are_counted_and_shared_out(planned: Planned, engine: Engine) -> None:
    run = planned(waves=[1, "34 %", "rest"])

    assert walk.apply(run, engine).status == "finished"

    assert [(each["number"], each["count"]) for each in facts(run, "wave-started")] == [(1, 1), (2, 2)]
    begun = {name: acted(run, name)[0] for name in words(run)}
    assert acted(run, "t001")[1] < min(begun["t002"], begun["t003"])


def test_one_failure_is_allowed_and_the_next_stops_the_fleet(shops: Tenants, planned: Planned, engine: Engine) -> None:
    exports = Exports(shops)
    run = planned(max_failures=1, at_once=1)
    exports.spoil("t001", "t002")

    ended = walk.apply(run, engine)

    assert (ended.status, ended.exit_code) == ("stopped by failures", 3)
    assert ended.summary.endswith("; 2 targets failed (t001, t002), and max_failures is 1")
    assert words(run) == {"t001": "failed", "t002": "failed", "t003": "previewed"}


def test_a_target_under_way_that_fails_too_is_named(shops: Tenants, planned: Planned, engine: Engine) -> None:
    gates, exports = Gates(shops), Exports(shops)
    run = planned(at_once=2)
    exports.spoil("t001", "t002")
    acts = Acts(
        (lambda: gates.reached("t001", "t002"), lambda: gates.open("t001")),
        (lambda: run.standing("t001").word == "failed", lambda: gates.open()),
    )

    ended = walk.apply(run, engine, watch=acts)

    assert ended.status == "stopped by failures", ended
    assert "2 targets failed (t001, t002)" in ended.summary
    assert words(run)["t003"] == "previewed"


def test_without_a_canary_no_other_target_begins(shops: Tenants, planned: Planned, engine: Engine) -> None:
    shops.execute("t002", "ALTER TABLE orders DROP COLUMN channel")
    run = planned(canaries=["t002"])
    assert "No canary is ready (t002), so no other target would begin." in board.totals(run.state, run.standings())

    ended = walk.apply(run, engine)

    assert (ended.status, ended.exit_code) == ("declined", 1)
    assert ended.summary.endswith("; no canary is rolled back: t002 is held back")
    assert words(run) == {"t001": "previewed", "t002": "held back", "t003": "previewed"}
    ways = board.ways_on(str(run.path), run.state, run.standings())
    assert f"runbook fleet run {run.path} --waive 'canaries: REASON'" in ways

    with pytest.raises(ParametersError, match="The reason for waiving canaries is too short"):
        run.waive("canaries: no", "Kim")
    run.waive("canaries: the database of t002 is gone", "Kim")

    assert walk.apply(run, engine).status == "mixed"
    assert words(run) == {"t001": "verified", "t002": "held back", "t003": "verified"}


def test_a_canary_that_failed_stops_the_fleet_whatever_may_fail(shops: Tenants, planned: Planned, engine: Engine) -> None:
    exports = Exports(shops)
    run = planned(canaries=["t001"], max_failures=2)
    exports.spoil("t001")

    ended = walk.apply(run, engine)

    assert (ended.status, words(run)["t002"]) == ("mixed", "previewed")
    assert ended.summary.endswith("; no canary is rolled back: t001 is failed")

    exports.fix("t001")
    assert walk.apply(run, engine).status == "finished"
