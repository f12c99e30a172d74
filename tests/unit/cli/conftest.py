"""A command line in this process, and runs for it."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from runbook_lib import cli
from runbook_lib.documents import digest
from runbook_lib.journal import Journal
from runbook_lib.journal.folder import RunFolder

from ...support.commands import Command, Said
from ...support.places import PLAN, TARGET


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
def opened(tmp_path: Path) -> Callable[..., RunFolder]:
    def make(type_name: str, plan: Path = PLAN) -> RunFolder:
        folder = RunFolder.create(tmp_path, "INC-1", type_name or "triage")
        Journal(folder.journal_path).append(
            "opened",
            plan="FEAT",
            plan_file=str(plan),
            plan_sha256=digest(plan),
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
