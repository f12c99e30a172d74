"""What is reported of a run while it goes on."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from runbook_lib.journal import Journal
from runbook_lib.journal.event import read
from runbook_lib.ui.progress import followed, to_console

CHECKED = {"name": "api", "title": "The API answers", "round": "after", "summary": "4 items"}
STARTED = {"step": "stop", "title": "Stop"}
ENDED: dict[str, Any] = {"step": "stop", "seconds": 1.26, "outcome": {}}


@pytest.mark.parametrize(
    ("kind", "data", "line"),
    [
        ("notebook-started", {"notebook": "03-full-rollback", "output": "03.ipynb"}, "notebook 03-full-rollback"),
        ("recommended", {"type": "full", "reason": "all gone"}, "triage recommends full: all gone"),
        ("recommended", {"type": "", "reason": "none found"}, "triage recommends nothing: none found"),
        ("chosen", {"name": "TYPE", "value": "full", "by": "operator"}, "TYPE = full (operator)"),
        ("previewed", {"steps": {"a": {}, "b": {}}, "digest": "d1"}, "previewed 2 steps: d1"),
        ("approved", {"digest": "d1", "by": "Dana"}, "approved d1 by Dana"),
        (
            "escalated",
            {"from": "frontend", "to": "full", "because": "no media"},
            "escalated from frontend to full: no media",
        ),
        ("taken-over", {"before": "Ann on a", "reason": "she is ill", "by": "Bo"}, "TAKEN OVER from Ann on a: she is ill"),
        ("waived", {"name": "disk", "reason": "it is large", "by": "Bo"}, "WAIVED disk: it is large"),
        ("outcome", {"status": "verified", "summary": "all done"}, "VERIFIED: all done"),
        ("noted", {"text": "hello"}, ""),
        ("evidence", {"title": "x", "file": "x.png", "kind": "image"}, ""),
    ],
)
def test_milestones(kind: str, data: dict[str, Any], line: str) -> None:
    fact = read(kind, data)
    assert fact is not None
    assert fact.milestone() == line


def reported(path: Path, *events: tuple[str, dict[str, Any]]) -> list[str]:
    """What is reported of events, without the time that a step's line begins with."""
    journal, lines = Journal(path / "journal.jsonl"), list[str]()
    journal.append("started", step="earlier", title="Earlier")
    with followed(journal.path, lines.append):
        for kind, data in events:
            journal.append(kind, **data)
    return [re.sub(r"^\d\d:\d\d:\d\dZ +", "", line) for line in lines]


def test_a_step_is_one_line_once_it_ends(tmp_path: Path) -> None:
    lines = reported(
        tmp_path,
        ("started", STARTED),
        ("noted", {"text": "hello"}),
        ("applied", ENDED),
        ("started", STARTED | {"action": "undo"}),
        ("undone", ENDED),
        ("found", {"step": "stop", "title": "Stop", "outcome": {"found": "none runs"}}),
    )

    assert [line.split() for line in lines] == [
        ["stop", "done", "1.3", "s"],
        ["stop", "undone", "1.3", "s"],
        ["stop", "already", "done:", "none", "runs"],
    ]


def test_a_step_that_failed_is_reported_with_its_error(tmp_path: Path) -> None:
    (line,) = reported(tmp_path, ("started", STARTED), ("failed", {"step": "stop", "error": "no answer"}))

    assert line.split() == ["stop", "FAILED", "0.0", "s", "no", "answer"]


def test_final_checks_that_pass_are_one_line_and_each_other_has_its_own(tmp_path: Path) -> None:
    checks = [("checked", CHECKED | {"status": status}) for status in ("PASS", "FAIL", "PASS", "UNKNOWN")]
    before = ("checked", CHECKED | {"status": "FAIL", "round": "before"})

    lines = reported(tmp_path, before, *checks, ("outcome", {"status": "failed", "exit_code": 3, "summary": "a check"}))

    assert lines == [
        "FAIL    The API answers (api) before the first step: 4 items",
        "FAIL    The API answers (api): 4 items",
        "UNKNOWN The API answers (api): 4 items",
        "PASS    2 checks",
        "FAILED: a check",
    ]


def test_half_a_line_is_reported_once_it_is_whole(tmp_path: Path) -> None:
    path, lines = tmp_path / "journal.jsonl", list[str]()
    path.touch()
    line = json.dumps({"kind": "applied", "at": "2026-05-01T03:20:00+00:00", "data": ENDED}) + "\n"

    with followed(path, lines.append), open(path, "a", encoding="utf-8") as file:
        for part in (line[:20], line[20:]):
            file.write(part)
            file.flush()

    assert lines == ["03:20:00Z stop                 done    1.3 s"]


@pytest.mark.parametrize("line", ["FAIL    The API answers: [4] items", "  | a line", "VERIFIED: all done"])
def test_elsewhere_than_on_a_terminal_a_line_stays_as_it_is(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    to_console(Console())(line)

    assert capsys.readouterr().out == f"{line}\n"
