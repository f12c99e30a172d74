"""The command line: arguments, exit codes and what is printed."""

import hashlib
import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from runbook_lib import archive, cli, conductor
from runbook_lib.closing import Outcome
from runbook_lib.errors import Declined, JournalError, ParametersError, RunbookError, StepFailed, UnknownOutcome
from runbook_lib.folder import RunFolder
from runbook_lib.journal import Journal
from runbook_lib.plan import load_plan
from runbook_lib.rehearsal.matrix import Line
from runbook_lib.results import Result, Status
from runbook_lib.run import Run

ROOT = Path(__file__).parents[2]
PLAN = ROOT / "parameters" / "feat-2025-20251103111429.yaml"
TARGET = ROOT / "parameters" / "rehearsal.yaml"
PLANNED = ["plan", "--plan", str(PLAN), "--target", str(TARGET)]

Said = tuple[int, str, str]
Command = Callable[..., Said]


@pytest.fixture
def runbook(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Command:
    """Run a command in an empty directory; gives exit code, output and errors."""

    def command(*arguments: str | Path) -> Said:
        monkeypatch.setattr(sys, "argv", ["runbook", *map(str, arguments)])
        monkeypatch.chdir(tmp_path)
        code = 0
        try:
            cli.main()
        except SystemExit as ended:
            code = int(ended.code or 0)
        said = capsys.readouterr()
        return code, said.out, said.err

    return command


@pytest.fixture(autouse=True)
def _without_a_stack(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ROOT", "BACKEND_URL", "FRONTEND_URL", "API_TOKEN", "PG_BIN", "PYTHON"):
        monkeypatch.delenv(f"REHEARSAL_{name}", raising=False)


@pytest.fixture
def stack(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The variables of a stack that is not there."""
    for name in ("BACKEND_URL", "FRONTEND_URL", "PG_BIN", "PYTHON"):
        monkeypatch.setenv(f"REHEARSAL_{name}", "http://localhost:1")
    monkeypatch.setenv("REHEARSAL_ROOT", str(tmp_path))
    monkeypatch.setenv("REHEARSAL_APPLICATION_ROLE", "application")
    monkeypatch.setenv("REHEARSAL_API_TOKEN", "cli-bearer-token")


@pytest.fixture
def opened(tmp_path: Path) -> Callable[[str], RunFolder]:
    def make(type_name: str) -> RunFolder:
        folder = RunFolder.create(tmp_path, "INC-1", type_name or "triage")
        Journal(folder.journal_path).append(
            "opened",
            plan="FEAT",
            plan_file=str(PLAN),
            plan_sha256=hashlib.sha256(PLAN.read_bytes()).hexdigest(),
            target="rehearsal",
            target_file=str(TARGET),
            environment="rehearsal",
            type=type_name,
            option="A",
            operator="Dana",
            reason="no pictures",
            incident="INC-1",
        )
        return folder

    return make


@pytest.fixture
def folder(opened: Callable[[str], RunFolder]) -> RunFolder:
    made = opened("frontend")
    journal = Journal(made.journal_path)
    journal.append("started", step="revert-frontend", title="Take it back")
    journal.append("applied", step="revert-frontend", seconds=1.5, outcome={"reverted": 2})
    journal.append("started", step="build-frontend", title="Build")
    return made


# --- arguments


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["status"],
        ["run"],
        ["plan"],
        ["plan", "--plan", "x.yaml"],
        ["status", "x", "--nonsense"],
        ["rehearse", "--rows", "many"],
        ["rehearse", "--rows", "1"],
    ],
    ids=" ".join,
)
def test_bad_arguments_exit_with_2_and_say_what_is_wrong(runbook: Command, arguments: list[str]) -> None:
    code, out, err = runbook(*arguments)

    assert (code, out, "Usage:" in err) == (2, "", True)


@pytest.mark.parametrize("command", ["", "rehearse", "plan", "run", "check", "status", "verify"])
def test_every_command_explains_itself(runbook: Command, command: str) -> None:
    code, out, _ = runbook(*command.split(), "--help")

    assert (code, "Usage:" in out) == (0, True)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["rehearse", "--scenario", "nonsense"], "Name one of: all, frontend-errors"),
        (["plan", "--plan", "gone.yaml", "--target", "x.yaml", "--type", "full"], "There is no file gone.yaml"),
        (["plan", "--plan", str(PLAN), "--target", "gone.yaml", "--type", "full"], "There is no file gone.yaml"),
        ([*PLANNED, "--type", "full"], "The environment has no REHEARSAL_"),
        (["status", "gone"], "gone is no run folder"),
        (["run", "gone"], "gone is no run folder"),
    ],
    ids=["scenario", "plan file", "target file", "environment", "status of no run", "run of no run"],
)
def test_a_wrong_parameter_exits_with_2_and_the_remedy(runbook: Command, arguments: list[str], said: str) -> None:
    code, out, err = runbook(*arguments)

    assert (code, out, said in err, "Safe next:" in err, "Traceback" in err) == (2, "", True, True, False)


@pytest.mark.usefixtures("stack")
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--type", "nonsense"], "Choose one of: frontend, full"),
        (["--type", "restore"], "no option 'A'"),
        (["--type", "full", "--option", "Z"], "option"),
    ],
    ids=["type", "option of another type", "option"],
)
def test_a_choice_that_the_plan_does_not_offer_makes_no_run(
    runbook: Command, tmp_path: Path, arguments: list[str], said: str
) -> None:
    code, _, err = runbook(*PLANNED, *arguments)

    assert (code, said in err, list(tmp_path.glob("outputs/*"))) == (2, True, [])


@pytest.mark.usefixtures("stack")
def test_a_run_whose_type_was_never_chosen_cannot_be_carried_out(
    runbook: Command, opened: Callable[[str], RunFolder]
) -> None:
    code, _, err = runbook("run", opened("").path)

    assert (code, "Safe next:" in err) == (2, True)


# --- errors


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ParametersError("It is wrong.", safe_next="Mend it."), 2),
        (Declined("It was declined."), 1),
        (StepFailed("It failed."), 3),
        (JournalError("It is broken."), 3),
        (UnknownOutcome("It is unknown."), 4),
    ],
    ids=lambda value: type(value).__name__,
)
def test_an_error_is_a_message_and_an_exit_code(
    runbook: Command, monkeypatch: pytest.MonkeyPatch, error: RunbookError, code: int
) -> None:
    monkeypatch.setattr("runbook_lib.opening.read", raising(error))

    assert runbook("status", "x") == (code, "", f"{error}\n")
    exit_code, out, err = runbook("status", "x", "--json")
    assert (exit_code, json.loads(out), err) == (code, {"error": str(error), "exit_code": code}, "")


def test_a_usage_error_is_json_where_json_was_asked_for(runbook: Command) -> None:
    code, out, _ = runbook("status", "--json")

    assert (code, json.loads(out or "{}").get("exit_code")) == (2, 2)


def test_an_interrupt_exits_with_4_and_says_how_to_go_on(runbook: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runbook_lib.opening.read", raising(KeyboardInterrupt()))

    code, _, err = runbook("status", "x")

    assert (code, "the same command goes on" in err) == (4, True)


def test_a_secret_in_an_error_is_not_printed(runbook: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runbook_lib.opening.read", raising(StepFailed("postgres://me:hunter22@db failed")))

    assert "hunter22" not in "".join(map(str, runbook("status", "x")))
    assert "hunter22" not in "".join(map(str, runbook("status", "x", "--json")))


def raising(error: BaseException) -> Callable[..., Any]:
    def fail(*_: object) -> None:
        raise error

    return fail


# --- run


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
def test_a_run_whose_plan_has_changed_since_is_not_gone_on_with(
    runbook: Command, opened: Callable[[str], RunFolder], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runbook_lib.opening._sha256", lambda path: "another")

    code, _, err = runbook("run", opened("frontend").path)

    assert (code, "The plan has changed since this run began" in err) == (3, True)


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


# --- status and verify, which need no target


def test_status_needs_the_journal_alone(runbook: Command, folder: RunFolder) -> None:
    code, out, _ = runbook("status", folder.path)

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

    assert (code, "not chosen yet" in out) == (0, True)


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
    assert "nowhere is no folder" in said


def test_verify_tells_a_sealed_run_from_a_changed_one(runbook: Command, folder: RunFolder) -> None:
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
def test_check_judges_a_run_anew(runbook: Command, rolled_back: RunFolder, waive: list[str], code: int, status: str) -> None:
    said = runbook("check", rolled_back.path, *waive, "--json")

    assert (said[0], json.loads(said[1])["outcome"]["status"]) == (code, status)


def test_a_waived_check_stands_on_the_first_screen_and_is_nowhere_called_passed(
    runbook: Command, rolled_back: RunFolder
) -> None:
    _, out, _ = runbook("check", rolled_back.path, *WAIVE)

    assert "WAIVED (FAIL)" in out
    report = (rolled_back.path / "report.html").read_text()
    header = report[report.index("<header") : report.index("</header>")]
    assert ["VERIFIED IN PART" in header, "with 1 waiver" in header, "the probe itself is broken" in header] == [True] * 3


@pytest.mark.parametrize(
    "waive", [["--waive", "thread-loads"], ["--waive", "nonsense", *WAIVE[2:]], ["--reason", "no name is given here"]]
)
def test_a_waiver_without_name_or_reason_is_refused_before_anything_is_looked_at(
    runbook: Command, rolled_back: RunFolder, waive: list[str]
) -> None:
    before = rolled_back.journal_path.read_bytes()

    code, _, _ = runbook("check", rolled_back.path, *waive)

    assert (code, rolled_back.journal_path.read_bytes()) == (2, before)


# --- the matrix


def test_the_matrix_fails_where_a_fault_is_not_told_by_its_own_check_alone(
    runbook: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = load_plan(PLAN)
    own = {row.symptom: row.own for row in plan.decision_matrix}
    passed = dict.fromkeys(own.values(), "PASS")
    lines = [Line(s, s, s, "full", passed | {check: "FAIL"}, passed, 1.0) for s, check in own.items()]
    monkeypatch.setattr("runbook_lib.rehearsal.matrix.matrix", lambda rows, tell: lines)
    assert runbook("rehearse", "--matrix")[0] == 0

    lines[0] = replace(lines[0], before=passed | {own[lines[0].symptom]: "FAIL", own[lines[1].symptom]: "FAIL"})
    lines[2] = replace(lines[2], named=lines[3].symptom)
    lines[4] = replace(lines[4], after=passed | {own[lines[4].symptom]: "UNKNOWN"})
    code, out, _ = runbook("rehearse", "--matrix")

    assert (code, len(out.splitlines()[-3:]), out.count(" was FAIL then ")) == (3, 3, 2)
    assert f"{lines[2].fault}: triage named {lines[3].symptom}" in out
