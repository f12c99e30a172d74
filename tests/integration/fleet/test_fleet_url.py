"""A fleet's folder at a URL is read and verified; nothing acts there."""

import json
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from runbook_lib.fleet import FleetRun, walk
from runbook_lib.fleet.engines import Engine
from runbook_lib.rehearsal.tenants import Tenants

from ...support.bare import Ended, runbook
from .conftest import Planned

pytestmark = pytest.mark.newest


@pytest.fixture
def done(shops: Tenants, planned: Planned, engine: Engine) -> FleetRun:
    """A fleet that is sealed; of its two targets one failed."""
    run = planned(targets={"list": ["t001", "t002"]}, max_failures=1)
    shops.execute("t002", "UPDATE orders SET channel = 'web' WHERE id = 5")
    walk.apply(run, engine)
    return run


@pytest.fixture
def store() -> Iterator[MemoryFileSystem]:
    """The file system of memory:// URLs."""
    made = fsspec.filesystem("memory")
    yield made
    made.rm("/", recursive=True)


def test_a_fleet_at_a_url_is_read_as_it_is_there(
    done: FleetRun, store: MemoryFileSystem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"memory://bucket/fleets/{done.path.name}"
    store.put(f"{done.path}/", url, recursive=True)
    before = {name: store.cat_file(name) for name in store.find("/")}
    monkeypatch.chdir(tmp_path)

    status, state = runbook("fleet", "status", url), json.loads(runbook("fleet", "status", url, "--json").text)
    report = json.loads(runbook("fleet", "report", url, "--json").text)
    seals = [
        runbook("verify", each) for each in (url, f"{url}/", done.path.as_uri(), f"{url}/{state['targets']['t001']['run']}")
    ]

    assert (status.exit_code, [word for word in ("MIXED", "t002", "1 failed") if word not in status.text]) == (0, [])
    assert f"Read from {url}" in status.text and "runbook fleet" not in status.text
    assert (state["fleet"], state["next"], state["targets"]["t001"]["state"]) == (url, [], "verified")
    assert Path(report["report"]) == tmp_path / f"{done.path.name}.html"
    written = Path(report["report"]).read_text()
    assert "MIXED: 1 of 2 targets rolled back" in written
    assert "runbook fleet " not in written and 'href="' not in written
    assert [(each.exit_code, "every file is as it was sealed" in each.text) for each in seals] == [(0, True)] * 4
    assert {name: store.cat_file(name) for name in store.find("/")} == before


def test_what_was_changed_at_a_url_is_named(done: FleetRun, store: MemoryFileSystem) -> None:
    store.put(f"{done.path}/", "memory://fleet", recursive=True)
    store.mv("memory://fleet", f"memory://{done.path.name}", recursive=True)
    report = f"{done.state.targets['t001']['run']}/report.html"
    store.pipe_file(f"/{done.path.name}/{report}", b"another")
    store.pipe_file(f"/{done.path.name}/more.txt", b"more")

    ended = runbook("verify", f"memory://{done.path.name}")

    assert ended.exit_code == 3
    assert f"{report}: differs from what was sealed." in ended.text and "more.txt: does not belong" in ended.text


def wrong(*arguments: object) -> Ended:
    return runbook("fleet", *arguments)


def test_nothing_acts_at_a_url_and_each_error_has_its_reason(
    shops: Tenants, store: MemoryFileSystem, tmp_path: Path
) -> None:
    store.pipe_file("/empty/notes.txt", b"none")
    store.pipe_file("/strange/fleet.jsonl", b"")
    store.pipe_file("/strange/../../out/fleet.jsonl", b"")
    acting = [wrong(name, "s3://bucket/fleet") for name in ("plan", "run", "undo", "pause", "resume", "abort")]
    acting.append(wrong("plan", shops.file, "--outputs", "s3://bucket"))
    read = {
        "memory://empty": (2, "it holds no fleet.jsonl and no journal.jsonl"),
        "memory://none": (2, "it holds no fleet.jsonl"),
        f"file://{tmp_path}/none": (2, "it holds no fleet.jsonl"),
        "s3://bucket/fleet": (3, "Install s3fs"),
        "nonesuch://fleet": (3, "Protocol not known: nonesuch"),
        "memory://strange": (2, "leads out of its folder"),
    }
    found = {url: wrong("status", url) for url in read}

    assert {(each.exit_code, "a journal needs fsync and a lock" in each.text) for each in acting} == {(2, True)}
    assert [(u, e.text) for u, e in found.items() if e.exit_code != read[u][0] or read[u][1] not in e.text] == []
    assert not Path("s3:").exists()
