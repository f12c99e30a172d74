"""Report and status answer first: what happened, is it over, what was lost, what is pending; the rest is folded."""

import re
from itertools import pairwise
from typing import Any

import pytest

from runbook_lib.config.plan import Plan
from runbook_lib.documents import load_plan
from runbook_lib.journal.folder import RunFolder
from runbook_lib.journal.state import replay
from runbook_lib.ui import display

from ..support.places import PLAN
from ..support.reported import VERIFIED, Happened, checked, done, events, headline, report, words

QUESTIONS = ["What happened?", "Is it over?", "What was lost?", "What is pending?"]
LOSS = ["3 rows: notes that users wrote"]
WAIVED: Happened = ("waived", {"name": "latency-normal", "reason": "no load at night", "by": "Dana"})
OWED: Happened = ("owed", {"debt": "old-column", "step": "clear-backfill", "text": "column x is kept"})

DEEP: Happened = ("owed", {"debt": "dist", "step": "build-backend", "text": "/srv/shop/.git/builds/dist-1 is kept"})


@pytest.fixture(scope="module")
def plan() -> Plan:
    return load_plan(PLAN)


def ended(status: str, summary: str = "so") -> Happened:
    return "outcome", {"status": status, "exit_code": 4, "summary": summary}


def approved(plan: Plan, **loses: list[str]) -> list[Happened]:
    """The full rollback previewed and approved; `loses` are the lines of some steps."""
    shown = [{"step": name, "loses": loses.get(name.replace("-", "_"), [])} for name in plan.steps_of("full", "A")]
    return [
        ("previewed", {"digest": "d1", "steps": {}, "shown": shown}),
        ("approved", {"digest": "d1", "by": "Dana"}),
    ]


def begun(step: str, **after: Any) -> list[Happened]:
    return [("started", {"step": step, "title": f"Title of {step}"}), *((k, {"step": step, **v}) for k, v in after.items())]


def whole(plan: Plan, **loses: list[str]) -> list[Happened]:
    return [*approved(plan, **loses), *done(plan), *checked(plan), VERIFIED]


def header(page: str) -> str:
    return page[page.index("<header") : page.index("</header>")]


def answered(page: str) -> dict[str, str]:
    """Each answer of a report's header, as words."""
    parts = re.split(r"<h2>(.*?)</h2>", header(page))
    return {question: words(f"<body>{text}") for question, text in zip(parts[1::2], parts[2::2], strict=True)}


def outcomes(plan: Plan) -> dict[str, tuple[list[Happened], str]]:
    """The name of each way a run can be left -> its events, and what says whether it is over."""
    half = [*approved(plan), *begun("stop-services", applied={"seconds": 1.0, "outcome": {}})]
    failed = [*half, *begun("back-up", failed={"error": "no space"})]
    waived = [*approved(plan), WAIVED, *done(plan), *checked(plan, latency_normal="FAIL"), ended("waived")]
    return {
        "verified": (whole(plan), "Yes. The whole rollback is verified."),
        "waived": (
            waived,
            "No. Waived steps and checks are not verified. Fix their causes, then check again.",
        ),
        "service-back": (
            [*half, ("served", {"services": ["backend"]}), ended("service-back")],
            "No. 12 steps are not done; the next is “Freeze deploys, autoscalers and consumers”. runbook run",
        ),
        "declined": ([ended("declined")], "No. The rollback has not begun: nobody approved it. runbook run"),
        "failed": ([*failed, ended("failed")], "runbook service-back"),
        "checks failed": (
            [*approved(plan), *done(plan), *checked(plan, latency_normal="FAIL"), ended("failed")],
            "No. 1 final check has not passed. Fix the cause, then check again. runbook check",
        ),
        "unknown": ([*half, *begun("back-up"), ended("unknown")], "runbook service-back"),
        "ended": ([*half, ("ended", {"reason": "gave up", "by": "Dana"}), ended("ended")], "runbook plan --plan"),
        "escalated": (
            [("escalated", {"from": "frontend", "to": "full", "because": "not enough"}), ended("escalated")],
            "No. The run continues as Full: database, backend and frontend. runbook run",
        ),
        "checks to make": ([*approved(plan), *done(plan)], "No. All steps are done, and the final checks are not made."),
        "killed at the end": ([*approved(plan), *done(plan), *checked(plan)], "no outcome is recorded. Check again"),
        "undo": (
            [*half, ("undo-approved", {"digest": "u1", "steps": ["stop-services"], "by": "Dana", "whole": True})],
            "No. The undo is not confirmed. The same command resumes it. runbook undo",
        ),
        "undone": ([*half, ended("undone")], "Yes. Every step of this run was undone; the rollback is not in effect."),
        "open": (half, "--approve d1 runbook service-back"),
        "killed": ([*half, *begun("back-up")], "--approve d1 runbook service-back"),
        "triage": ([("chosen", {"name": "TYPE", "value": "", "by": "Dana"})], "runbook lab"),
    }


LEFT = [*outcomes(load_plan(PLAN))]


@pytest.mark.parametrize("left", LEFT)
def test_every_report_answers_the_four_questions_in_order(folder: RunFolder, plan: Plan, left: str) -> None:
    happened, over = outcomes(plan)[left]

    page = report(folder, plan, *happened)

    found = answered(page)
    assert [*found] == QUESTIONS
    assert all(found.values())
    assert over in found["Is it over?"]
    assert ("VERIFIED" in headline(page).replace("NOT VERIFIED", "")) == (left == "verified")


@pytest.mark.parametrize("left", LEFT)
def test_all_but_the_answers_is_folded(folder: RunFolder, plan: Plan, left: str) -> None:
    page = report(folder, plan, *outcomes(plan)[left][0])

    after = page[page.index("</header>") :]
    outside = re.sub(r"<details.*?</details>", "", after, flags=re.DOTALL)
    assert words(f"<body>{outside}").startswith("Run ")
    assert len(re.findall("<details", after)) >= 6


@pytest.mark.parametrize("left", LEFT)
def test_status_answers_the_same_in_the_same_order(folder: RunFolder, plan: Plan, left: str) -> None:
    history = events(*outcomes(plan)[left][0])

    text = display.status(folder, plan, replay(history), history).text

    places = [text.index(f"\n{question}\n") for question in QUESTIONS]
    assert all(one < other for one, other in pairwise(places))
    assert [line for line in text.splitlines() if len(line) > 100 and len(line.split()) > 2] == []
    assert "Steps\n" not in text


def test_the_rest_of_a_status_is_there_on_request(folder: RunFolder, plan: Plan) -> None:
    history = events(*whole(plan))

    text = display.status(folder, plan, replay(history), history, verbose=True).text

    assert text.index("What is pending?") < text.index(f"Run {folder.id}") < text.index("done | Stop the services")


def test_a_run_of_another_machine_is_to_be_taken_up_first(folder: RunFolder, plan: Plan) -> None:
    history = events(*outcomes(plan)["killed"][0], OWED)

    text = display.status(RunFolder(folder.path / "elsewhere"), plan, replay(history), history).text

    assert "runbook handover" in text
    assert not re.search("runbook (run|purge|service-back)", text)


def test_status_says_that_no_process_acts_in_an_open_run(folder: RunFolder, plan: Plan) -> None:
    history = events(*outcomes(plan)["killed"][0])

    def text() -> str:
        return display.status(folder, plan, replay(history), history).text

    assert "No process on this machine acts in this run now." in text()
    with folder.lock():
        assert "A process acts in this run now (pid " in text()


def test_what_happened_names_the_failed_step_and_the_times(folder: RunFolder, plan: Plan) -> None:
    found = answered(report(folder, plan, *outcomes(plan)["failed"][0]))["What happened?"]

    assert "on staging-7 (staging): the step “Title of back-up” failed: no space." in found
    assert "First step to outcome: 40 s, within the plan's 10 min; outage: not over" in found


@pytest.mark.parametrize(
    ("left", "part", "is_open"),
    [
        ("failed", "Steps", True),
        ("killed", "Steps", True),
        ("verified", "Steps", False),
        ("checks failed", "Checks", True),
        ("verified", "Checks", False),
    ],
)
def test_only_what_failed_is_open_by_itself(folder: RunFolder, plan: Plan, left: str, part: str, is_open: bool) -> None:
    page = report(folder, plan, *outcomes(plan)[left][0])

    assert bool(re.search(rf"<details open>\s*<summary><h2>{part}</h2>", page)) == is_open


# What was lost


def lost(folder: RunFolder, plan: Plan, *happened: Happened) -> str:
    return answered(report(folder, plan, *happened))["What was lost?"]


def test_a_loss_is_named_with_its_count_and_the_place_of_the_list(folder: RunFolder, plan: Plan) -> None:
    table = ("evidence", {"title": "Rows that differ", "file": "evidence/loss.json", "kind": "table"})

    found = lost(folder, plan, table, *whole(plan, clear_backfill=LOSS))

    assert f"Counted for the step “{plan.steps['clear-backfill'].title}”: {LOSS[0]}" in found
    assert "Lists: evidence/loss.json (counts by table), report.html, “What was approved”." in found


def test_nothing_is_lost_only_where_that_was_counted(folder: RunFolder, plan: Plan) -> None:
    assert lost(folder, plan, *whole(plan)) == "Nothing: the approved preview counted no loss."
    assert lost(folder, plan) == "Nothing: this run changed nothing."
    without = [*done(plan), *checked(plan), VERIFIED]  # as in the journal of an older version
    title = plan.steps["clear-backfill"].title
    assert lost(folder, plan, *without) == f"Not known. Not known: {title}: no approved preview is on record"


def test_the_loss_of_an_unfinished_step_is_not_known(folder: RunFolder, plan: Plan) -> None:
    found = lost(folder, plan, *approved(plan, clear_backfill=LOSS), *begun("clear-backfill", failed={"error": "x"}))

    assert found == f"Not known. Not known: Title of clear-backfill did not finish; its preview listed: {LOSS[0]}"


@pytest.mark.parametrize(
    ("outcome", "said"),
    [
        ({"conflicts": 0}, "Nothing: every step was undone, and no row kept another value."),
        ({"conflicts": 2}, "2 rows that someone changed since keep their values after the undo"),
        ({}, "Not known: Title of clear-backfill was undone; rows written in between were not counted"),
    ],
)
def test_what_an_undo_left_is_counted_or_not_known(
    folder: RunFolder, plan: Plan, outcome: dict[str, int], said: str
) -> None:
    ends = {"applied": {"seconds": 1.0, "outcome": {}}, "undone": {"seconds": 1.0, "outcome": outcome}}

    assert said in lost(folder, plan, *approved(plan, clear_backfill=LOSS), *begun("clear-backfill", **ends))


def test_a_part_that_could_not_be_counted_is_not_known(folder: RunFolder, plan: Plan) -> None:
    found = lost(folder, plan, *whole(plan, clear_backfill=[*LOSS, "NOT KNOWN: public.t: it is corrupt"]))

    assert "; more is not known:" in found
    assert f"Not known: public.t: it is corrupt ({plan.steps['clear-backfill'].title})" in found


@pytest.mark.parametrize(("volumes", "said"), [({}, "Not known."), ({"values of a": 0}, "Nothing: the approved preview")])
def test_columns_whose_values_a_policy_hid_are_not_counted(
    folder: RunFolder, plan: Plan, volumes: dict[str, int], said: str
) -> None:
    step = next(name for name, spec in plan.steps.items() if spec.kind == "remove_columns")
    shown = [{"step": step, "loses": [], "volumes": volumes}]
    previewed: list[Happened] = [
        ("previewed", {"digest": "d1", "steps": {}, "shown": shown}),
        ("approved", {"digest": "d1", "by": "Dana"}),
    ]

    found = lost(folder, plan, *previewed, *begun(step, applied={"seconds": 1.0, "outcome": {}}))

    assert found.startswith(said)


def test_work_by_hand_is_not_called_counted(folder: RunFolder, plan: Plan) -> None:
    by_hand = {"step": "back-up", "title": "Back up", "result": "done", "note": "", "by": "Kim", "when": "2025-11-03T12:00"}

    assert "nothing counted the work that people did by hand" in lost(folder, plan, ("by-hand", by_hand))


def test_pending_cleanup_has_its_command(folder: RunFolder, plan: Plan) -> None:
    found = answered(report(folder, plan, *approved(plan), *done(plan), OWED))["What is pending?"]

    assert "Pending cleanup: 1 item." in found
    assert f"old-column: column x is kept ({plan.steps['clear-backfill'].title})" in found
    assert f"runbook purge {folder.path}" in found
    assert "…/dist-1 is kept" in answered(report(folder, plan, DEEP))["What is pending?"]
    assert "/srv/shop/.git/builds/dist-1 is kept" in report(folder, plan, DEEP)  # in the timeline
    assert "No cleanup is pending." in answered(report(folder, plan))["What is pending?"]


# Colours


def contrast(one: str, other: str) -> float:
    def luminance(colour: str) -> float:
        shares = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
        linear = [share / 12.92 if share <= 0.03928 else ((share + 0.055) / 1.055) ** 2.4 for share in shares]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    dark, light = sorted(map(luminance, (one, other)))
    return (light + 0.05) / (dark + 0.05)


PAIRS = [
    *((ink, ground) for ink in ("ink", "soft", "link", "good", "bad", "odd", "calm") for ground in ("paper", "wash")),
    *((tone, f"{tone}-ground") for tone in ("good", "bad", "odd", "calm")),
    ("ink", "odd-ground"),
    ("soft", "odd-ground"),
]


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_report_is_legible_in_both_themes(folder: RunFolder, plan: Plan, theme: str) -> None:
    page = report(folder, plan)
    blocks = re.findall(r":root \{(.*?)\}", page, re.DOTALL)
    colours = dict(re.findall(r"--([\w-]+): (#\w{6});", blocks[["light", "dark"].index(theme)]))

    assert {pair: round(contrast(*(colours[name] for name in pair)), 1) for pair in PAIRS} == {
        pair: value for pair in PAIRS if (value := round(contrast(*(colours[name] for name in pair)), 1)) >= 4.5
    }
    assert "prefers-color-scheme: dark" in page


@pytest.mark.parametrize("status", display.COLOURS)
def test_a_status_in_a_notebook_brings_its_own_ground(status: str) -> None:
    ink, ground = re.findall("#[0-9a-f]{6}", display.COLOURS[status])

    assert contrast(ink, ground) >= 4.5
