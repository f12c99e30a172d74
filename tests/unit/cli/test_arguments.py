"""The command line: its arguments and its errors."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from runbook_lib.documents import load_plan
from runbook_lib.errors import Declined, JournalError, ParametersError, RunbookError, StepFailed, UnknownOutcome
from runbook_lib.journal.folder import RunFolder
from runbook_lib.rehearsal.rehearse import Line

from ...support.commands import Command, raising, words
from ...support.places import PLAN, TARGET

PLANNED = ["plan", "--plan", str(PLAN), "--target", str(TARGET)]


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
def test_a_run_whose_type_was_never_chosen_cannot_be_executed(runbook: Command, opened: Callable[[str], RunFolder]) -> None:
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
    monkeypatch.setattr("runbook_lib.run.lifecycle.read", raising(error))

    assert runbook("status", "x") == (code, "", f"{error}\n")
    exit_code, out, err = runbook("status", "x", "--json")
    assert (exit_code, json.loads(out), err) == (code, {"error": str(error), "exit_code": code}, "")


def test_a_usage_error_is_json_where_json_was_asked_for(runbook: Command) -> None:
    code, out, _ = runbook("status", "--json")

    assert (code, json.loads(out or "{}").get("exit_code")) == (2, 2)


def test_an_interrupt_exits_with_4_and_says_how_to_resume(runbook: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runbook_lib.run.lifecycle.read", raising(KeyboardInterrupt()))

    code, _, err = runbook("status", "x")

    assert (code, "Repeat the command to resume." in err) == (4, True)


def test_a_secret_in_an_error_is_not_printed(runbook: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runbook_lib.run.lifecycle.read", raising(StepFailed("postgres://me:hunter22@db failed")))

    assert "hunter22" not in "".join(map(str, runbook("status", "x")))
    assert "hunter22" not in "".join(map(str, runbook("status", "x", "--json")))


# --- the matrix


def test_the_matrix_fails_where_a_fault_does_not_fail_its_own_check_alone(
    runbook: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = load_plan(PLAN)
    own = {row.symptom: row.own for row in plan.decision_matrix}
    passed = dict.fromkeys(own.values(), "PASS")
    lines = [Line(s, s, s, "full", passed | {check: "FAIL"}, passed, 1.0) for s, check in own.items()]
    monkeypatch.setattr("runbook_lib.rehearsal.rehearse.matrix", lambda rows, report, stack_name: lines)
    assert runbook("rehearse", "--matrix")[0] == 0

    lines[0] = replace(lines[0], before=passed | {own[lines[0].symptom]: "FAIL", own[lines[1].symptom]: "FAIL"})
    lines[2] = replace(lines[2], named=lines[3].symptom)
    lines[4] = replace(lines[4], after=passed | {own[lines[4].symptom]: "UNKNOWN"})
    code, out, _ = runbook("rehearse", "--matrix")

    assert (code, len(out.splitlines()[-3:]), out.count(" was FAIL then ")) == (3, 3, 2)
    assert f"{lines[2].fault}: triage named {lines[3].symptom}" in out


@pytest.mark.parametrize(
    "options",
    [["--before", "a.sql"], ["--migration", "a.sql"], ["--use", "a.sql"], ["--keep", "dbname=a"], ["--option", "A"]],
)
def test_a_rehearsal_of_a_migration_needs_before_and_migration(runbook: Command, options: list[str]) -> None:
    code, _, error = runbook("rehearse", *options)

    assert code == 2
    assert "Name both --before and --migration" in words(error)


def test_a_rehearsal_of_a_migration_needs_files_that_are_there(runbook: Command) -> None:
    code, _, error = runbook("rehearse", "--before", "nothing.sql", "--migration", "nothing.sql")

    assert code == 2
    assert "There is no file nothing.sql" in error


def test_a_rehearsal_of_a_migration_has_two_options(runbook: Command, tmp_path: Path) -> None:
    (tmp_path / "a.sql").touch()
    files = ["--before", str(tmp_path / "a.sql"), "--migration", str(tmp_path / "a.sql")]
    code, _, error = runbook("rehearse", *files, "--option", "from-backup")

    assert code == 2
    assert "A (data-only), B (data-and-schema)" in error
