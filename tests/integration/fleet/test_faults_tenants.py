"""What is wrong with one target, or two people at one fleet, is said by name, and the other targets go on."""

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from runbook_lib.fleet import walk
from runbook_lib.fleet.engines import Pool
from runbook_lib.rehearsal.postgres import Server
from runbook_lib.rehearsal.tenants import tenants
from runbook_lib.run import lease, lifecycle

from ...support.fleet_faults import SECONDS, Fleet, ended, faults_of, fingerprint
from ...support.waiting import until

pytestmark = [pytest.mark.newest, pytest.mark.slow]
COUNT = 5


@pytest.fixture(scope="module")
def made(servers: Callable[[int], Server], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    root = tmp_path_factory.mktemp("fleet")
    with tenants(servers(18), root, COUNT, 40) as shops, pytest.MonkeyPatch.context() as patched:
        patched.setenv("PGSERVICEFILE", str(shops.service_file))
        yield Fleet.approved(shops, root, at_once=1)


@pytest.fixture
def fleet(made: Fleet) -> Fleet:
    made.reset()
    return made


def test_a_target_that_waits_is_named_and_others_go_on(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(walk, "LONG_WAIT", 0)
    others, pool = fleet.shops.names[2:], Pool(2)
    before = {"t002": fleet.shops.contents("t002")}
    with (
        fleet.locked("t001") as reader,
        fleet.locked("t002", "LOCK orders IN ACCESS EXCLUSIVE MODE") as writer,
        ThreadPoolExecutor(1) as other,
    ):
        walking = other.submit(walk.apply, fleet.run, pool)
        until(lambda: all(fleet.words()[name] == "verified" for name in others), "the other targets are done", SECONDS)
        until(lambda: fleet.waits("t001"), "the first waits between two tries")
        shown = fleet.command("status").text
        assert "Waiting: t001" in shown and f"waits for pid {reader}" in shown, shown
        assert f"locked by pid {writer}" in fleet.run.standing("t002").reason

        assert fleet.command("abort").exit_code == 0
        outcome = walking.result(SECONDS)
    pool.close()

    assert (outcome.status, "aborted on request" in outcome.summary) == ("mixed", True)
    assert fleet.words() == {"t001": "begun", "t002": "held back", **dict.fromkeys(others, "verified")}
    assert "aborted on request" in fleet.run.standing("t001").reason
    assert fleet.shops.contents("t002") == before["t002"]
    assert faults_of(fleet, {}) == []

    assert fleet.command("resume").exit_code == 0
    with fleet.locked("t001", "LOCK orders IN ACCESS EXCLUSIVE MODE") as writer:
        refused = fleet.command("run")
    assert (refused.exit_code, f"locked by pid {writer}" in refused.text) == (3, True), refused.text
    assert fleet.command("run").exit_code == 0
    assert set(fleet.words().values()) == {"verified"}
    assert faults_of(fleet, {}) == []


def test_a_target_that_fails_leaves_the_others_untouched(fleet: Fleet) -> None:
    later = {name: fingerprint(fleet.shops, name) for name in fleet.shops.names[1:]}
    fleet.shops.execute("t001", "UPDATE orders SET channel = 'web' WHERE id = 5")  # no row of the backfill
    failed = fleet.command("run")

    assert (failed.exit_code, fleet.words()) == (3, {"t001": "failed", **dict.fromkeys(later, "previewed")}), failed.text
    assert "STOPPED BY FAILURES" in failed.text and "--retry-failed" in failed.text
    assert faults_of(fleet, later) == []

    offered = json.loads(fleet.command("undo", "--json").printed)
    undone = fleet.command("undo", "--approve", offered["digest"])
    assert (undone.exit_code, fleet.words()["t001"]) == (0, "undone"), undone.text
    assert faults_of(fleet, later) == []


def test_what_is_wrong_with_each_target_is_named_and_the_rest_ends(fleet: Fleet, tmp_path: Path) -> None:
    shops = fleet.shops
    shops.execute("t002", "UPDATE orders SET channel = NULL WHERE id < 21")
    shops.execute("t005", "ALTER TABLE orders DROP COLUMN channel")
    allowed = "ALTER DATABASE {} ALLOW_CONNECTIONS {}"
    before = {name: fingerprint(shops, name) for name in ("t004",)}
    rows = {name: shops.contents(name)[0] for name in ("t002", "t003")}
    with shops.server.connect() as superuser:
        superuser.execute(allowed.format(shops.database("t004").name, "false"))  # type: ignore[call-overload]
        another = lifecycle.open_new(
            shops.root / "plan.yaml", fleet.path / "targets" / "t003.yaml", "full", outputs=tmp_path
        )
        with lease.leased(another):
            ended_ = fleet.command("run")
        another.close_adapters()
        superuser.execute(allowed.format(shops.database("t004").name, "true"))  # type: ignore[call-overload]
    standings = fleet.run.standings()

    assert ended_.exit_code == 4, ended_.text
    assert fleet.words() == {"t001": "verified", **dict.fromkeys(("t002", "t003", "t004", "t005"), "held back")}
    said = {
        "t002": "drifted since its preview",
        "t003": f"run {another.folder.id}",
        "t004": "not currently accepting connections",
        "t005": "channel",
    }
    assert {n: standings[n].reason for n, text in said.items() if text not in standings[n].reason} == {}
    assert [name for name, was in rows.items() if shops.contents(name)[0] != was] == []
    assert faults_of(fleet, before) == []

    shops.database("t005").drop()
    shops.template.clone(shops.database("t005").name)
    assert fleet.command("plan").exit_code == 0
    finished = fleet.command("run", "--approve", fleet.run.state.previewed)
    assert (finished.exit_code, set(fleet.words().values())) == (0, {"verified"}), finished.text
    assert faults_of(fleet, {}) == []


def test_of_two_engineers_the_second_is_refused_by_name(fleet: Fleet) -> None:
    threads = ("--engine", "threads")
    with fleet.client(*threads) as one, fleet.client(*threads) as two:
        found = {each.pid: ended(each) for each in (one, two)}

    (first, _), (second, printed) = sorted(found.items(), key=lambda each: each[1][0])
    assert [code for code, _ in (found[first], found[second])] == [0, 3], found
    assert f"pid {first}" in found[second][1] and "changed nothing" in found[second][1], printed
    assert [fleet.kinds(name).count("started") for name in fleet.shops.names] == [1] * COUNT
    assert faults_of(fleet, {}) == []
