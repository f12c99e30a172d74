"""Text and tables for a terminal: at most 100 columns, commands that a shell still reads, secrets redacted before."""

import shlex
from pathlib import Path

import pytest

from runbook_lib.documents import load_plan
from runbook_lib.redaction import register
from runbook_lib.results import Result, Status
from runbook_lib.steps import Preview
from runbook_lib.ui import plan_summary, terminal

from ..support.places import PLAN

LONG = "a-name-of-somebody/" * 12


def test_a_long_line_is_broken_between_words_and_indented() -> None:
    lines = terminal.wrapped("  Where: " + "some words " * 30).splitlines()

    assert max(map(len, lines)) <= terminal.WIDTH
    assert [line[:4] for line in lines[1:]] == ["    "] * (len(lines) - 1)


def test_a_long_command_is_broken_so_that_a_shell_reads_the_same(tmp_path: Path) -> None:
    command = f"runbook run {tmp_path / LONG[:-1]} --approve 0123456789abcdef --waive 'rehearsed: it --burns'"

    broken = terminal.wrapped(command)

    assert shlex.split(broken.replace("\\\n", "")) == shlex.split(command)
    assert [line for line in broken.splitlines() if len(line) > terminal.WIDTH and LONG[:-1] not in line] == []


def test_a_short_command_stays_as_it_is() -> None:
    assert terminal.wrapped("runbook undo RUN") == "runbook undo RUN"


@pytest.mark.parametrize("columns", [1, 4, 8])
def test_a_table_fits_whatever_its_cells_hold(columns: int) -> None:
    head = [f"column {n}" for n in range(columns)]

    shown = terminal.table("Rows", head, [[LONG] * columns, ["two\nlines " * 40] * columns])

    assert max(map(len, shown.splitlines())) <= terminal.WIDTH
    assert shown.replace(" ", "").replace("|", "").count("a-name") >= 1


def test_a_secret_is_redacted_before_a_line_is_broken() -> None:
    register("correct horse battery staple")

    said = terminal.table("Rows", ["what"], [["word " * 18 + "correct horse battery staple"]])
    said += terminal.wrapped("word " * 18 + "correct horse battery staple")

    assert "horse" not in said and "staple" not in said


# --- the summary of a plan


STOP = Preview("stop-services", "Stop", ["stop all", "RISK: a client may hang"], undone_by="starting them", estimate=20)
CLEAR = Preview("clear-backfill", "Clear", ["clear " + "many " * 40], ["30 rows: own values"], "row locks", "undo rows", 60)
PUSH = Preview("push-backend", "Push", ["push"], undone_by="nothing. RISK: it was deployed", estimate=5, irreversible=True)
START = Preview("start-services", "Start", ["start all"], undone_by="stopping them", estimate=30)


def summary(*previews: Preview, **looks: list[Result]) -> str:
    every = {"prerequisites": [], "foreseen": [], "tried": [], **looks}
    return plan_summary.text(load_plan(PLAN), previews, **every, waived={"disk"})


def test_outage_losses_and_irreversible_steps_come_first() -> None:
    first = summary(STOP, CLEAR, START, PUSH).splitlines()[:3]

    assert first == [
        "Expected outage: about 1 min 50 s, from stop-services to start-services (estimated, not measured)",
        "Users lose: 30 rows: own values (clear-backfill)",
        "Cannot be undone: push-backend: nothing. RISK: it was deployed",
    ]


def test_each_step_is_one_line_with_its_time_and_undo() -> None:
    lines = summary(STOP, CLEAR, START, PUSH).splitlines()

    (clear,) = [line for line in lines if line.startswith("  clear-backfill")]
    (push,) = [line for line in lines if line.startswith("  push-backend")]
    assert ("… | 60 s" in clear, clear.split()[-1], push.split()[-1]) == (True, "UNDOABLE", "IRREVERSIBLE")
    assert max(map(len, lines)) <= terminal.WIDTH


def test_risks_of_a_step_and_of_its_undo_are_named() -> None:
    said = summary(STOP, PUSH)

    assert "RISK: a client may hang (stop-services)" in said
    assert "RISK: it was deployed (push-backend, undo)" in said


def test_what_is_waived_is_named_with_its_finding() -> None:
    full = Result("disk", "There is room", Status.FAIL, "3 GB of 9 GB")

    said = summary(STOP, prerequisites=[full])

    assert "WAIVED (FAIL): There is room (disk): 3 GB of 9 GB" in said
    assert "0 of 1 prerequisites" in said


@pytest.mark.parametrize(
    ("previews", "said"),
    [
        ([CLEAR], "none; no step stops a service"),
        ([STOP, CLEAR], "no end: stop-services begins it, and no later step ends it"),
        ([START, STOP], "no end: stop-services begins it, and no later step ends it"),
    ],
)
def test_an_outage_is_named_where_none_begins_or_ends(previews: list[Preview], said: str) -> None:
    assert plan_summary.outage(load_plan(PLAN), previews) == said
