"""`runbook run` and `runbook service-back`: exit codes, and how a run that stopped ends."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from runbook_lib.errors import UnknownOutcome
from runbook_lib.headless import conductor
from runbook_lib.journal import Journal
from runbook_lib.journal.folder import RunFolder
from runbook_lib.run import lifecycle
from runbook_lib.run.lifecycle import Outcome

from ...support.commands import Command, raising, words
from ...support.places import PLAN, TARGET


@pytest.mark.usefixtures("stack")
@pytest.mark.parametrize(
    ("status", "code"), [("verified", 0), ("declined", 1), ("failed", 3), ("unknown", 4), ("escalated", 4)]
)
@pytest.mark.parametrize("as_json", [False, True], ids=["text", "json"])
def test_a_run_exits_by_its_outcome(
    runbook: Command, folder: RunFolder, monkeypatch: pytest.MonkeyPatch, status: str, code: int, as_json: bool
) -> None:
    def carried_out(path: Path, *_: object) -> Outcome:
        Journal(folder.journal_path).append("outcome", status=status, exit_code=code, summary="it ended")
        return Outcome(status, "it ended")

    monkeypatch.setattr(conductor, "carry_out", carried_out)

    exit_code, out, _ = runbook("run", folder.path, *(["--json"] if as_json else []))

    assert exit_code == code
    assert json.loads(out)["outcome"]["status"] == status if as_json else "report.html" in out


@pytest.mark.usefixtures("stack")
def test_a_run_whose_plan_has_changed_since_is_not_resumed(
    runbook: Command, opened: Callable[..., RunFolder], tmp_path: Path
) -> None:
    plan = Path(shutil.copy(PLAN, tmp_path))
    folder = opened("frontend", plan)
    plan.write_text(plan.read_text() + "# another\n")

    code, _, err = runbook("run", folder.path)

    assert (code, "The plan has changed since this run began" in err) == (3, True)


@pytest.mark.usefixtures("stack")
def test_a_run_keeps_its_own_plan_and_target_in_any_folder(runbook: Command, tmp_path: Path) -> None:
    run = lifecycle.open_new(PLAN, TARGET, "full", outputs=tmp_path)
    for file in (PLAN, TARGET):
        (tmp_path / "parameters").mkdir(exist_ok=True)
        (tmp_path / "parameters" / file.name).write_text("name: another team's\n")

    assert runbook("service-back", run.folder.path)[0] == 0


# --- service back


@pytest.mark.usefixtures("stack")
def test_where_the_services_run_there_is_no_way_to_walk(runbook: Command, opened: Callable[[str], RunFolder]) -> None:
    code, out, _ = runbook("service-back", opened("full").path, "--json")

    told = json.loads(out)
    assert (code, told["moves"], told["done"]) == (0, [], [])


@pytest.mark.usefixtures("stack")
def test_a_way_is_walked_by_its_own_digest_only(runbook: Command, opened: Callable[[str], RunFolder]) -> None:
    folder = opened("full")
    journal = Journal(folder.journal_path)
    journal.append("started", step="stop-services", title="Stop the services")
    journal.append("applied", step="stop-services", seconds=1, outcome={})

    code, out, _ = runbook("service-back", folder.path)
    refused, _, err = runbook("service-back", folder.path, "--approve", "another")

    assert (code, "undo | Stop the services | 20 s" in out, "--approve " in out) == (0, True, True)
    assert (refused, "'another' was approved" in err) == (1, True)
    assert [e.kind for e in journal.events()][-1] == "applied"


# --- how a run that stopped ends


@pytest.fixture
def stopped(opened: Callable[[str], RunFolder], stack: None, monkeypatch: pytest.MonkeyPatch) -> Callable[..., RunFolder]:
    """A run in which steps were applied, and a command that then stops for a reason."""

    def make(*steps: str) -> RunFolder:
        folder = opened("full")
        journal = Journal(folder.journal_path)
        journal.append("approved", digest="d1", by="Dana")
        for step in steps:
            journal.append("started", step=step, title=step, action="apply")
            journal.append("applied", step=step, seconds=1, outcome={})

        def carried_out(path: Path, *_: object) -> Outcome:
            journal.append("notebook-started", notebook="03-full-rollback", output="x.ipynb")
            journal.append("stopped", cell="apply", exit_code=3, error="The disk is full.\n  Safe next: Make room.")
            return Outcome("failed", "The disk is full.")

        monkeypatch.setattr(conductor, "carry_out", carried_out)
        return folder

    return make


def joined(text: str) -> list[str]:
    """The lines of a text, each command on one."""
    return re.sub(r" \\\n +", " ", text).strip().splitlines()


def fails(folder: RunFolder, action: str, step: str, why: str) -> None:
    journal = Journal(folder.journal_path)
    journal.append("started", step=step, title=step, action=action)
    journal.append("failed", step=step, error=f"{why}\n  Safe next: look.", on_request=False)


def test_where_services_are_down_the_recovery_path_is_the_last_line(
    runbook: Command, stopped: Callable[..., RunFolder]
) -> None:
    folder = stopped("freeze", "stop-services")
    fails(folder, "apply", "clear-backfill", "It deadlocked.")

    code, _, err = runbook("run", folder.path)
    _, out, _ = runbook("run", folder.path, "--json")

    lines = joined(err)
    assert (code, lines[:2]) == (3, ["The disk is full.", "  Safe next: Make room."])
    assert lines[-1].startswith(f"runbook service-back {folder.path} --approve ")
    assert "undo Stop the services 20 s" in words(err)
    told = json.loads(out)
    assert (told["error"], told["next"], told["exit_code"]) == ("\n".join(lines[:2]), lines[-1], 3)


def test_without_a_recovery_path_it_says_what_a_person_must_do(runbook: Command, stopped: Callable[..., RunFolder]) -> None:
    folder = stopped("stop-services")
    fails(folder, "apply", "freeze", "No such host.")
    fails(folder, "undo", "stop-services", "It ends at once.")

    code, _, err = runbook("run", folder.path)

    said = words(err)
    assert "No recovery path is left: forward: “Freeze deploys, autoscalers and consumers” failed: No such host; " in said
    assert "back: undoing “Stop the services” failed: It ends at once." in said
    last = said.partition("A person must fix one of these causes by hand, then resume the run.")[2]
    assert (code, bool(last), "service-back" in last) == (3, True, False)


def test_where_the_services_run_the_command_that_resumes_is_the_last_line(
    runbook: Command, stopped: Callable[..., RunFolder]
) -> None:
    folder = stopped("freeze")

    _, _, err = runbook("run", folder.path)

    assert joined(err)[-2:] == [
        "All services run in an allowed combination.",
        f"runbook run {folder.path} --approve d1",
    ]


def test_a_run_that_changed_nothing_ends_with_the_reason(runbook: Command, stopped: Callable[..., RunFolder]) -> None:
    _, _, err = runbook("run", stopped().path)

    assert err.strip().splitlines()[-1] == "  Safe next: Make room."


def test_an_error_that_ends_a_resumed_run_shows_the_recovery_path_too(
    runbook: Command, stopped: Callable[..., RunFolder], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = stopped("freeze", "stop-services")
    monkeypatch.setattr(conductor, "carry_out", raising(UnknownOutcome("A prerequisite is unknown.")))

    code, _, err = runbook("run", folder.path)

    lines = joined(err)
    assert (code, lines[0]) == (4, "A prerequisite is unknown.")
    assert lines[-1].startswith(f"runbook service-back {folder.path} --approve ")


@pytest.mark.usefixtures("stack")
def test_a_run_that_was_undone_whole_is_planned_again_and_not_run_again(
    runbook: Command, opened: Callable[[str], RunFolder]
) -> None:
    folder = opened("full")
    journal = Journal(folder.journal_path)
    journal.append("chosen", name="STRATEGY", value="keyed", by="parameter")
    journal.append("started", step="freeze", title="Freeze", action="apply")
    journal.append("applied", step="freeze", seconds=1, outcome={})
    journal.append("undo-approved", digest="u1", steps=["freeze"], whole=True, by="Dana")
    journal.append("started", step="freeze", title="Freeze", action="undo")
    journal.append("undone", step="freeze", seconds=1, outcome={})

    code, _, err = runbook("run", folder.path, "--approve", "d1")

    assert (code, "This run was undone completely" in err) == (3, True)
    assert joined(err)[-1] == (
        f"runbook plan --plan {PLAN} --target {TARGET} --type full --option A --choose STRATEGY=keyed --operator Dana "
        "--reason 'no pictures' --incident INC-1"
    )
    assert [event.kind for event in journal.events()][-1] == "undone"


@pytest.mark.usefixtures("stack")
def test_the_stop_of_services_is_not_undone_behind_a_fence(runbook: Command, opened: Callable[[str], RunFolder]) -> None:
    folder = opened("full")
    journal = Journal(folder.journal_path)
    journal.append("chosen", name="OPTION", value="B", by="parameter")
    for step in ("stop-services", "fence-application"):
        journal.append("started", step=step, title=step, action="apply")
        journal.append("applied", step=step, seconds=1, outcome={})

    code, out, _ = runbook("undo", folder.path, "--step", "stop-services", "--json")

    assert (code, json.loads(out)["refused"]["stop-services"].split(";")[0]) == (3, "undo first fence-application")
