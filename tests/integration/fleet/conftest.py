"""Tenants on one server, each with the feature of a small release."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from runbook_lib import fleet
from runbook_lib.fleet import FleetRun, walk
from runbook_lib.fleet.engines import Engine, Pool
from runbook_lib.rehearsal.postgres import Server
from runbook_lib.rehearsal.tenants import Tenants, tenants

ROWS = 40
Planned = Callable[..., FleetRun]


@pytest.fixture
def shops(servers: Callable[[int], Server], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Tenants]:
    """Three tenants; libpq finds them by their service."""
    with tenants(servers(18), tmp_path, 3, ROWS) as made:
        monkeypatch.setenv("PGSERVICEFILE", str(made.service_file))
        yield made


@pytest.fixture
def engine() -> Iterator[Engine]:
    made = Pool(4)
    yield made
    made.close()


@pytest.fixture
def planned(shops: Tenants, engine: Engine, tmp_path: Path) -> Planned:
    """Opens a fleet with some keys changed, previews it, and approves what is ready."""

    def opened(**changed: Any) -> FleetRun:
        run = fleet.open_new(shops.write(**changed), operator="a test", reason="a test", outputs=tmp_path / "outputs")
        digest = walk.preview(run, engine)
        if run.state.previews[digest]:
            walk.approve(run, digest, "a test")
        return run

    return opened
