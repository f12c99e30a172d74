"""Before and after, the time that was taken, and what people are told, by a run's journal."""

from typing import Any

import pandas as pd
import pytest

from runbook_lib.context import comparison
from runbook_lib.errors import AdapterError, ParametersError
from runbook_lib.run import Run
from runbook_lib.steps.clear_backfill import ClearBackfill
from runbook_lib.steps.remove_columns import RemoveColumns
from runbook_lib.ui import display, messages, review, triage_cells


def test_a_changed_cell_is_marked_by_a_sign_and_by_its_ground() -> None:
    data = pd.DataFrame({"kind": ["image", "own"], "before": [7, 3], "after": [0, 3]})

    shown = display.frame("Rows", data)

    assert "image | 7 | ≠ 0" in shown.text
    assert "own | 3 | 3" in shown.text
    assert shown.html.count("background:#fff8c5") == 1


def test_counts_are_compared_as_a_table_and_a_plot_that_are_kept(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    tables = {"Rows": pd.DataFrame({"kind": ["image"], "before": [7], "after": [0]})}
    monkeypatch.setattr(comparison, "tables", lambda context: tables)

    shown = review.compared(run)

    assert [(e["file"], e["kind"]) for e in run.state.evidence] == [
        ("evidence/table-1.json", "table"),
        ("evidence/rows.svg", "image"),
    ]
    assert "data:image/svg+xml;base64," in shown.html
    assert "chart: Rows before (outlined) and after (filled)" in shown.text


def test_the_timeline_holds_each_step_by_its_last_try(run: Run) -> None:
    for step in ("stop-services", "stop-services", "back-up"):
        run.journal.append("started", step=step, title=step)
        run.journal.append("applied", step=step, seconds=0.0, outcome={})

    assert [name for name, _, _ in review.taken(run.journal.events())] == ["stop-services", "back-up"]
    assert "within" in review.timeline(run).text
    assert [e["file"] for e in run.state.evidence] == ["evidence/timeline.svg"]


def test_a_run_without_steps_has_no_timeline(run: Run) -> None:
    assert review.timeline(run).text == "No step is done yet."


def test_the_teams_texts_name_the_target_the_operator_and_the_contacts(run: Run) -> None:
    start, end = messages.message(run, "start").text, messages.message(run, "end").text

    assert "ROLLBACK STARTS: Message replies and attachments" in start
    assert "Reason: no pictures." in start
    assert "By: Dana." in start
    assert "Database Admin" in start
    assert "ROLLBACK STILL OPEN" in end
    assert "Find the root cause." in end


def test_there_is_no_text_for_another_moment(run: Run) -> None:
    with pytest.raises(ParametersError, match="middle"):
        messages.message(run, "middle")


def test_a_postmortem_holds_the_timeline_the_debts_and_the_follow_ups(run: Run) -> None:
    run.journal.append("noted", text="The dump was slow")
    run.journal.append("owed", debt="old-column", step="clear-backfill", text="drop the old column")
    run.journal.append("cell-started", source="1/0")

    draft = messages.postmortem(run.context.plan, run.state, run.journal.events())

    assert [
        text
        for text in ("The dump was slow", "pending cleanup: drop the old column", "Find the root cause.", "opened:")
        if text not in draft
    ] == []
    assert "1/0" not in draft


def test_what_cannot_be_counted_is_said_not_guessed(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> Any:
        raise AdapterError("The database cannot be reached.")

    monkeypatch.setattr(ClearBackfill, "in_brief", broken)
    monkeypatch.setattr(RemoveColumns, "in_brief", broken)

    text = triage_cells.in_numbers(run, triage_cells.counted(run)).text

    assert "not counted: The database cannot be reached." in text
    assert [option for option in ("A | ", "B | ", "C | ") if option not in text] == []
