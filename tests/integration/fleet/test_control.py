"""How a fleet keeps to its file: canaries, waves, failures, soak, deadline, and targets of one server at once."""

from datetime import UTC, datetime

import pytest
import yaml

from runbook_lib.errors import ParametersError
from runbook_lib.fleet import board, walk
from runbook_lib.fleet.engines import Engine
from runbook_lib.rehearsal.tenants import SERVICE, Tenants

from ...support.fleets import Acts, Exports, Gates, acted, events, facts, keyed, words
from .conftest import Planned

pytestmark = pytest.mark.newest


@pytest.fixture(autouse=True)
def without_clones(shops: Tenants) -> None:
    keyed(shops)


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


def test_a_wave_must_pass_its_checks_after_the_soak(shops: Tenants, planned: Planned, engine: Engine) -> None:
    exports = Exports(shops, at_the_end=False)
    run = planned(waves=[1, 1, "rest"], soak={"seconds": 0, "checks": [Exports.CHECK]})
    exports.spoil("t002")

    ended = walk.apply(run, engine)

    assert [set(each["failed"]) for each in facts(run, "soaked")] == [set(), {"t002"}]
    assert (ended.status, words(run)["t003"]) == ("stopped by failures", "previewed")
    assert "1 target failed (t002)" in ended.summary

    exports.fix("t002")
    assert walk.apply(run, engine).status == "finished"
    assert [(each["number"], set(each["failed"])) for each in facts(run, "soaked")][2:] == [(2, set())]


def test_a_soak_that_was_cut_off_is_made_again(planned: Planned, engine: Engine) -> None:
    run = planned(targets={"list": ["t001", "t002"]}, waves=[1, "rest"], soak={"seconds": 1})

    def cut_off() -> None:
        if facts(run, "wave-ended"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        walk.apply(run, engine, watch=cut_off)
    assert walk.apply(run, engine).status == "finished"

    kinds = [event.kind for event in events(run)]
    assert kinds.count("soaked") == 1
    assert kinds.index("wave-ended") < kinds.index("soaked") < len(kinds) - kinds[::-1].index("wave-started")


def test_an_abort_ends_a_soak(planned: Planned, engine: Engine) -> None:
    run = planned(targets={"list": ["t001", "t002"]}, waves=[1, "rest"], soak={"seconds": 600})

    ended = walk.apply(run, engine, watch=Acts((lambda: facts(run, "wave-ended"), lambda: run.request("abort", "Kim"))))

    assert (ended.status, ended.summary) == ("mixed", "1 verified, 1 previewed; it was aborted on request")


def test_after_the_deadline_no_target_begins(shops: Tenants, planned: Planned, engine: Engine) -> None:
    gates = Gates(shops)
    run = planned(targets={"list": ["t001", "t002"]}, at_once=1, deadline=2)

    def has_passed() -> bool:
        return gates.reached("t001") and (datetime.now(UTC) - run.state.began).total_seconds() > 2

    ended = walk.apply(run, engine, watch=Acts((has_passed, gates.open)))

    assert (ended.status, ended.exit_code) == ("mixed", 4)
    assert ended.summary == "1 verified, 1 previewed; its deadline of 2 s has passed"
    assert not gates.reached("t002")

    assert walk.apply(run, engine).status == "finished"  # whoever repeats the command has it count anew


def test_a_deadline_counts_on_after_a_kill(shops: Tenants, planned: Planned, engine: Engine) -> None:
    gates = Gates(shops)
    run = planned(targets={"list": ["t001"]}, deadline=600)

    def killed() -> None:
        raise KeyboardInterrupt

    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            walk.apply(run, engine, watch=killed)
    gates.open()
    first = next(event.time for event in events(run) if event.kind == "fleet-walking" and event.data["action"] == "apply")

    assert run.state.deadline_from == first


def test_each_server_has_as_many_targets_at_once(shops: Tenants, planned: Planned, engine: Engine) -> None:
    gates, services = Gates(shops), shops.service_file.read_text()
    shops.service_file.write_text("".join(services.replace(f"[{SERVICE}]", f"[{name}]") for name in ("east", "west")))
    template = yaml.safe_load((shops.root / "template.yaml").read_text())
    template["database"]["service"] = "{target.host}"
    (shops.root / "template.yaml").write_text(yaml.safe_dump(template))
    hosts = {"t001": "east", "t002": "east", "t003": "west"}
    listed = [{"name": name, "labels": {"host": host}} for name, host in hosts.items()]
    run = planned(targets={"list": listed}, server="{target.host}", at_once=1)

    ended = walk.apply(run, engine, watch=Acts((lambda: gates.reached("t001", "t003"), gates.open)))

    assert ended.status == "finished", ended
    (one, two, other) = (acted(run, name) for name in hosts)
    assert one[1] <= two[0], "two targets of one server were under way at once"
    assert max(one[0], other[0]) < min(one[1], other[1]), "two servers did not act at once"
