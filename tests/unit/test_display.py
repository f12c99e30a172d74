"""What is shown, as HTML and as text."""

import re
from collections.abc import Callable
from dataclasses import replace
from html import unescape
from typing import Any

import pandas as pd
import pytest

from runbook_lib.config.plan import MatrixRow, Monitor
from runbook_lib.results import Result, Status
from runbook_lib.run import Run
from runbook_lib.run.engine import Done
from runbook_lib.run.lifecycle import Outcome
from runbook_lib.steps import Preview
from runbook_lib.triage.decision_matrix import Sample, Verdict, Watch, diagnose, recommend
from runbook_lib.ui import display
from runbook_lib.ui.display import Shown

EVIL = '<img src=x onerror="alert(1)">'
PREVIEW = Preview("stop", "Stop", ["stop backend", "stop worker"], ["3 rows"], "row locks", "starting", 20)
DONE = Done("stop", "Stop", "done", 1.26, 20, {"rows": 3, "stopped": ["a", "b"]}, [])


def result(status: Status = Status.PASS, said: str = "4 items") -> Result:
    return Result("api", "The API answers", status, said)


def words(html: str) -> str:
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", html)).split())


def status(run: Run) -> Shown:
    return display.status(run.folder, run.context.plan, run.state, run.journal.events(), verbose=True)


ROW = MatrixRow(
    symptom="Performance issues",
    severity="medium",
    action="monitor",
    type="database",
    failing=["api"],
    monitor=Monitor(every=5, lasts=60, failures=2),
)
SAMPLES = [Sample(1.0, Status.PASS, "p95 20 ms", 20.0), Sample(6.0, Status.FAIL, "p95 400 ms", 400.0)]
assert ROW.monitor
WATCH = Watch(ROW, ROW.monitor, SAMPLES, 250.0, Verdict("database", "twice"))

SHOWN: list[Any] = [
    pytest.param(lambda run: display.line("TYPE = full (operator)"), ["TYPE = full (operator)"], id="line"),
    pytest.param(
        lambda run: display.banner(run.folder, run.context.plan, run.state),
        ["FEAT-2025", "Target rehearsal (REHEARSAL)", "INC-1", "by Dana", "no pictures", "0 of 13 steps done"],
        id="banner",
    ),
    pytest.param(
        status,
        ["pending", "Stop the services", "STILL OPEN", "What happened?", "runbook run"],
        id="status",
    ),
    pytest.param(
        lambda run: display.results([result(), result(Status.FAIL, "lost")], "After"),
        ["After: 1 of 2 PASS", "✔ PASS", "✘ FAIL", "The API answers", "4 items", "lost"],
        id="results",
    ),
    pytest.param(
        lambda run: display.previews("d1", [PREVIEW]),
        ["Preview d1", "nothing was changed", "stop worker", "3 rows", "row locks", "starting", "20 s"],
        id="previews",
    ),
    pytest.param(
        lambda run: display.previews("d1", [PREVIEW], [result(Status.UNKNOWN, "no right to make databases")]),
        ["Preview d1", "Tried on a clone: 0 of 1 PASS", "? UNKNOWN", "no right to make databases"],
        id="previews tried on a clone",
    ),
    pytest.param(
        lambda run: display.done(DONE), ["Stop: done (1.3 s, planned 20 s)", "rows: 3", "stopped: a, b"], id="done"
    ),
    pytest.param(
        lambda run: display.recommendation(recommend(run.context.plan, []), run.context.plan),
        ["Frontend errors", "? unknown", "critical", "Recommended: nothing."],
        id="recommendation",
    ),
    pytest.param(
        lambda run: display.diagnoses(run.context.plan, diagnose(run.context.plan, [])),
        ["Database restore fails", "? unknown", "connections are open", "end-sessions"],
        id="diagnoses",
    ),
    pytest.param(
        lambda run: display.watch(WATCH),
        ["“Performance issues”, round 2; every 5 s for 60 s", "✘ FAIL", "p95 400 ms", "Recommended: database. twice"],
        id="watch",
    ),
    pytest.param(
        lambda run: display.outcome(Outcome("verified", "all done"), run.state), ["VERIFIED: all done"], id="outcome"
    ),
    pytest.param(
        lambda run: display.frame("Rows", pd.DataFrame({"id": [7], "kind": ["image"]})),
        ["Rows", "id", "kind", "7", "image"],
        id="frame",
    ),
    pytest.param(
        lambda run: display.side_by_side(display.line("one"), display.line("two")), ["one", "two"], id="one below another"
    ),
]


@pytest.mark.parametrize(("make", "facts"), SHOWN)
def test_text_and_html_hold_the_same_facts(run: Run, make: Callable[[Run], Shown], facts: list[str]) -> None:
    shown = make(run)
    bundle = shown._repr_mimebundle_()

    assert [fact for fact in facts if fact not in words(bundle["text/html"])] == []
    assert [fact for fact in facts if fact not in " ".join(bundle["text/plain"].split())] == []


@pytest.mark.parametrize(("make", "facts"), SHOWN)
def test_html_needs_nothing_that_an_untrusted_archive_drops(
    run: Run, make: Callable[[Run], Shown], facts: list[str]
) -> None:
    assert re.findall(r"<style|<script|<svg|\bclass=|\bid=|https?://", make(run).html) == []


@pytest.mark.parametrize(
    "make",
    [
        lambda run: display.line(EVIL),
        lambda run: display.table(EVIL, [EVIL], [[EVIL, EVIL]]),
        lambda run: display.results([result(said=EVIL)], EVIL),
        lambda run: display.previews("d1", [Preview("s", EVIL, [EVIL], [EVIL], EVIL, EVIL)]),
        lambda run: display.done(Done("s", EVIL, EVIL, 1, 1, {"x": EVIL}, [result(said=EVIL)])),
        lambda run: display.outcome(Outcome("failed", EVIL), run.state),
        lambda run: display.frame(EVIL, pd.DataFrame({EVIL: [EVIL]})),
    ],
    ids=["line", "table", "results", "previews", "done", "outcome", "frame"],
)
def test_what_comes_from_outside_is_escaped(run: Run, make: Callable[[Run], Shown]) -> None:
    shown = make(run)

    assert ("<img" in shown.html, EVIL in words(shown.html), EVIL in shown.text) == (False, True, True)


def test_a_banner_escapes_what_people_typed_and_shows_waivers(run: Run) -> None:
    run.waive("disk", f"there is room {EVIL}")

    shown = display.banner(run.folder, run.context.plan, run.state)

    assert "<img" not in shown.html
    assert "WAIVED by Dana: disk: there is room" in shown.text


@pytest.mark.parametrize("status", Status)
def test_a_status_is_a_symbol_and_a_word_not_a_colour_alone(status: Status) -> None:
    shown = display.results([result(status)], "After")

    assert f"{display.SYMBOLS[status]} {status}" in words(shown.html)
    assert len(set(display.SYMBOLS.values())) == len(Status)


@pytest.mark.parametrize("status", [Status.FAIL, Status.UNKNOWN])
def test_what_is_waived_says_so_and_does_not_count_as_passed(status: Status) -> None:
    found = [result(status)]

    shown = display.results(found, "After", {found[0].name})

    assert "After: 0 of 1 PASS" in shown.text
    assert f"WAIVED ({status})" in shown.text


def test_a_check_that_passed_is_not_called_waived() -> None:
    found = [result(Status.PASS)]

    assert "WAIVED" not in display.results(found, "After", {found[0].name}).text


def test_an_unknown_result_is_not_counted_as_passed() -> None:
    assert "After: 0 of 1 PASS" in display.results([result(Status.UNKNOWN)], "After").text


@pytest.mark.parametrize("nothing", [None, float("nan"), pd.NA, pd.NaT], ids=["None", "NaN", "NA", "NaT"])
def test_what_is_missing_in_a_frame_stays_empty(nothing: Any) -> None:
    shown = display.frame("Rows", pd.DataFrame({"id": [1, 2], "note": ["x", nothing]}))

    assert shown.text.splitlines() == ["Rows", "  id | note", "  1 | x", "  2 | "]
    assert re.search(r"<td[^>]*></td>", shown.html)


def test_numbers_next_to_missing_ones_stay_whole() -> None:
    shown = display.frame("Rows", pd.DataFrame({"reply": pd.array([41, None], dtype="Int64")}))

    assert shown.text.splitlines()[2:] == ["  41", "  "]


def test_a_value_of_several_lines_stays_one_row_of_text() -> None:
    shown = display.table("T", ["a", "b"], [["one\ntwo", "three"]])

    assert ("one<br>two" in shown.html, shown.text.splitlines()[-1]) == (True, "  one; two | three")


ACTED: dict[str, dict[str, Any]] = {
    "started": {"title": "Stop"},
    "applied": {"seconds": 1.0, "outcome": {}},
    "failed": {"error": "it broke"},
}


@pytest.mark.parametrize(
    ("events", "said"),
    [
        ([], "0 of 13 steps done"),
        (["started", "applied"], "1 of 13 steps done"),
        (["started"], "0 of 13 steps done, outcome unknown: stop-services"),
        (["started", "failed"], "0 of 13 steps done"),
    ],
)
def test_progress(run: Run, events: list[str], said: str) -> None:
    for kind in events:
        run.journal.append(kind, step="stop-services", **ACTED[kind])

    assert display.progress(run.context.plan, run.state) == said


def test_status_says_that_an_outcome_is_unknown(run: Run) -> None:
    run.journal.append("started", step="stop-services", title="Stop")

    assert "outcome unknown | Stop the services" in status(run).text


def test_status_shows_the_error_of_a_failed_step(run: Run) -> None:
    run.journal.append("started", step="stop-services", title="Stop")
    run.journal.append("failed", step="stop-services", error="the manager is gone")

    assert "failed | Stop the services |  | the manager is gone" in status(run).text


def test_an_outcome_lists_its_waivers_and_pending_cleanup_first(run: Run) -> None:
    run.waive("disk", "there is room enough")
    run.journal.append("owed", debt="fence", step="fence-application", text="let it in again")

    shown = display.outcome(Outcome("verified", "all done"), run.state)

    assert shown.text.splitlines() == [
        "Waived: disk: there is room enough",
        "VERIFIED: all done",
        "PENDING CLEANUP: fence: let it in again",
    ]


def test_pictures_of_a_round_are_in_the_html_itself(run: Run) -> None:
    for file in ("evidence/page-7-after.png", "evidence/page-7-before.png"):
        run.folder.write_image(file, b"png")
        run.journal.append("evidence", title="Page", file=file, kind="image")

    shown = display.pictures(run.folder, run.state, "after")

    assert shown.text == "screenshot evidence/page-7-after.png"
    assert re.findall(r'src="([^"]+)"', shown.html) == ["data:image/png;base64,cG5n"]


def test_a_type_is_shown_with_the_one_that_replaces_it_and_why(run: Run) -> None:
    plan = run.context.plan
    failing = [
        Result(row.own, row.own, Status.FAIL, "seen") for row in plan.decision_matrix if row.type == "backend-and-database"
    ]

    shown = display.recommendation(recommend(plan, failing), plan)

    assert f"backend-and-database, executed as full: {plan.types['backend-and-database'].because}" in shown.text


def test_a_statement_with_parameters_is_not_taken_for_a_formula() -> None:
    html = display.table("Slow", ["statement"], [["VALUES ($2,$1)"]]).html

    assert re.sub(r"<code[^>]*>\$</code>", "", html).count("$") == 0
    assert re.sub(r"</?code[^>]*>", "", html).count("($2,$1)") == 1


def test_what_only_a_later_step_reads_is_not_shown() -> None:
    outcome = {"running": {"a": "1"}, "logs": {"a": {"/var/log/a_b.log": {"size": 9}}}}
    assert display.done(replace(DONE, outcome=outcome)).text.endswith("planned 20 s): running: (a: 1)")
