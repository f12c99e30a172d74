"""The progress that a run reports while it works."""

import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from runbook_lib.journal import Journal
from runbook_lib.journal.event import read
from runbook_lib.ui.progress import followed, to_console

CHECKED = {"name": "api", "title": "The API answers", "status": "PASS", "round": "after", "summary": "4 items"}
STARTED = {"step": "stop", "title": "Stop"}
ENDED: dict[str, Any] = {"step": "stop", "seconds": 1.26, "outcome": {}}


@pytest.mark.parametrize(
    ("kind", "data", "line"),
    [
        ("notebook-started", {"notebook": "03-full-rollback", "output": "03.ipynb"}, "notebook 03-full-rollback"),
        ("recommended", {"type": "full", "reason": "all gone"}, "triage recommends full: all gone"),
        ("recommended", {"type": "", "reason": "none found"}, "triage recommends nothing: none found"),
        ("chosen", {"name": "TYPE", "value": "full", "by": "operator"}, "TYPE = full (operator)"),
        ("checked", CHECKED, "PASS    The API answers: 4 items"),
        ("checked", CHECKED | {"round": "before"}, ""),
        ("checked", CHECKED | {"round": "before", "status": "FAIL"}, "FAIL    The API answers: 4 items"),
        ("checked", CHECKED | {"round": "step:x", "status": "UNKNOWN"}, "UNKNOWN The API answers: 4 items"),
        ("previewed", {"steps": {"a": {}, "b": {}}, "digest": "d1"}, "previewed 2 steps: d1"),
        ("approved", {"digest": "d1", "by": "Dana"}, "approved d1 by Dana"),
        ("started", STARTED, "Stop …"),
        ("found", {"step": "stop", "title": "Stop", "outcome": {"found": "none runs"}}, "Stop: none runs"),
        ("applied", ENDED, "  applied in 1.3 s"),
        ("undone", ENDED, "  undone in 1.3 s"),
        ("failed", {"step": "stop", "error": "no answer"}, "  FAILED: no answer"),
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


def test_a_follower_reports_added_lines_and_no_older_ones(tmp_path: Path) -> None:
    journal, told = Journal(tmp_path / "journal.jsonl"), list[str]()
    journal.append("started", step="before", title="Before")

    with followed(journal.path, told.append):
        journal.append("started", **STARTED)
        journal.append("noted", text="hello")
        journal.append("applied", **ENDED | {"seconds": 1.0})

    assert told == ["Stop …", "  applied in 1.0 s"]


def test_half_a_line_is_reported_once_it_is_complete(tmp_path: Path) -> None:
    path, told = tmp_path / "journal.jsonl", list[str]()
    path.touch()
    line = json.dumps({"kind": "started", "data": STARTED}) + "\n"

    with followed(path, told.append), open(path, "a", encoding="utf-8") as file:
        for part in (line[:20], line[20:]):
            file.write(part)
            file.flush()

    assert told == ["Stop …"]


@pytest.mark.parametrize("line", ["PASS    The API answers: [4] items", "  applied in 1.0 s", "VERIFIED: all done"])
def test_elsewhere_than_on_a_terminal_a_line_stays_as_it_is(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    to_console(Console())(line)

    assert capsys.readouterr().out == f"{line}\n"
