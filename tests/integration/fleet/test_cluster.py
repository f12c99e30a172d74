"""A fleet is walked by a team's Dask cluster, whose scheduler and workers are processes of their own."""

import asyncio
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from runbook_lib.errors import ParametersError
from runbook_lib.fleet import FleetRun
from runbook_lib.fleet import notebook as cells
from runbook_lib.rehearsal.tenants import Tenants

from ...support.bare import Ended, runbook
from ...support.dask_cluster import Cluster, Link, certificates, cluster, files_in, recorded

pytestmark = [pytest.mark.newest, pytest.mark.slow]

NAMES = ["t001", "t002"]
TOKEN, PASSWORD = "tokenTHATnobodySENDS77", "passwordOFaFILE91xx"


@pytest.fixture
def plain(tmp_path: Path) -> Iterator[tuple[Cluster, Link]]:
    """A scheduler by TCP, and a link to it on which all is recorded."""
    with cluster(tmp_path / "plain") as made, recorded(made.address) as link:
        yield made, link


def planned(shops: Tenants, outputs: Path, *by: str) -> Ended:
    file = shops.write(targets={"list": NAMES})
    return runbook("fleet", "plan", file, "--operator", "Ann", "--outputs", outputs, "--json", *by)


def to_the_end_and_back(fleet: str, digest: str, *by: str) -> list[str]:
    """What run, status, undo and status say of a fleet that was planned."""
    ended = runbook("fleet", "run", fleet, "--approve", digest, *by)
    done = runbook("fleet", "status", fleet)
    (offered,) = re.findall(r"--approve (\w+)", runbook("fleet", "undo", fleet).text)
    undone = runbook("fleet", "undo", fleet, "--approve", offered, *by)
    status = runbook("fleet", "status", fleet)
    assert [each.exit_code for each in (ended, done, undone, status)] == [0, 0, 0, 0], (ended.text, undone.text)
    return [each.text for each in (ended, done, undone, status)]


def previewed_in_the_notebook(fleet: str, scheduler: str, tls: str) -> str:
    """The digest of a preview that the notebook's cells take."""

    async def session() -> FleetRun:
        for wrong in ({"tls": tls}, {"tls": f"{tls}.none", "scheduler": scheduler}):
            with pytest.raises(ParametersError, match=r"SCHEDULER is empty|There is no file"):
                await cells.open_fleet(fleet, **wrong)
        seat = await cells.open_fleet(fleet, scheduler=scheduler, tls=tls)
        await cells.preview(seat)
        return seat.run

    return asyncio.run(session()).state.previewed


def test_a_fleet_goes_to_its_end_and_back_by_tls(shops: Tenants, tmp_path: Path) -> None:
    def by(folder: Path) -> list[str]:
        (file := tmp_path / f"{folder.name}.yaml").write_text(yaml.safe_dump(files_in(folder)))
        return ["--scheduler", team.address, "--tls", str(file)]

    with cluster(tmp_path / "team", tls=True) as team:
        assert team.tls and team.address.startswith("tls://")
        team.worker()
        without = planned(shops, tmp_path / "outputs", "--scheduler", team.address)
        strange = planned(shops, tmp_path / "outputs", *by(certificates(tmp_path / "strange")))
        about = json.loads(planned(shops, tmp_path / "outputs", *by(team.tls)).text)
        digest = previewed_in_the_notebook(about["fleet"], *by(team.tls)[1::2])
        said = to_the_end_and_back(about["fleet"], digest, *by(team.tls))

    assert (without.exit_code, "Add `--tls FILE`" in without.text) == (2, True)
    assert (strange.exit_code, "TLS certificate does not match" in strange.text) == (3, True), strange.text
    assert [word in text for word, text in zip(["FINISHED", "FINISHED", "UNDONE", "UNDONE"], said, strict=True)] == [
        True
    ] * 4
    assert [path.name for path in (tmp_path / "outputs").iterdir()] == [Path(about["fleet"]).name]


def test_secrets_are_resolved_on_the_worker_and_never_sent(
    shops: Tenants, plain: tuple[Cluster, Link], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    team, link = plain
    template = yaml.safe_load((shops.root / "template.yaml").read_text())
    (shops.root / "template.yaml").write_text(yaml.safe_dump({**template, "api_token": {"env": "SHOP_TOKEN"}}))
    (tmp_path / "passwords").write_text(f"elsewhere:*:*:*:{PASSWORD}\n")
    (tmp_path / "passwords").chmod(0o600)
    (login,) = re.findall(r"^password=(.+)$", shops.service_file.read_text(), re.MULTILINE)
    secrets = [TOKEN, PASSWORD, login]
    by = ["--scheduler", link.address]

    without_token = team.worker()
    monkeypatch.setenv("SHOP_TOKEN", TOKEN)
    monkeypatch.setenv("PGPASSFILE", str(tmp_path / "passwords"))
    refused = planned(shops, tmp_path / "outputs", *by)
    team.without(without_token)
    run = FleetRun(Path(json.loads(refused.text)["fleet"]))
    held = [each.reason for each in run.standings().values()]

    without_file = team.worker(PGSERVICEFILE=str(tmp_path / "none.conf"))
    refused_again = runbook("fleet", "plan", run.path, "--json", *by)
    team.without(without_file)
    held_again = [each.reason for each in run.standings().values()]

    team.worker()
    about = json.loads(runbook("fleet", "plan", run.path, "--json", *by).text)
    said = to_the_end_and_back(str(run.path), about["digest"], *by)

    assert [refused.exit_code, refused_again.exit_code] == [3, 3]
    assert ["The secret SHOP_TOKEN is not in the environment." in why and why.startswith("On ") for why in held] == [
        True
    ] * 2
    assert [str(tmp_path / "none.conf") in why for why in held_again] == [True] * 2, held_again
    assert "FINISHED" in said[0] and "UNDONE" in said[2]
    assert link.passed("t001") and link.passed(run.path.name)
    assert [secret for secret in secrets if link.passed(secret)] == []
    files = [path for path in run.path.rglob("*") if path.is_file()]
    assert {"fleet.jsonl", "journal.jsonl", "fleet-report.html", "report.html"} <= {path.name for path in files}
    assert len([path for path in files if path.suffix == ".ipynb"]) == 2
    shown = "\n".join([team.said(), *said, *(path.read_text(errors="replace") for path in files)])
    assert [secret for secret in secrets if secret in shown] == []
