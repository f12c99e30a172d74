"""`runbook sheet`: from the journal alone; its SQL and commands are tried on a real stack elsewhere."""

import json
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from runbook_lib.journal import Journal
from runbook_lib.journal.folder import RunFolder
from runbook_lib.postgres.dump import DumpTools
from runbook_lib.steps.by_hand import in_psql, in_shell_at
from runbook_lib.system.processes import LocalProcesses

from ...support.commands import Command
from ...support.sheets import blocks

pytestmark = pytest.mark.usefixtures("stack")
SQL = {"kind": "sql", "text": "BEGIN;\nCOMMIT;", "expect": "COMMIT"}
SHELL = {"kind": "shell", "text": "echo '```' && true", "expect": "it ends with 0"}
WORDS = {"kind": "words", "text": "No script can do that.", "expect": ""}


def shown(step: str, *by_hand: dict[str, str], goes_first: bool = False) -> dict[str, object]:
    facts = {
        "would": ["do <it>"],
        "loses": ["a row"],
        "undone_by": "putting it back",
        "estimate": 7,
        "goes_first": goes_first,
    }
    return {"step": step, "title": f"Title of {step}", **facts, "by_hand": list(by_hand)}


@pytest.fixture
def planned(opened: Callable[[str], RunFolder]) -> RunFolder:
    """A run that was previewed, and is not approved."""
    folder = opened("full")
    steps = [shown("freeze", WORDS), shown("stop-services", SHELL), shown("back-up", goes_first=True)]
    shows = [*steps, shown("clear-backfill", SQL)]
    Journal(folder.journal_path).append(
        "previewed", digest="d1", steps={str(each["step"]): {} for each in shows}, shown=shows, psql="psql service=test"
    )
    return folder


def test_it_has_each_step_in_turn_with_a_box_and_what_is_expected(runbook: Command, planned: RunFolder) -> None:
    code, out, _ = runbook("sheet", planned.path)

    titles = [line for line in out.splitlines() if line.startswith("## ")]
    assert code == 0
    assert titles == [
        "## 1. Title of freeze",
        "## 2. Title of back-up",
        "## 3. Title of stop-services",
        "## 4. Title of clear-backfill",
        "## At the end",
    ]
    assert blocks(out) == [("sh", SHELL["text"]), ("sql", SQL["text"])]
    assert "- [ ] **3.1** Expect: it ends with 0." in out
    assert "- [ ] **1.1** No script can do that." in out
    assert "- [ ] The message thread loads (`thread-loads`)" in out
    assert "NOT APPROVED" in out


def test_it_goes_to_a_file_of_its_owners_and_as_json(runbook: Command, planned: RunFolder, tmp_path: Path) -> None:
    file = tmp_path / "new" / "sheet.md"
    code, out, _ = runbook("sheet", planned.path, "-o", file, "--json")

    told = json.loads(out)
    assert (code, told["file"], [step["name"] for step in told["steps"]][1]) == (0, str(file), "back-up")
    assert told["steps"][3]["instructions"] == [SQL]
    assert (blocks(file.read_text())[1], stat.S_IMODE(file.stat().st_mode)) == (("sql", SQL["text"]), 0o600)


def test_it_shows_what_is_done_already_and_what_was_in_the_way(runbook: Command, planned: RunFolder) -> None:
    journal = Journal(planned.journal_path)
    look = {"name": "disk", "title": "There is room", "summary": "3 MB are free", "evidence": {}}
    journal.append("checked", round="foreseen:d1", status="FAIL", **look)
    journal.append("started", step="stop-services", title="Stop them")
    journal.append("applied", step="stop-services", seconds=1.0, outcome={})
    runbook("journal", "add", planned.path, "--step", "freeze", "--done", "--note", "as it says", "--operator", "Kim")
    out = runbook("sheet", planned.path)[1]

    assert "- There is room: FAIL, 3 MB are free" in out
    assert "- [x] **3.1**" in out
    assert "**By hand, by Kim**" in out
    assert "- [ ] **1.1**" in out  # what a person says ticks no box


def test_a_run_without_such_a_preview_is_refused(runbook: Command, opened: Callable[[str], RunFolder]) -> None:
    folder = opened("full")
    first = runbook("sheet", folder.path)
    older = {"step": "freeze", "title": "Freeze", "would": []}
    Journal(folder.journal_path).append("previewed", digest="d0", steps={"freeze": {}}, shown=[older])
    second = runbook("sheet", folder.path)

    assert [(code, "no preview from which a sheet" in errors) for code, _, errors in (first, second)] == [(2, True)] * 2


def test_it_needs_nothing_of_the_targets_environment(
    runbook: Command, planned: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("REHEARSAL_ROOT")

    code, out, _ = runbook("sheet", planned.path)

    assert (code, "`psql service=test`" in out) == (0, True)


def test_secrets_are_named_and_never_shown(runbook: Command, planned: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP_API_TOKEN", "tok-5f2c9b7e1d4a8306")
    runbook("status", planned.path)
    runbook("sheet", planned.path)  # which registers what the environment names
    known = in_shell_at(None, ["curl", "--header", "X: Bearer tok-5f2c9b7e1d4a8306 it's"], expect="200")
    held_back = in_psql("ALTER ROLE app PASSWORD 'Zx9-hunter2-Qq81';", "ALTER ROLE")

    assert known.text == """curl --header 'X: Bearer '"$SHOP_API_TOKEN"' it'"'"'s'"""
    assert (held_back.kind, "hunter2" in held_back.text) == ("words", False)

    shows = [shown("freeze", vars(known) | {"kind": "shell"})]
    Journal(planned.journal_path).append("previewed", digest="d2", steps={"freeze": {}}, shown=shows, psql="psql")
    out = runbook("sheet", planned.path)[1]
    assert blocks(out) == [("sh", known.text)]
    assert "Set first: SHOP_API_TOKEN." in out


def test_the_commands_of_the_servers_tools_hold_nothing_back() -> None:
    tools = DumpTools(LocalProcesses(), "/usr/lib/postgresql/18/bin", "shop")
    commands = [
        tools.command_to_dump(Path("/b/now.dump")),
        tools.command_to_read(Path("/b/now.dump")),
        tools.command_to_restore(Path("/b/now.dump"), "restored", "--jobs=2"),
        tools.command_to_take_rows(Path("/b/now.dump"), "public", "orders", Path("/b/orders.sql")),
        tools.command_of_psql("postgres"),
    ]

    assert [in_shell_at(None, command, expect="0").kind for command in commands] == ["shell"] * len(commands)
