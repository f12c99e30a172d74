"""`runbook status`, `verify` and `check`."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from runbook_lib import report as archive
from runbook_lib.documents import load_plan
from runbook_lib.journal import Journal
from runbook_lib.journal.folder import RunFolder
from runbook_lib.results import Result, Status
from runbook_lib.run import Run

from ...support.commands import Command
from ...support.places import PLAN


def test_status_needs_the_journal_alone(runbook: Command, folder: RunFolder) -> None:
    code, out, _ = runbook("status", folder.path, "--verbose")

    assert code == 0
    assert [line.split(" | ")[0].strip() for line in out.splitlines() if "frontend" in line.lower()][-4:] == [
        "done",
        "outcome unknown",
        "pending",
        "pending",
    ]
    assert "1 of 7 steps done, outcome unknown: build-frontend" in out


def test_status_needs_a_run_or_a_target(runbook: Command) -> None:
    code, _, errors = runbook("status")

    assert (code, "Name a run folder, or a target" in errors) == (2, True)


def test_status_as_json(runbook: Command, folder: RunFolder) -> None:
    code, out, _ = runbook("status", folder.path, "--json")

    told = json.loads(out)
    assert (code, told["run"], told["type"], told["outcome"]) == (0, str(folder.path), "frontend", None)
    assert {name: step["status"] for name, step in told["steps"].items()} == {
        "revert-frontend": "done",
        "build-frontend": "started",
    }


def test_status_of_a_run_whose_type_was_never_chosen(runbook: Command, opened: Callable[[str], RunFolder]) -> None:
    code, out, _ = runbook("status", opened("").path)

    assert (code, "no rollback type is chosen" in out) == (0, True)


def test_status_writes_nothing(runbook: Command, folder: RunFolder) -> None:
    before = sorted((path, path.stat().st_mtime_ns) for path in folder.path.rglob("*"))

    runbook("status", folder.path)

    assert sorted((path, path.stat().st_mtime_ns) for path in folder.path.rglob("*")) == before


def test_status_of_a_broken_journal_is_an_error_not_a_guess(runbook: Command, folder: RunFolder) -> None:
    text = folder.journal_path.read_text()
    folder.journal_path.write_text(text.replace('"seconds":1.5', '"seconds":9.5'))

    code, out, err = runbook("status", folder.path)

    assert (code, out, "chain is broken" in err) == (3, "", True)


def test_verify_of_a_folder_that_is_not_there_is_an_error_and_no_verdict(runbook: Command, tmp_path: Path) -> None:
    code, out, said = runbook("verify", tmp_path / "nowhere")
    assert (code, out) == (2, "")
    assert "nowhere is no folder" in " ".join(said.split())


def test_verify_distinguishes_a_sealed_run_from_a_changed_one(runbook: Command, folder: RunFolder) -> None:
    archive.seal(folder)
    assert runbook("verify", folder.path)[0] == 0

    folder.write_text("evidence/added.txt", "added")
    code, out, _ = runbook("verify", folder.path, "--json")

    assert (code, json.loads(out)["intact"], json.loads(out)["problems"]) == (
        3,
        False,
        ["evidence/added.txt: was added after the seal."],
    )


# --- check


@pytest.fixture
def rolled_back(opened: Callable[[str], RunFolder], stack: None, monkeypatch: pytest.MonkeyPatch) -> RunFolder:
    """A run whose steps are all done, and of whose checks one fails."""
    made = opened("frontend")
    journal = Journal(made.journal_path)
    journal.append("approved", digest="d1", by="Dana")
    for step in load_plan(PLAN).steps_of("frontend", "A"):
        journal.append("started", step=step, title=step)
        journal.append("applied", step=step, seconds=1.0, outcome={})

    def observe(run: Run, round_name: str, names: list[str]) -> list[Result]:
        failing = "thread-loads"
        return run.record(round_name, [Result(n, n, Status("FAIL" if n == failing else "PASS"), "seen") for n in names])

    monkeypatch.setattr(Run, "observe", observe)
    return made


WAIVE = ["--waive", "thread-loads", "--reason", "the probe itself is broken"]


@pytest.mark.parametrize(
    ("waive", "code", "status"),
    [
        pytest.param([], 3, "failed", id="without a waiver it failed"),
        pytest.param(WAIVE, 4, "waived", id="with one it is verified in part, which is no success"),
        pytest.param(["--waive", "media-renders", *WAIVE[2:]], 3, "failed", id="a waiver of another check is none"),
    ],
)
def test_check_judges_a_run_again(
    runbook: Command, rolled_back: RunFolder, waive: list[str], code: int, status: str
) -> None:
    said = runbook("check", rolled_back.path, *waive, "--json")

    assert (said[0], json.loads(said[1])["outcome"]["status"]) == (code, status)


def test_a_waived_check_is_on_the_first_screen_and_never_called_passed(runbook: Command, rolled_back: RunFolder) -> None:
    _, out, _ = runbook("check", rolled_back.path, *WAIVE)

    assert "WAIVED (FAIL)" in out
    report = (rolled_back.path / "report.html").read_text()
    header = report[report.index("<header") : report.index("</header>")]
    assert ["COMPLETED, NOT VERIFIED" in header, "with 1 waiver" in header, "the probe itself is broken" in header] == [
        True
    ] * 3


@pytest.mark.parametrize(
    "waive", [["--waive", "thread-loads"], ["--waive", "nonsense", *WAIVE[2:]], ["--reason", "no name is given here"]]
)
def test_a_waiver_without_name_or_reason_is_refused_before_any_check(
    runbook: Command, rolled_back: RunFolder, waive: list[str]
) -> None:
    before = rolled_back.journal_path.read_bytes()

    code, _, _ = runbook("check", rolled_back.path, *waive)

    assert (code, rolled_back.journal_path.read_bytes()) == (2, before)
