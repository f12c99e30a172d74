"""`--junit` on `rehearse`, `run` and `check`."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from junitparser import JUnitXml, TestSuite

from runbook_lib.documents import load_plan
from runbook_lib.errors import UnknownOutcome
from runbook_lib.headless import conductor
from runbook_lib.journal import Journal
from runbook_lib.journal.folder import RunFolder
from runbook_lib.rehearsal.rehearse import Line
from runbook_lib.run.lifecycle import Outcome

from ...support.commands import Command, raising
from ...support.places import PLAN


def suite_of(file: Path) -> TestSuite:
    (suite,) = JUnitXml.fromfile(str(file))
    return suite


@pytest.mark.usefixtures("stack")
def test_a_run_writes_its_steps(
    runbook: Command, folder: RunFolder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(conductor, "carry_out", lambda *_: Outcome("verified", "it ended"))
    runbook("run", folder.path, "--junit", tmp_path / "junit.xml")

    suite = suite_of(tmp_path / "junit.xml")
    assert suite.name == "rollback"
    assert {"revert-frontend", "build-frontend", "services-running", "outcome"} <= {case.name for case in suite}


@pytest.mark.usefixtures("stack")
def test_an_error_that_ends_a_run_is_its_outcome(
    runbook: Command, folder: RunFolder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(conductor, "carry_out", raising(UnknownOutcome("The kernel died.")))
    code, _, _ = runbook("run", folder.path, "--junit", tmp_path / "junit.xml")

    (outcome,) = [case for case in suite_of(tmp_path / "junit.xml") if case.name == "outcome"]
    assert (code, outcome.result[0].message) == (4, "The kernel died.")


@pytest.mark.usefixtures("stack")
def test_a_check_writes_what_it_found(runbook: Command, opened: Callable[[str], RunFolder], tmp_path: Path) -> None:
    folder = opened("frontend")
    code, _, _ = runbook("check", folder.path, "--junit", tmp_path / "junit.xml")

    suite = suite_of(tmp_path / "junit.xml")
    found = {event.data["name"] for event in Journal(folder.journal_path).events() if event.kind == "checked"}
    ended = {case.name for case in suite if case.classname == "rollback.check" and case.result}
    assert code != 0
    assert found & ended
    assert suite.failures + suite.errors > 0


@pytest.mark.parametrize("command", [["run"], ["check"]])
def test_a_run_that_is_not_there_is_one_error(runbook: Command, tmp_path: Path, command: list[str]) -> None:
    code, _, _ = runbook(*command, "nothing", "--junit", tmp_path / "junit.xml")

    (case,) = suite_of(tmp_path / "junit.xml")
    assert (code, case.name) == (2, "error")


def test_a_matrix_is_a_case_for_each_fault(runbook: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    own = {row.symptom: row.own for row in load_plan(PLAN).decision_matrix}
    passed = dict.fromkeys(own.values(), "PASS")
    lines = [Line(s, s, s, "full", passed | {check: "FAIL"}, passed, 1.0) for s, check in own.items()]
    lines[0] = replace(lines[0], named=lines[1].symptom)
    monkeypatch.setattr("runbook_lib.rehearsal.rehearse.matrix", lambda *_: lines)
    runbook("rehearse", "--matrix", "--junit", tmp_path / "junit.xml")

    suite = suite_of(tmp_path / "junit.xml")
    assert (suite.tests, suite.failures) == (len(lines) + 1, 1)
