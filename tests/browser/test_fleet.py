"""A fleet is opened in JupyterLab at its notebook, and what is saved there is sealed with it."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit
from urllib.request import Request, urlopen

import pytest

from runbook_lib import fleet
from runbook_lib.fleet import FleetRun, archive, walk
from runbook_lib.fleet.engines import Pool
from runbook_lib.rehearsal.postgres import embedded_server
from runbook_lib.rehearsal.tenants import tenants

from ..support.browser_seat import served

NAME = "10-fleet"
SECONDS = 20


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FleetRun]:
    """A fleet of one target that is rolled back and sealed."""
    with embedded_server() as server, tenants(server, tmp_path, 1, 40) as made:
        monkeypatch.setenv("PGSERVICEFILE", str(made.service_file))
        opened = fleet.open_new(made.file, operator="Dana", reason="a test", outputs=tmp_path / "outputs")
        pool = Pool(1)
        walk.approve(opened, walk.preview(opened, pool), "Dana")
        walk.apply(opened, pool)
        pool.close()
        yield opened


@pytest.mark.slow
def test_lab_opens_the_notebook_of_a_fleet_and_seals_it(run: FleetRun) -> None:
    with served(str(run.path), environment=os.environ) as lab:
        address = urlsplit(lab.link)
        assert (lab.folder, address.path) == (run.path, f"/lab/tree/lab/{NAME}.ipynb")

        def asked(**about: Any) -> Any:
            request = Request(f"http://{address.netloc}/api/contents/lab/{NAME}.ipynb", **about)
            request.add_header("Authorization", f"token {parse_qs(address.query)['token'][0]}")
            return json.loads(urlopen(request, timeout=SECONDS).read())

        model = asked()
        injected = next(c for c in model["content"]["cells"] if "injected-parameters" in c["metadata"].get("tags", []))
        given = {key: injected["source"].count(f'{key} = "') for key in ("FLEET", "OPERATOR", "REASON", "INCIDENT")}
        assert (given, f'"{run.path}"' in injected["source"]) == (dict.fromkeys(given, 1), True)
        model["content"]["cells"][0]["source"] += "\n\nworked in"
        asked(method="PUT", data=json.dumps({"type": "notebook", "content": model["content"]}).encode())
        assert f"lab/{NAME}.ipynb: was added after the seal." in map(str, archive.verify(run.path))

    assert "worked in" in (run.path / "lab" / f"{NAME}.ipynb").read_text()
    assert [str(each) for each in archive.verify(run.path)] == []
