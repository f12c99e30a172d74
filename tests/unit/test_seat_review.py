"""Before and after, the time that was taken, and what people are told, by a run's journal."""

import zlib
from typing import Any

import pandas as pd
import pytest

from runbook_lib import charts, comparison, display
from runbook_lib.errors import AdapterError, ParametersError
from runbook_lib.run import Run
from runbook_lib.seat import options, reviewing, telling


def pixels(png: bytes) -> set[bytes]:
    """The colours that occur in a PNG as `plots.png` writes it."""
    width = int.from_bytes(png[16:20], "big")
    raw = zlib.decompress(png[png.index(b"IDAT") + 4 : png.index(b"IEND") - 8])
    rows = [raw[n * (width * 3 + 1) + 1 : (n + 1) * (width * 3 + 1)] for n in range(len(raw) // (width * 3 + 1))]
    return {row[n : n + 3] for row in rows for n in range(0, width * 3, 3)}


def test_a_changed_cell_is_marked_by_a_sign_and_by_its_ground() -> None:
    data = pd.DataFrame({"kind": ["image", "own"], "before": [7, 3], "after": [0, 3]})

    shown = display.frame("Rows", data)

    assert "image | 7 | ≠ 0" in shown.text
    assert "own | 3 | 3" in shown.text
    assert shown.html.count("background:#fff8c5") == 1


def test_counts_are_compared_as_a_table_and_a_plot_that_are_kept(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    tables = {"Rows": pd.DataFrame({"kind": ["image"], "before": [7], "after": [0]})}
    monkeypatch.setattr(comparison, "tables", lambda context: tables)

    shown = reviewing.compared(run)

    assert [(e["file"], e["kind"]) for e in run.state.evidence] == [
        ("evidence/table-1.json", "table"),
        ("evidence/rows.png", "image"),
    ]
    assert "data:image/png;base64," in shown.html
    assert "plot: Rows before (outlined) and after (filled)" in shown.text


@pytest.mark.parametrize(("took", "red"), [(5.0, False), (25.0, True)])
def test_only_what_is_over_its_budget_is_red(took: float, red: bool) -> None:
    assert (bytes(charts.LIMIT) in pixels(charts.spans([(0.0, took, 10.0)]))) is red


@pytest.mark.parametrize("counts", [[], [(0.0, 0.0)], [(1e9, 0.0), (0.0, 1e9)]])
def test_any_counts_can_be_drawn(counts: list[tuple[float, float]]) -> None:
    assert charts.pairs(counts).startswith(b"\x89PNG")


def test_the_timeline_holds_each_step_by_its_last_try(run: Run) -> None:
    for step in ("stop-services", "stop-services", "back-up"):
        run.journal.append("started", step=step, title=step)
        run.journal.append("applied", step=step, seconds=0.0, outcome={})

    assert [name for name, _, _ in reviewing.taken(run.journal.events())] == ["stop-services", "back-up"]
    assert "within" in reviewing.timeline(run).text
    assert [e["file"] for e in run.state.evidence] == ["evidence/timeline.png"]


def test_a_run_without_steps_has_no_timeline(run: Run) -> None:
    assert reviewing.timeline(run).text == "No step has been done yet."


def test_the_teams_texts_name_the_target_the_operator_and_the_contacts(run: Run) -> None:
    start, end = telling.message(run, "start").text, telling.message(run, "end").text

    assert "ROLLBACK BEGINS: Message replies and attachments" in start
    assert "Reason: no pictures." in start
    assert "By: Dana." in start
    assert "Database Admin" in start
    assert "ROLLBACK STILL OPEN" in end
    assert "Find the root cause." in end


def test_there_is_no_text_for_another_moment(run: Run) -> None:
    with pytest.raises(ParametersError, match="middle"):
        telling.message(run, "middle")


def test_a_postmortem_holds_the_timeline_the_debts_and_the_follow_ups(run: Run) -> None:
    run.journal.append("noted", text="The dump was slow")
    run.journal.append("owed", debt="old-column", step="clear-backfill", text="drop the old column")
    run.journal.append("cell-started", source="1/0")

    draft = telling.postmortem(run.context.plan, run.state, run.journal.events())

    assert [
        text
        for text in ("The dump was slow", "owed: drop the old column", "Find the root cause.", "opened:")
        if text not in draft
    ] == []
    assert "1/0" not in draft


def test_what_cannot_be_counted_is_said_not_guessed(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> Any:
        raise AdapterError("The database cannot be reached.")

    monkeypatch.setattr(options, "_clearing", broken)
    monkeypatch.setattr(options, "_removing", broken)

    text = options.compared(run).text

    assert "not counted: The database cannot be reached." in text
    assert [option for option in ("A | ", "B | ", "C | ") if option not in text] == []
