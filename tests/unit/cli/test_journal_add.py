"""`runbook journal add`: what a person did by hand, on record."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from runbook_lib import report as archive
from runbook_lib.documents import load_plan
from runbook_lib.journal import Journal
from runbook_lib.journal.folder import RunFolder
from runbook_lib.journal.state import replay
from runbook_lib.run.lifecycle import judge

from ...support.commands import Command
from ...support.places import PLAN

ADD = ("--note", "supervisorctl said RUNNING", "--operator", "Kim")


def test_it_is_chained_and_shown_in_banner_report_and_log(runbook: Command, folder: RunFolder) -> None:
    archive.seal(folder)
    code, out, _ = runbook("journal", "add", folder.path, "--step", "build-frontend", "--done", *ADD)
    event, _ = Journal(folder.journal_path).events()[-2:]

    assert (code, event.kind, event.data["by"]) == (0, "by-hand", "Kim")
    assert "done by hand, by Kim" in out
    assert "BY HAND, by Kim: " in runbook("status", folder.path)[1]
    assert "done by hand, by Kim" in (folder.path / "report.html").read_text()
    assert "done by hand, by Kim" in (folder.path / "rollback-log.md").read_text()
    assert runbook("verify", folder.path)[0] == 0


def test_it_makes_no_step_done_and_takes_no_check_for_passed(runbook: Command, folder: RunFolder) -> None:
    plan, journal = load_plan(PLAN), Journal(folder.journal_path)
    for name in plan.types["frontend"].checks:
        journal.append("checked", round="after", name=name, status="PASS")
    journal.append("outcome", status="verified")

    runbook("journal", "add", folder.path, "--step", "build-frontend", "--done", *ADD)
    state = replay(journal.events())

    assert (state.step("build-frontend").status, state.checks.get("after"), state.outcome) == ("started", None, None)
    assert judge(plan, state).status != "verified"


def test_the_time_may_be_another_and_is_kept_in_utc(runbook: Command, folder: RunFolder) -> None:
    now = datetime.now(UTC).replace(microsecond=0)
    there = now.astimezone(tz=datetime.now().astimezone().tzinfo).isoformat()
    _, out, _ = runbook("journal", "add", folder.path, "--step", "build-frontend", "--failed", *ADD, "--at", there, "--json")

    told = json.loads(out)["by_hand"]
    assert (told["result"], told["when"]) == ("failed", now.isoformat())


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("--step", "build-moon", "--done", *ADD), "no step 'build-moon'"),
        (("--step", "build-frontend", *ADD), "Name --done or --failed"),
        (("--step", "build-frontend", "--done", "--note", " ", "--operator", "Kim"), "--note is empty"),
        (("--step", "build-frontend", "--done", *ADD, "--at", "at noon"), "is not a time"),
        (("--step", "build-frontend", "--done", *ADD, "--at", "2026-05-01T03:20:00"), "without its offset"),
        (("--step", "build-frontend", "--done", *ADD, "--at", "2001-01-01T00:00:00Z"), "before the run began"),
        (
            ("--step", "build-frontend", "--done", *ADD, "--at", (datetime.now(UTC) + timedelta(days=1)).isoformat()),
            "in the future",
        ),
    ],
)
def test_what_cannot_be_is_refused_and_not_recorded(
    runbook: Command, folder: RunFolder, given: tuple[str, ...], said: str
) -> None:
    before = folder.journal_path.read_bytes()
    code, _, errors = runbook("journal", "add", folder.path, *given)

    assert (code, said in errors) == (2, True)
    assert folder.journal_path.read_bytes() == before


def test_a_run_that_was_ended_takes_no_more(runbook: Command, folder: RunFolder) -> None:
    Journal(folder.journal_path).append("ended", reason="nobody goes on", by="Dana")
    code, _, errors = runbook("journal", "add", folder.path, "--step", "build-frontend", "--done", *ADD)

    assert (code, "ended permanently" in errors) == (2, True)
