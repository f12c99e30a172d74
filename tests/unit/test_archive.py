"""The report and the rollback log of a run."""

import re

import pytest

from runbook_lib.config.plan import Plan
from runbook_lib.documents import load_plan
from runbook_lib.journal.folder import RunFolder
from runbook_lib.journal.state import replay
from runbook_lib.run.lifecycle import judge

from ..support.places import PLAN
from ..support.reported import VERIFIED, Happened, checked, done, events, headline, log, report, words

PIXEL = b"\x89PNG\r\n\x1a\nnot really a picture"


@pytest.fixture(scope="module")
def plan() -> Plan:
    return load_plan(PLAN)


# The report's verdict


def test_a_run_without_an_outcome_is_still_open(folder: RunFolder, plan: Plan) -> None:
    assert headline(report(folder, plan, *done(plan), *checked(plan))) == "… STILL OPEN"


def test_a_report_can_be_written_right_after_the_opening(folder: RunFolder, plan: Plan) -> None:
    assert headline(report(folder, plan)) == "… STILL OPEN"


@pytest.mark.parametrize(
    ("status", "expected"),
    [("failed", "✘ FAILED"), ("unknown", "? UNKNOWN"), ("declined", "⊘ DECLINED"), ("escalated", "▲ ESCALATED")],
)
def test_an_outcome_is_shown_by_a_word_and_a_symbol(folder: RunFolder, plan: Plan, status: str, expected: str) -> None:
    assert headline(report(folder, plan, ("outcome", {"status": status, "exit_code": 3, "summary": "so"}))) == expected


def test_a_verified_run_is_verified(folder: RunFolder, plan: Plan) -> None:
    assert headline(report(folder, plan, *done(plan), *checked(plan), VERIFIED)) == "✔ VERIFIED"


@pytest.mark.parametrize("status", ["FAIL", "UNKNOWN"])
def test_a_verdict_that_the_checks_contradict_is_not_repeated(folder: RunFolder, plan: Plan, status: str) -> None:
    page = report(folder, plan, *done(plan), *checked(plan, api_media_url=status), VERIFIED)
    assert headline(page) == "? UNKNOWN"


def test_a_verdict_over_checks_that_were_not_made_is_not_repeated(folder: RunFolder, plan: Plan) -> None:
    assert headline(report(folder, plan, *done(plan), *checked(plan)[1:], VERIFIED)) == "? UNKNOWN"


def test_a_verdict_over_a_step_of_unknown_outcome_is_not_repeated(folder: RunFolder, plan: Plan) -> None:
    assert headline(report(folder, plan, *done(plan)[:-1], *checked(plan), VERIFIED)) == "? UNKNOWN"


def test_a_run_that_went_on_after_its_outcome_is_open_again(folder: RunFolder, plan: Plan) -> None:
    again = ("started", {"step": "stop-services", "title": "Stop"})
    assert headline(report(folder, plan, *done(plan), *checked(plan), VERIFIED, again)) == "… STILL OPEN"


# What the report shows


def test_a_waiver_comes_right_after_the_verdict(folder: RunFolder, plan: Plan) -> None:
    waived = ("waived", {"name": "latency-normal", "reason": "no load at night", "by": "Dana"})
    page = words(report(folder, plan, waived, *done(plan), *checked(plan, latency_normal="UNKNOWN"), VERIFIED))
    assert page.index("VERIFIED, with 1 waiver") < page.index("no load at night") < page.index("INC-1")


def test_a_waived_step_is_not_verified_and_named_first(folder: RunFolder, plan: Plan) -> None:
    waived = ("waived", {"name": "back-up", "reason": "the disk is full", "by": "Dana"})
    failed = ("failed", {"step": "back-up", "error": "no space"})
    before = [waived, *done(plan), ("started", {"step": "back-up", "title": "Back up"}), failed, *checked(plan)]
    ended = judge(plan, replay(events(*before)))
    assert (ended.status, ended.exit_code) == ("waived", 4)

    outcome = ("outcome", {"status": ended.status, "exit_code": ended.exit_code, "summary": ended.summary})
    page = words(report(folder, plan, *before, outcome))

    assert headline(report(folder, plan, *before, outcome)) == "? COMPLETED, NOT VERIFIED, with 1 waiver"
    assert page.index("Waived (not counted as passed):") < page.index("the disk is full") < page.index("INC-1")


def test_a_check_that_does_not_apply_is_reported_and_not_missing(folder: RunFolder, plan: Plan) -> None:
    made = [event for event in checked(plan) if event[1]["name"] != "no-slow-queries"]
    left_out = ("left-out", {"name": "no-slow-queries", "reason": "nobody measures them"})

    page = words(report(folder, plan, *done(plan), left_out, *made, VERIFIED))

    assert ("VERIFIED" in page, "NOT MADE" in page) == (True, False)
    assert "LEFT OUT No statement of the application is slow nobody measures them" in page


OWED: Happened = ("owed", {"debt": "old-column", "step": "clear-backfill", "text": "column x is kept"})
PAID: Happened = ("paid", {"debt": "old-column", "step": "clear-backfill"})


def test_pending_cleanup_is_on_the_reports_first_screen(folder: RunFolder, plan: Plan) -> None:
    page = words(report(folder, plan, *done(plan), OWED, *checked(plan), VERIFIED))

    assert page.index("Pending cleanup: 1 item") < page.index("old-column: column x is kept") < page.index("Steps")


def test_completed_cleanup_is_only_in_the_timeline(folder: RunFolder, plan: Plan) -> None:
    assert "Pending cleanup" not in words(report(folder, plan, *done(plan), OWED, PAID, *checked(plan), VERIFIED))
    assert "leanup" not in log(folder, plan, OWED, PAID)


def test_the_log_begins_with_pending_cleanup_and_its_command(folder: RunFolder, plan: Plan) -> None:
    lines = log(folder, plan, *done(plan), OWED, *checked(plan), VERIFIED).splitlines()

    assert lines[0] == "> **Pending cleanup**: old-column (column x is kept)"
    assert "- [ ] Clean up, by `runbook purge`: column x is kept" in lines


def test_a_waived_check_keeps_its_own_status(folder: RunFolder, plan: Plan) -> None:
    waived = ("waived", {"name": "latency-normal", "reason": "no load at night", "by": "Dana"})
    page = words(report(folder, plan, waived, *checked(plan, latency_normal="UNKNOWN")))
    assert "WAIVED UNKNOWN Performance is normal" in page


def test_the_report_needs_nothing_from_outside(folder: RunFolder, plan: Plan) -> None:
    folder.write_image("evidence/page.png", PIXEL)
    page = report(folder, plan, ("evidence", {"title": "The page", "file": "evidence/page.png", "kind": "image"}))
    assert not re.search(r"""(?:src|href)\s*=\s*["']?\s*(?:https?:|//)|@import|url\(|<script|<link""", page, re.IGNORECASE)
    assert re.findall(r'src="([^"]{0,22})', page) == ["data:image/png;base64,"]


def test_what_people_wrote_is_escaped(folder: RunFolder, plan: Plan) -> None:
    page = report(folder, plan, ("noted", {"text": "<script>alert(1)</script>"}))
    assert "<script" not in page
    assert "<b>gone" not in page


def test_the_duration_is_set_against_the_budget(folder: RunFolder, plan: Plan) -> None:
    waits: list[Happened] = [("noted", {"text": str(n)}) for n in range(70)]
    page = words(report(folder, plan, *done(plan), *waits, ("outcome", {"status": "failed", "exit_code": 3, "summary": ""})))
    assert "16 min, OVER the plan's 10 min" in page


def test_the_outage_is_from_the_stop_to_the_last_start(folder: RunFolder, plan: Plan) -> None:
    def begun(name: str, action: str = "apply") -> Happened:
        return "started", {"step": name, "title": name, "action": action}

    def ended(name: str) -> Happened:
        return "applied", {"step": name, "seconds": 1.0, "outcome": {}}

    stop, start, last = "stop-services", "start-services", "restart-frontend"
    whole = [begun(stop), ended(stop), begun(start), ended(start), begun(last), ended(last), begun("push-frontend")]
    words_of = [
        words(report(folder, plan, *events)) for events in (whole, whole[:3], [begun("back-up")], [begun(start, "undo")])
    ]

    assert "outage: 50.0 s." in words_of[0]
    assert "outage: not over (the journal records no later start of services)." in words_of[1]
    assert not [page for page in words_of[2:] if "outage:" in page]


def test_a_table_kept_as_evidence_is_shown_with_its_index(folder: RunFolder, plan: Plan) -> None:
    folder.write_json("evidence/t.json", {"columns": ["before", "after"], "index": ["rows"], "data": [[12, None]]})
    page = report(folder, plan, ("evidence", {"title": "Rows", "file": "evidence/t.json", "kind": "table"}))
    assert "<td>rows</td><td>12</td><td></td>" in page


def test_evidence_that_is_missing_is_named(folder: RunFolder, plan: Plan) -> None:
    page = words(report(folder, plan, ("evidence", {"title": "Rows", "file": "evidence/gone.json", "kind": "table"})))
    assert "Rows evidence/gone.json It cannot be shown: FileNotFoundError." in page


def test_a_file_outside_the_run_is_not_shown(folder: RunFolder, plan: Plan) -> None:
    (folder.path.parent / "outside.txt").write_text("not of this run")
    page = report(folder, plan, ("evidence", {"title": "Rows", "file": "../outside.txt", "kind": "text"}))
    assert "not of this run" not in page


def test_an_unknown_kind_of_event_is_in_the_timeline(folder: RunFolder, plan: Plan) -> None:
    assert 'something-new {"x": [1, 2]}' in words(report(folder, plan, ("something-new", {"x": [1, 2]})))


def test_an_event_with_unusual_facts_is_in_the_timeline(folder: RunFolder, plan: Plan) -> None:
    assert 'recommended {"words": "other"}' in words(report(folder, plan, ("recommended", {"words": "other"})))


def test_executed_notebooks_are_linked(folder: RunFolder, plan: Plan) -> None:
    folder.write_text("03 full.ipynb", "{}")
    ended = ("notebook-ended", {"notebook": "03-full", "output": "03 full.ipynb", "status": "failed"})
    assert '<a href="03%20full.ipynb">' in report(folder, plan, ended)


# The rollback log


def test_the_log_ticks_what_was_done(folder: RunFolder, plan: Plan) -> None:
    text = log(folder, plan, *done(plan), *checked(plan), VERIFIED)
    actions = text.split("### Actions Taken")[1].split("###")[0].strip().splitlines()
    assert actions == [
        "- [x] Services stopped",
        "- [x] Database rolled back",
        "- [x] Backend code reverted",
        "- [x] Frontend code reverted",
        "- [x] Services restarted",
        "- [x] Verification completed",
    ]


def test_the_log_ticks_nothing_that_was_not_done(folder: RunFolder, plan: Plan) -> None:
    assert "[x]" not in log(folder, plan)


def test_services_whose_start_has_not_ended_are_not_ticked(folder: RunFolder, plan: Plan) -> None:
    assert "- [ ] Services restarted (" in log(folder, plan, *done(plan)[:-9])


def test_an_undone_step_is_not_ticked(folder: RunFolder, plan: Plan) -> None:
    undone = ("undone", {"step": "clear-backfill", "seconds": 1, "outcome": {}})
    text = log(folder, plan, *done(plan), undone)
    assert "- [ ] Database rolled back (Option A: clear the backfilled entries: undone)" in text


@pytest.mark.parametrize("status", ["FAIL", "UNKNOWN"])
def test_one_check_that_did_not_pass_leaves_the_verification_open(folder: RunFolder, plan: Plan, status: str) -> None:
    assert "- [ ] Verification completed (" in log(folder, plan, *done(plan), *checked(plan, media_renders=status))


def test_an_area_names_its_failing_checks(folder: RunFolder, plan: Plan) -> None:
    text = log(folder, plan, *checked(plan, media_renders="FAIL"))
    assert "- Frontend Status: Issues: Every picture and video renders (FAIL: looked at media-renders)\n" in text
    assert "- Database Status: OK\n" in text


@pytest.mark.parametrize(
    ("check", "area"), [("api_media_url", "API"), ("no_slow_queries", "Database"), ("services_running", "Services")]
)
def test_each_area_has_its_own_checks(folder: RunFolder, plan: Plan, check: str, area: str) -> None:
    assert f"- {area} Status: Issues: " in log(folder, plan, *checked(plan, **{check: "FAIL"}))


def test_an_area_that_was_not_checked_is_not_ok(folder: RunFolder, plan: Plan) -> None:
    assert "OK" not in log(folder, plan, *done(plan))


def test_the_log_begins_with_the_waivers(folder: RunFolder, plan: Plan) -> None:
    text = log(folder, plan, ("waived", {"name": "latency-normal", "reason": "no load at night", "by": "Dana"}))
    assert "no load at night" in text.splitlines()[0]


def test_the_log_ends_with_the_plans_follow_ups(folder: RunFolder, plan: Plan) -> None:
    assert log(folder, plan).splitlines()[-len(plan.follow_ups) :] == [f"- [ ] {step}" for step in plan.follow_ups]


def test_the_same_page_before_and_after_is_shown_side_by_side_only(folder: RunFolder, plan: Plan) -> None:
    files = ["evidence/page-7-before.png", "evidence/page-7-after.png", "evidence/page-8-after.png"]
    for file in files:
        folder.write_image(file, PIXEL)

    page = report(folder, plan, *(("evidence", {"title": f"T {file}", "file": file, "kind": "image"}) for file in files))

    pair = page[page.index('<div class="pair">') : page.index("</details>", page.index('<div class="pair">'))]
    assert [pair.count(f"<figcaption>T {file}") for file in files] == [1, 1, 0]
    assert page.count("<img") == 3
