"""The workers of a cluster that must not act for a fleet are refused by name, before anything is begun."""

import re
import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import pytest

from runbook_lib import fleet
from runbook_lib.errors import PreconditionError
from runbook_lib.fleet import FleetRun, live, walk
from runbook_lib.fleet.child import Task, bring
from runbook_lib.fleet.dask_engine import Dask
from runbook_lib.rehearsal.tenants import Tenants

from ...support.bare import runbook
from ...support.dask_cluster import Cluster, cluster

pytestmark = pytest.mark.newest

OTHER_VERSION = "from runbook_lib.fleet import child\nchild.own_version = lambda: '0.0.9'"
OTHER_PACKAGES = "from runbook_lib.fleet import child\nchild.lock_digest = lambda: 'feedfacefeedface'"
NOT_MOUNTED = """
import pathlib
pathlib.Path.is_file = lambda self, there=pathlib.Path.is_file: "runs" not in self.parts and there(self)
"""
NO_LOCKS = "from runbook_lib.journal import folder\nfolder.flock = lambda *_: None"
NOT_INSTALLED = "import sys\nsys.modules['runbook_lib.fleet.cluster'] = None"
UNFIT = {
    OTHER_VERSION: "it has 0.0.9, packages",
    NOT_MOUNTED: "it does not see /",
    NO_LOCKS: "it does not see the walker's lock on /",
    NOT_INSTALLED: "cannot run this library: ModuleNotFoundError('import of runbook_lib.fleet.cluster halted",
}


@pytest.fixture(scope="module")
def scheduler(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with cluster(tmp_path_factory.mktemp("dask") / "plain") as made:
        yield made


@pytest.fixture
def team(scheduler: Cluster) -> Iterator[Cluster]:
    """A scheduler by TCP, without the workers of other tests."""
    yield scheduler
    scheduler.without(*scheduler.workers)


@pytest.fixture
def run(shops: Tenants, tmp_path: Path) -> FleetRun:
    file = shops.write(targets={"list": ["t001", "t002"]})
    return fleet.open_new(file, operator="a test", reason="a test", outputs=tmp_path / "outputs")


def words(run: FleetRun) -> set[str]:
    return {each.word for each in run.standings().values()}


@pytest.mark.slow
def test_each_unfit_worker_is_refused_by_name_at_connect(
    run: FleetRun, team: Cluster, shops: Tenants, tmp_path: Path
) -> None:
    team.joined([*UNFIT])
    before = run.journal.path.read_bytes()

    again = runbook("fleet", "plan", run.path, "--scheduler", team.address)
    new = runbook("fleet", "plan", shops.file, "--scheduler", team.address, "--outputs", tmp_path / "new", "--json")

    for ended in (again, new):
        assert ended.exit_code == 3
        assert "4 of 4 workers cannot act for this fleet" in ended.text
        assert [why for why in UNFIT.values() if why not in ended.text] == [], ended.text
        assert len(re.findall(rf"tcp://127\.0\.0\.1:\d+ on {socket.gethostname()}: it ", ended.text)) == 3
    assert (words(run), run.journal.path.read_bytes()) == ({"pending"}, before)
    assert [*(tmp_path / "new").glob("*")] == []


@pytest.mark.slow
def test_an_unfit_worker_that_joins_later_is_refused_by_name(
    run: FleetRun, team: Cluster, capsys: pytest.CaptureFixture[str]
) -> None:
    fit = team.worker()
    engine = Dask.cluster(team.address, run.path)
    try:
        team.worker(OTHER_PACKAGES)
        page = urlopen(engine.dashboard, timeout=20).read().decode()
        assert [each for each in team.addresses() if each not in page] == []

        with live.watched(run) as watch:
            digest = walk.preview(run, engine, watch)

        ((worker, why),) = run.state.refused.items()
        assert "packages feedfacefeedface" in why
        assert f"Refused worker {worker} on {socket.gethostname()}: it has " in " ".join(capsys.readouterr().out.split())
        assert worker in runbook("fleet", "status", run.path).text
        assert (words(run), run.state.lost) == ({"previewed"}, {})

        walk.approve(run, digest, "a test")
        team.without(fit)
        with pytest.raises(PreconditionError, match=rf"{worker} on \S+: it has .* packages feedfacefeedface"):
            walk.apply(run, engine)
        assert words(run) == {"previewed"}
    finally:
        engine.close()


def test_a_worker_refuses_a_task_of_other_versions(run: FleetRun) -> None:
    with pytest.raises(PreconditionError, match=r"walked by 0\.0\.9"):
        bring(Task("t001", str(run.child("t001")), "preview", library="0.0.9, packages 0123456789abcdef"))

    assert words(run) == {"pending"}


@pytest.mark.slow
def test_without_a_worker_or_a_scheduler_nothing_is_begun(shops: Tenants, team: Cluster, tmp_path: Path) -> None:
    outputs = tmp_path / "outputs"
    no_worker = runbook("fleet", "plan", shops.file, "--outputs", outputs, "--scheduler", team.address)

    assert (no_worker.exit_code, "The scheduler has no worker" in no_worker.text) == (3, True)
    assert [*outputs.iterdir()] == []
