"""`runbook list` and `runbook diff`: what a folder holds, and two runs next to each other."""

import json
from datetime import timedelta
from pathlib import Path

import pytest

from runbook_lib.journal import Journal
from runbook_lib.journal.folder import RunFolder

from ...support.commands import Command, words
from ...support.rehearsals import NOW, record


@pytest.fixture
def outputs(folder: RunFolder) -> Path:
    """A run in progress, and the record of an older rehearsal."""
    kept = folder.path.parent / "records"
    kept.mkdir()
    (kept / "older.json").write_text(record(NOW, name="older", at=NOW - timedelta(days=400)).text())
    return folder.path.parent


def test_runs_and_rehearsals_are_listed_newest_first(runbook: Command, outputs: Path, folder: RunFolder) -> None:
    code, out, errors = runbook("list", outputs)

    assert (code, errors) == (0, "")
    lines = out.splitlines()
    shown = [next(n for n, line in enumerate(lines) if word in line) for word in (" open ", "older")]
    assert shown == sorted(shown)


def test_the_list_as_json_has_when_type_target_outcome_and_times(runbook: Command, outputs: Path, folder: RunFolder) -> None:
    code, out, _ = runbook("list", outputs, "--json")

    said = json.loads(out)
    shown = [[run[k] for k in ("name", "type", "target", "outcome", "outage", "recorded")] for run in said["runs"]]
    assert (code, said["unreadable"]) == (0, {})
    assert shown == [
        [folder.id, "frontend", "rehearsal", "open", "", False],
        ["older", "full", "rehearsal", "verified", "9.0 s", True],
    ]
    assert [run["seconds"] for run in said["runs"]][1] == 10.0


def test_a_run_and_its_record_are_one(runbook: Command, folder: RunFolder) -> None:
    (folder.path.parent / "records").mkdir()
    (folder.path.parent / "records" / f"{folder.id}.json").write_text(record(name=folder.id).text())

    _, out, _ = runbook("list", folder.path.parent, "--json")

    assert [(run["name"], run["type"], run["recorded"]) for run in json.loads(out)["runs"]] == [
        (folder.id, "frontend", True)
    ]


def test_what_cannot_be_read_is_named(runbook: Command, outputs: Path, folder: RunFolder) -> None:
    (outputs / "empty").mkdir()
    (outputs / "records" / "torn.json").write_text('{"version":')
    folder.journal_path.write_text(folder.journal_path.read_text().replace("Dana", "Eve"))

    code, out, _ = runbook("list", outputs, "--json")
    unreadable = json.loads(out)["unreadable"]

    assert code == 0
    assert "it holds no journal.jsonl" in unreadable[str(outputs / "empty")]
    assert "chain is broken" in unreadable[str(folder.path)]
    assert any(name.startswith("torn in ") for name in unreadable)


def test_a_run_whose_plan_is_gone_is_listed_all_the_same(runbook: Command, tmp_path: Path) -> None:
    made = RunFolder.create(tmp_path / "runs", "INC-1", "full")
    about = {"operator": "", "environment": "production", "reason": "", "incident": "", "target": "shop"}
    Journal(made.journal_path).append("opened", plan="SHOP-1", plan_file="gone.yaml", type="full", option="A", **about)

    _, out, _ = runbook("list", tmp_path / "runs", "--json")

    (run,) = json.loads(out)["runs"]
    assert (run["feature"], run["outage"]) == ("SHOP-1", "not known: its plan cannot be read")


def test_a_folder_that_is_not_there_is_named(runbook: Command) -> None:
    code, _, errors = runbook("list", "nowhere")

    assert (code, "There is no folder nowhere." in errors) == (2, True)


def test_a_record_and_a_run_are_compared_step_by_step(runbook: Command, outputs: Path, folder: RunFolder) -> None:
    code, out, _ = runbook("diff", outputs / "records" / "older.json", folder.path, "--json")

    steps = {step["step"]: step for step in json.loads(out)["steps"]}
    assert code == 0
    assert (steps["stop"]["first"], steps["stop"]["differs"]) == (2.0, ["not in the second run"])
    assert (steps["revert-frontend"]["second"], steps["revert-frontend"]["differs"]) == (1.5, ["not in the first run"])


def test_a_comparison_reads_as_a_table(runbook: Command, folder: RunFolder) -> None:
    code, out, _ = runbook("diff", folder.path, folder.path)

    assert (code, "Take the code of frontend back" in out, "1.5 s" in out) == (0, True, True)


def test_a_file_that_is_no_record_is_refused(runbook: Command, tmp_path: Path, folder: RunFolder) -> None:
    (tmp_path / "notes.json").write_text("{}")

    code, _, errors = runbook("diff", tmp_path / "notes.json", folder.path)

    assert (code, "cannot be read as a rehearsal record" in words(errors)) == (2, True)
