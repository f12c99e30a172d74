"""A fleet is walked by a team's Dask cluster, whose scheduler and workers are processes of their own."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from runbook_lib import fleet
from runbook_lib.errors import AdapterError, PreconditionError
from runbook_lib.fleet import FleetRun, walk
from runbook_lib.fleet.child import Task, bring
from runbook_lib.fleet.dask_engine import Dask
from runbook_lib.rehearsal.tenants import Tenants

from ...support.bare import runbook
from ...support.dask_cluster import Cluster, cluster, files_in, recorded

pytestmark = [pytest.mark.newest, pytest.mark.slow]

OTHER_VERSION = "from runbook_lib.fleet import child\nchild.own_version = lambda: '0.0.9'"
OTHER_PACKAGES = "from runbook_lib.fleet import child\nchild.lock_digest = lambda: 'feedfacefeedface'"
NOT_MOUNTED = """
import pathlib
pathlib.Path.is_file = lambda self, there=pathlib.Path.is_file: "runs" not in self.parts and there(self)
"""
NO_LOCKS = "from runbook_lib.journal import folder\nfolder.flock = lambda *_: None"
UNFIT = {
    OTHER_VERSION: "it has 0.0.9, packages",
    OTHER_PACKAGES: "packages feedfacefeedface",
    NOT_MOUNTED: "it does not see /",
    NO_LOCKS: "it does not see the walker's lock on /",
}
TOKEN, PASSWORD = "tokenTHATnobodySENDS77", "passwordOFaFILE91xx"


@pytest.fixture(scope="module")
def scheduler(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with cluster(tmp_path_factory.mktemp("dask") / "plain") as made:
        yield made


@pytest.fixture
def plain(scheduler: Cluster) -> Iterator[Cluster]:
    """A scheduler by TCP, without the workers of other tests."""
    yield scheduler
    scheduler.without(*scheduler.workers)


@pytest.fixture(params=[False, True], ids=["tcp", "tls"])
def team(request: pytest.FixtureRequest, shops: Tenants, tmp_path: Path) -> Iterator[Cluster]:
    """A scheduler with one worker, in plain TCP and by TLS."""
    with cluster(tmp_path / "team", tls=request.param) as made:
        made.worker()
        yield made


def opened(shops: Tenants, root: Path) -> FleetRun:
    return fleet.open_new(shops.write(), operator="a test", reason="a test", outputs=root / "outputs")


def words(run: FleetRun) -> dict[str, str]:
    return {name: each.word for name, each in run.standings().items()}


def test_plan_run_and_undo_go_through_a_cluster(shops: Tenants, team: Cluster, tmp_path: Path) -> None:
    by = ["--scheduler", team.address]
    if team.tls:
        (tmp_path / "tls.yaml").write_text(yaml.safe_dump(files_in(team.tls)))
        by += ["--tls", str(tmp_path / "tls.yaml")]

    planned = runbook("fleet", "plan", shops.file, "--operator", "Ann", "--outputs", tmp_path / "outputs", "--json", *by)
    assert planned.exit_code == 0, planned.text
    about = json.loads(planned.text)
    ended = runbook("fleet", "run", about["fleet"], "--approve", about["digest"], *by)
    assert ended.exit_code == 0 and "FINISHED" in ended.text, ended.text

    (digest,) = re.findall(r"--approve (\w+)", runbook("fleet", "undo", about["fleet"]).text)
    undone = runbook("fleet", "undo", about["fleet"], "--approve", digest, *by)
    assert undone.exit_code == 0, undone.text
    assert words(FleetRun(Path(about["fleet"]))) == dict.fromkeys(shops.names, "undone")


def test_each_unfit_worker_is_refused_by_name_at_connect(shops: Tenants, plain: Cluster, tmp_path: Path) -> None:
    run = opened(shops, tmp_path)
    for preload in UNFIT:
        plain.worker(preload)

    with pytest.raises(PreconditionError) as refused:
        Dask.cluster(plain.address, run.path)

    assert "4 of 4 workers" in str(refused.value)
    assert [why for why in UNFIT.values() if why not in str(refused.value)] == []
    assert words(run) == dict.fromkeys(shops.names, "pending")


def test_a_worker_that_joins_later_is_given_nothing_if_unfit(shops: Tenants, plain: Cluster, tmp_path: Path) -> None:
    run, fit = opened(shops, tmp_path), plain.worker()
    engine = Dask.cluster(plain.address, run.path)
    try:
        plain.worker(OTHER_VERSION)

        digest = walk.preview(run, engine)

        assert words(run) == dict.fromkeys(shops.names, "previewed")
        assert run.state.lost == {}
        walk.approve(run, digest, "a test")
        plain.without(fit)
        with pytest.raises(PreconditionError, match=r"0\.0\.9"):
            walk.apply(run, engine)
        assert words(run) == dict.fromkeys(shops.names, "previewed")
    finally:
        engine.close()


def test_a_worker_refuses_a_task_of_other_versions(shops: Tenants, tmp_path: Path) -> None:
    run = opened(shops, tmp_path)

    with pytest.raises(PreconditionError, match=r"walked by 0\.0\.9"):
        bring(Task("t001", str(run.child("t001")), "preview", library="0.0.9, packages 0123456789abcdef"))

    assert words(run) == dict.fromkeys(shops.names, "pending")


def test_secrets_are_resolved_on_the_worker_and_never_sent(
    shops: Tenants, plain: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    template = yaml.safe_load((shops.root / "template.yaml").read_text())
    (shops.root / "template.yaml").write_text(yaml.safe_dump({**template, "api_token": {"env": "SHOP_TOKEN"}}))
    (tmp_path / "passwords").write_text(f"elsewhere:*:*:*:{PASSWORD}\n")
    (tmp_path / "passwords").chmod(0o600)
    poor = plain.worker()
    monkeypatch.setenv("SHOP_TOKEN", TOKEN)
    monkeypatch.setenv("PGPASSFILE", str(tmp_path / "passwords"))
    monkeypatch.setenv("DASK_DISTRIBUTED__COMM__COMPRESSION", "false")
    run = opened(shops, tmp_path)

    with recorded(plain.address) as (address, seen):
        previewed(run, address)
        assert words(run) == dict.fromkeys(shops.names, "held back")
        assert {"The secret SHOP_TOKEN is not in the environment." in each.reason for each in run.standings().values()} == {
            True
        }
        plain.without(poor)

        plain.worker()
        previewed(run, address)
        assert words(run) == dict.fromkeys(shops.names, "previewed")
    assert b"t001" in seen and run.path.name.encode() in seen
    assert [secret for secret in (TOKEN, PASSWORD) if secret.encode() in seen] == []


def previewed(run: FleetRun, address: str) -> None:
    engine = Dask.cluster(address, run.path)
    try:
        walk.preview(run, engine)
    finally:
        engine.close()


def test_a_scheduler_without_workers_is_one_clear_error(shops: Tenants, plain: Cluster, tmp_path: Path) -> None:
    with pytest.raises(AdapterError, match="has no worker"):
        Dask.cluster(plain.address, opened(shops, tmp_path).path)
