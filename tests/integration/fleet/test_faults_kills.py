"""A worker, a scheduler or the client is killed while targets are rolled back; the same command ends what was left."""

import json
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from runbook_lib.errors import AdapterError
from runbook_lib.fleet import dask_engine, walk
from runbook_lib.fleet.dask_engine import Dask
from runbook_lib.rehearsal.postgres import Server
from runbook_lib.rehearsal.tenants import tenants

from ...support.dask_cluster import Cluster, Link
from ...support.dask_cluster import cluster as clustered
from ...support.fleet_faults import SECONDS, Fleet, ended, faults_of, fingerprint, killed
from ...support.relay import Relay, relaying
from ...support.waiting import lives, until

pytestmark = [pytest.mark.newest, pytest.mark.slow]


@pytest.fixture(scope="module")
def made(servers: Callable[[int], Server], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    root = tmp_path_factory.mktemp("fleet")
    with tenants(servers(18), root, 3, 40) as shops, pytest.MonkeyPatch.context() as patched:
        patched.setenv("PGSERVICEFILE", str(shops.service_file))
        yield Fleet.approved(shops, root, canaries=["t001"], max_failures=2)


@pytest.fixture
def fleet(made: Fleet) -> Fleet:
    made.reset()
    return made


@pytest.fixture(scope="module")
def dask(made: Fleet) -> Iterator[Dask]:
    """Workers on this machine; a killed one starts again by itself."""
    engine = Dask.local(2)
    yield engine
    engine.close()


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    with clustered(tmp_path / "cluster") as found:
        found.worker()
        yield found


def reached(cluster: Cluster, fleet: Fleet) -> Dask | None:
    """The engine of a cluster, None while it has no worker."""
    try:
        return Dask.cluster(cluster.address, fleet.path)
    except AdapterError:
        return None


def test_killed_workers_are_named_and_their_targets_resumed(fleet: Fleet, dask: Dask) -> None:
    later = {name: fingerprint(fleet.shops, name) for name in ("t002", "t003")}
    with ThreadPoolExecutor(1) as other, ExitStack() as held:
        with fleet.locked("t001"):
            held.enter_context(fleet.locked("t002"))
            walking = other.submit(walk.apply, fleet.run, dask)
            killed(fleet.until_waiting("t001"))
            until(lambda: "t001" in fleet.lost(), "the walker names the target")
            assert faults_of(fleet, later) == []
        killed(fleet.until_waiting("t002"))
        until(lambda: "t002" in fleet.lost(), "the walker names the other target")
        held.close()
        outcome = walking.result(SECONDS)

    assert (outcome.status, fleet.words()) == ("finished", dict.fromkeys(fleet.shops.names, "verified"))
    assert [fleet.kinds(name).count("started") for name in ("t001", "t002")] == [2, 2]
    assert faults_of(fleet, {}) == []


def test_a_killed_scheduler_is_one_error_with_the_next_command(fleet: Fleet, cluster: Cluster) -> None:
    later = {name: fingerprint(fleet.shops, name) for name in ("t002", "t003")}
    with fleet.locked("t001"), fleet.client("--scheduler", cluster.address) as client:
        fleet.until_waiting("t001")
        cluster.processes[0].kill()
        code, printed = ended(client)

        assert (code, printed.count("The connection to the scheduler is lost.")) == (3, 1), printed
        assert "Workers may still act on those under way: t001." in printed
        assert "run the same command again" in printed
        assert "Traceback" not in printed, printed
        assert fleet.lost() == ["t001"]
        shown = fleet.command("status").text
        assert "t001" in shown and "begun" in shown and f"runbook fleet run {fleet.path}" in shown
        assert faults_of(fleet, later) == []
    fleet.until_idle()

    cluster.scheduler()
    cluster.worker()
    with fleet.client("--scheduler", cluster.address) as client:
        code, printed = ended(client)

    assert (code, fleet.words()) == (0, dict.fromkeys(fleet.shops.names, "verified")), printed
    assert faults_of(fleet, {}) == []


def test_a_cluster_without_workers_is_one_error(fleet: Fleet, cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dask_engine, "NO_WORKER", 1)
    engine = until(lambda: reached(cluster, fleet), "the worker has joined")
    with fleet.locked("t001"), ThreadPoolExecutor(1) as other:
        walking = other.submit(walk.apply, fleet.run, engine)
        assert fleet.until_waiting("t001") == cluster.processes[1].pid
        killed(cluster.processes[1].pid)
        with pytest.raises(AdapterError, match="has had no worker for 1 s"):
            walking.result(SECONDS)
    engine.close()
    cluster.worker()
    again = until(lambda: reached(cluster, fleet), "another worker has joined")
    ended_ = walk.apply(fleet.run, again)
    again.close()

    assert (ended_.status, set(fleet.lost())) == ("finished", {"t001"})
    assert faults_of(fleet, {}) == []


def test_a_scheduler_that_hangs_is_one_error(fleet: Fleet, cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = until(lambda: reached(cluster, fleet), "the worker has joined")
    with fleet.locked("t001"), ThreadPoolExecutor(1) as other:
        walking = other.submit(walk.apply, fleet.run, engine)
        fleet.until_waiting("t001")
        monkeypatch.setattr(dask_engine, "ANSWER", 2)
        cluster.processes[0].send_signal(signal.SIGSTOP)
        with pytest.raises(AdapterError, match="has not answered for 2 s"):
            walking.result(SECONDS)
        other.submit(engine.close).result(SECONDS)
        cluster.processes[0].send_signal(signal.SIGCONT)
        fleet.release("t001")
        fleet.until_idle()

    assert (fleet.lost(), fleet.words()["t001"]) == (["t001"], "verified")
    assert fleet.command("run").exit_code == 0
    assert faults_of(fleet, {}) == []


@pytest.mark.parametrize("kind", ["dask", "threads"])
def test_after_a_killed_client_the_same_command_ends_the_rest(fleet: Fleet, kind: str) -> None:
    later = {name: fingerprint(fleet.shops, name) for name in ("t002", "t003")}
    with fleet.locked("t001"), fleet.client("--engine", kind) as client:
        acting = fleet.until_waiting("t001")
        killed(client.pid)
        assert faults_of(fleet, later) == []
        assert fleet.words() == {"t001": "begun", "t002": "previewed", "t003": "previewed"}
        with fleet.client("--engine", kind) as again:
            until(lambda: not lives(acting) or fleet.noted("fleet-waiting"), "the first worker is gone or is waited for")
            fleet.release("t001")
            code, printed = ended(again)

    assert (code, fleet.words()) == (0, dict.fromkeys(fleet.shops.names, "verified")), printed
    assert faults_of(fleet, {}) == []


def test_after_a_killed_undo_the_same_command_ends_it(fleet: Fleet) -> None:
    before = {name: fleet.shops.contents(name)[0] for name in fleet.shops.names}
    assert fleet.command("run").exit_code == 0
    done = {name: fingerprint(fleet.shops, name) for name in ("t001", "t002")}
    digest = json.loads(fleet.command("undo", "--json").printed)["digest"]
    with fleet.locked("t003"), fleet.locked("t002"):
        with fleet.client("--approve", digest, "--engine", "threads", name="undo") as client:
            fleet.until_waiting("t003")
            killed(client.pid)
        assert faults_of(fleet, {"t001": done["t001"]}) == []
        assert f"runbook fleet undo {fleet.path} --approve {digest}" in fleet.command("status").text
    undone = fleet.command("undo", "--approve", digest)

    assert (undone.exit_code, fleet.words()) == (0, dict.fromkeys(fleet.shops.names, "undone")), undone.text
    assert {name: fleet.shops.contents(name)[0] for name in fleet.shops.names} == before
    assert faults_of(fleet, {}) == []


@pytest.mark.parametrize(("number", "kind"), [(signal.SIGINT, "dask"), (signal.SIGTERM, "threads")])
def test_an_interrupted_client_ends_in_good_order(fleet: Fleet, number: signal.Signals, kind: str) -> None:
    later = {name: fingerprint(fleet.shops, name) for name in ("t002", "t003")}
    with fleet.locked("t001"), fleet.client("--engine", kind) as client:
        fleet.until_waiting("t001")
        client.send_signal(number)
        code, printed = ended(client)  # while the lock is held

    assert (code, "Traceback" in printed) == (4, False), printed
    assert f"Interrupted by {number.name}: no other target begins" in printed
    assert f"it was interrupted by {number.name}" in printed
    assert f"runbook fleet run {fleet.path}" in printed
    assert faults_of(fleet, later) == []
    assert fleet.command("run").exit_code == 0
    assert faults_of(fleet, {}) == []


def test_a_second_signal_does_not_wait_for_a_worker(fleet: Fleet) -> None:
    with fleet.locked("t001"):
        with fleet.client() as client:
            acting = fleet.until_waiting("t001")
            for _ in range(2):
                client.send_signal(signal.SIGINT)
                until(lambda: fleet.noted("fleet-interrupted"), "the walker hears of it")
            code, printed = ended(client)
        until(lambda: not lives(acting), "the worker ends")
        shown = fleet.command("status").text

    assert (code, "Traceback" in printed, "distributed" in printed) == (4, False, False), printed
    assert "Repeat the command to resume." in printed
    assert "INTERRUPTED by SIGINT" in shown and f"runbook fleet run {fleet.path}" in shown
    assert fleet.command("run").exit_code == 0
    assert faults_of(fleet, {}) == []


def test_a_cut_link_to_the_scheduler_ends_the_client_alone(fleet: Fleet, cluster: Cluster) -> None:
    link = Link(cluster.address)
    with fleet.locked("t001"), fleet.client("--scheduler", link.address) as client:
        acting = fleet.until_waiting("t001")
        link.close()
        code, printed = ended(client)

        assert (code, printed.count("The connection to the scheduler is lost.")) == (3, 1), printed
        assert "Traceback" not in printed, printed
        assert fleet.held_by("t001") == acting == cluster.processes[1].pid
        with fleet.client("--scheduler", cluster.address) as again:
            until(lambda: fleet.noted("fleet-waiting"), "the worker of the first client is waited for")
            assert "Waiting: t001" in fleet.command("status").text
            assert fleet.run.standing("t001").reason == f"waits: another process acts there: pid {acting}"
            fleet.release("t001")
            code, printed = ended(again)

    assert (code, fleet.words()) == (0, dict.fromkeys(fleet.shops.names, "verified")), printed
    assert fleet.kinds("t001").count("started") == 1
    assert faults_of(fleet, {}) == []


def test_a_cut_link_to_the_databases_leaves_the_rest_untouched(fleet: Fleet, dask: Dask) -> None:
    later = {name: fingerprint(fleet.shops, name) for name in ("t002", "t003")}
    services = fleet.shops.service_file
    direct, place = services.read_text(), fleet.shops.server.parameters["host"]
    with relaying(Relay, Path(place)) as relay, ThreadPoolExecutor(1) as other:
        services.write_text(direct.replace(place, str(relay.directory)))
        with fleet.locked("t001"):
            walking = other.submit(walk.apply, fleet.run, dask)
            fleet.until_waiting("t001")
            relay.close()
            outcome = walking.result(SECONDS)
    services.write_text(direct)
    standings = fleet.run.standings()

    assert (outcome.status, outcome.exit_code) == ("mixed", 4), standings
    assert {name: each.word for name, each in standings.items()} == {
        "t001": "failed",
        "t002": "previewed",
        "t003": "previewed",
    }
    assert str(relay.directory) in standings["t001"].reason
    assert faults_of(fleet, later) == []
    assert f"runbook fleet run {fleet.path}" in fleet.command("status").text
    assert fleet.command("run").exit_code == 0
    assert faults_of(fleet, {}) == []
