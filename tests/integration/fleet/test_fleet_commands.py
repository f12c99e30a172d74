"""The commands of a fleet: exit codes, files, and what wrong use is answered with."""

import json
import re
from pathlib import Path

import pytest

from runbook_lib.fleet import FleetRun, walk
from runbook_lib.fleet.engines import Engine
from runbook_lib.journal.folder import RunFolder
from runbook_lib.rehearsal.tenants import Tenants

from ...support.bare import Ended, runbook
from .conftest import Planned

pytestmark = pytest.mark.newest


def executed(name: str, *more: object) -> Ended:
    """`runbook fleet NAME` with threads of this process as its engine."""
    return runbook("fleet", name, *more, *(["--engine", "threads"] if name in ("plan", "run", "undo") else []))


def test_a_fleet_from_its_file_to_its_undo(shops: Tenants, tmp_path: Path) -> None:
    shops.execute("t002", "ALTER TABLE orders DROP COLUMN channel")
    planned = json.loads(executed("plan", shops.file, "--outputs", tmp_path / "outputs", "--json").printed)
    path = Path(planned["fleet"])
    assert {name: each["state"] for name, each in planned["targets"].items()} == {
        "t001": "previewed",
        "t002": "held back",
        "t003": "previewed",
    }

    ended = executed("run", path, "--approve", planned["digest"])
    status = executed("status", path)

    assert (ended.exit_code, status.exit_code) == (4, 0)
    assert "t001: verified" in ended.text
    for command in (f"runbook fleet plan {path}", f"runbook fleet undo {path}"):
        assert command in ended.text and command in status.text and command in (path / "fleet-report.html").read_text()
    assert runbook("status", path).printed == status.printed
    assert "fleet tenants, 3 targets" in runbook("list", path.parent).text
    assert runbook("verify", path).exit_code == 0

    offered = executed("undo", path, "--json")
    undone = executed("undo", path, "--approve", json.loads(offered.printed)["digest"])

    assert (offered.exit_code, undone.exit_code, "UNDONE" in undone.text) == (0, 0, True), undone.printed
    report = (path / "fleet-report.html").read_text()
    assert "Every target that was rolled back was undone." in report
    links = re.findall(r'href="(runs/[^"]+)"', report)
    assert len(links) == 3 and all((path / link).is_file() for link in links)
    assert runbook("verify", path).exit_code == 0


def test_the_seal_covers_the_fleet_and_each_run(planned: Planned, engine: Engine) -> None:
    run = planned()
    walk.apply(run, engine)
    assert runbook("verify", run.path).exit_code == 0

    (run.path / "targets" / "t001.yaml").write_text("name: other\n")
    journal = run.child("t002") / "journal.jsonl"
    journal.write_text(journal.read_text().replace("a test", "nobody"))
    (run.child("t003") / "manifest.json").unlink()
    (run.path / "more.txt").touch(mode=0o600)

    found = json.loads(runbook("verify", run.path, "--json").printed)["problems"]
    named = {
        problem.partition(": ")[0].replace(str(run.child(n).relative_to(run.path)), n) for problem in found for n in ["t002"]
    }
    missing = f"{run.child('t003').relative_to(run.path)}/manifest.json"
    assert {"targets/t001.yaml", "t002/journal.jsonl", missing, "more.txt"} <= named
    assert not [name for name in named if name.startswith("runs/t001")]


@pytest.fixture
def ready(planned: Planned) -> FleetRun:
    return planned()


def test_wrong_use_is_named_and_changes_nothing(ready: FleetRun, tmp_path: Path) -> None:
    path, before = ready.path, ready.journal.path.read_bytes()
    wrong = {
        ("status", tmp_path / "none"): (2, "There is no folder"),
        ("status", tmp_path): (2, "is no fleet's folder: it holds no fleet.jsonl"),
        ("plan", tmp_path / "none.yaml"): (2, "There is no file"),
        ("plan", tmp_path / "plan.yaml"): (2, "targets: missing"),
        ("plan", path, "--reason", "another"): (2, "go with a new fleet"),
        ("run", path, "--approve", "0123456789abcdef"): (1, "has the digest '0123456789abcdef'"),
        ("run", path, "--retry-failed"): (3, "No target of this fleet failed"),
        ("undo", path): (1, "nothing to undo"),
        ("pause", path): (3, "nothing to pause"),
        ("resume", path): (3, "nothing to resume"),
        ("abort", path): (3, "nothing to abort"),
    }
    found = {arguments: executed(*arguments) for arguments in wrong}
    with ready.folder.lock():
        busy = executed("run", path)
        shown = executed("status", path)
    by_name = runbook("run", path)

    assert [(a, e.text) for a, e in found.items() if e.exit_code != wrong[a][0] or wrong[a][1] not in e.text] == []
    assert (busy.exit_code, "Another process acts in this fleet now: pid" in busy.text) == (3, True)
    assert f"runbook fleet pause {path}" in shown.text
    assert (by_name.exit_code, "is a fleet's folder" in by_name.text) == (2, True)
    assert ready.journal.path.read_bytes() == before


def test_an_aborted_fleet_runs_once_it_is_resumed(ready: FleetRun) -> None:
    with RunFolder(ready.path).lock():
        assert executed("abort", ready.path, "--json").exit_code == 0

    refused = executed("run", ready.path)
    resumed = executed("resume", ready.path)

    assert (refused.exit_code, "was aborted, and nobody resumed it" in refused.text) == (3, True)
    assert f"runbook fleet run {ready.path}" in resumed.text
    assert executed("run", ready.path).exit_code == 0
