"""A run as JUnit XML: what passed, failed, is unknown or was waived, and what a CI's reader must not see."""

from collections.abc import Iterable
from pathlib import Path

import pytest
from junitparser import Error, Failure, JUnitXml, Skipped, TestCase

from runbook_lib.config.plan import Plan
from runbook_lib.errors import AdapterError, ParametersError
from runbook_lib.journal import Journal
from runbook_lib.redaction import register
from runbook_lib.rehearsal.junit import of_migration
from runbook_lib.rehearsal.migration import Rehearsal
from runbook_lib.report.junit import of_run, suite, written

KINDS = {Failure: "failure", Error: "error", Skipped: "skipped"}
SECRET = "correct-horse-battery"


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    made = Journal(tmp_path / "journal.jsonl")
    made.append("opened", type="frontend", option="A", plan="FEAT")
    made.append("started", step="revert-frontend", title="Take it back")
    made.append("applied", step="revert-frontend", seconds=1.5, outcome={})
    return made


def checked(journal: Journal, name: str, status: str, summary: str = "") -> None:
    journal.append("checked", round="after", name=name, status=status, title=name, summary=summary, evidence={})


def ended(case: TestCase) -> str:
    return KINDS[type(case.result[0])] if case.result else "passed"


def cases(made: Iterable[TestCase]) -> dict[str, TestCase]:
    return {f"{each.classname}/{each.name}": each for each in made}


def test_a_step_passes_with_its_time_and_one_never_begun_is_skipped(plan: Plan, journal: Journal) -> None:
    found = cases(of_run(plan, journal.events(), "rollback"))

    done, ahead = found["rollback.step/revert-frontend"], found["rollback.step/build-frontend"]
    assert (ended(done), done.time) == ("passed", 1.5)
    assert (ended(ahead), ahead.result[0].message) == ("skipped", "not begun")


def test_a_step_that_failed_is_a_failure_and_one_cut_short_an_error(plan: Plan, journal: Journal) -> None:
    journal.append("started", step="build-frontend", title="Build")
    assert ended(cases(of_run(plan, journal.events(), "rollback"))["rollback.step/build-frontend"]) == "error"

    journal.append("failed", step="build-frontend", error="npm ended with 1.\n  Where: /srv/shop", on_request=False)
    failed = cases(of_run(plan, journal.events(), "rollback"))["rollback.step/build-frontend"]
    assert (ended(failed), failed.result[0].message) == ("failure", "npm ended with 1.")
    assert "Where: /srv/shop" in failed.result[0].text


@pytest.mark.parametrize(("status", "kind"), [("PASS", "passed"), ("FAIL", "failure"), ("UNKNOWN", "error")])
def test_a_check_ends_as_its_status_says(plan: Plan, journal: Journal, status: str, kind: str) -> None:
    checked(journal, "services-running", status, "the frontend runs")

    assert ended(cases(of_run(plan, journal.events(), "rollback"))["rollback.check/services-running"]) == kind


def test_what_was_waived_or_left_out_is_skipped_with_its_reason(plan: Plan, journal: Journal) -> None:
    checked(journal, "services-running", "FAIL")
    journal.append("waived", name="services-running", reason="known since May", by="Dana")
    journal.append("left-out", name="media-renders", reason="there is no log")
    found = cases(of_run(plan, journal.events(), "rollback"))

    reasons = [found[f"rollback.check/{name}"].result[0] for name in ("services-running", "media-renders")]
    assert [(type(each), each.message) for each in reasons] == [
        (Skipped, "waived: known since May"),
        (Skipped, "left out: there is no log"),
    ]


@pytest.mark.parametrize(
    ("status", "kind"),
    [("verified", "passed"), ("waived", "skipped"), ("failed", "failure"), ("declined", "failure"), ("unknown", "error")],
)
def test_the_outcome_is_a_case_too(plan: Plan, journal: Journal, status: str, kind: str) -> None:
    journal.append("outcome", status=status, exit_code=0, summary="it ended")

    assert ended(cases(of_run(plan, journal.events(), "rollback"))["rollback/outcome"]) == kind


def test_a_run_without_an_outcome_is_an_error(plan: Plan, journal: Journal) -> None:
    assert ended(cases(of_run(plan, journal.events(), "rollback"))["rollback/outcome"]) == "error"


def test_an_undone_rollback_keeps_its_cases_and_the_undo_has_its_own(plan: Plan, journal: Journal) -> None:
    checked(journal, "services-running", "PASS")
    journal.append("outcome", status="verified", exit_code=0, summary="it ended")
    journal.append("undo-approved", digest="d", steps=["revert-frontend"], whole=True, by="ci")
    journal.append("started", step="revert-frontend", title="Take it back", action="undo")
    journal.append("undone", step="revert-frontend", seconds=2.5, outcome={})
    found = cases(of_run(plan, journal.events(), "rollback"))

    names = ["rollback.step/revert-frontend", "rollback.check/services-running", "rollback/outcome"]
    assert [ended(found[name]) for name in names] == ["passed"] * 3
    undone = found["rollback.undo/revert-frontend"]
    assert (ended(undone), undone.time) == ("passed", 2.5)


def test_an_error_is_written_as_the_one_case_and_still_raised(tmp_path: Path) -> None:
    file = tmp_path / "new" / "junit.xml"

    with pytest.raises(AdapterError), written(file, "rehearsal.none"):
        raise AdapterError("The stack does not come up.")

    (made,) = JUnitXml.fromfile(str(file))
    assert [(each.name, ended(each), each.result[0].message) for each in made] == [
        ("error", "error", "The stack does not come up.")
    ]
    assert made.name == "rehearsal.none"


def test_the_file_is_redacted_and_is_xml_whatever_was_said(plan: Plan, journal: Journal, tmp_path: Path) -> None:
    register(SECRET)
    checked(journal, "services-running", "FAIL", f"\x1b[31m<{SECRET}> & \x00")

    with written(tmp_path / "junit.xml", "rollback") as write:
        write([of_run(plan, journal.events(), "rollback")])

    text = (tmp_path / "junit.xml").read_text()
    assert SECRET not in text
    assert next(iter(JUnitXml.fromfile(str(tmp_path / "junit.xml")))).failures == 1


def test_names_are_those_of_every_run_of_the_plan(plan: Plan, journal: Journal) -> None:
    before = [*cases(of_run(plan, journal.events(), "rollback"))]
    checked(journal, "services-running", "PASS")
    journal.append("outcome", status="verified", exit_code=0, summary="it ended")

    assert [*cases(of_run(plan, journal.events(), "rollback"))] == before


def test_a_place_that_cannot_be_written_stops_before_anything(tmp_path: Path) -> None:
    begun = []

    with pytest.raises(ParametersError), written(tmp_path, "rollback"):
        begun.append(True)

    assert begun == []


@pytest.mark.parametrize(
    ("found", "kinds"),
    [
        (Rehearsal(outcome="verified", undo_exact=True, redeploys=True), ["passed"] * 3),
        (Rehearsal(outcome="refused"), ["failure", "skipped", "skipped"]),
        (Rehearsal(outcome="failed", undo_exact=False, redeploys=None), ["failure", "failure", "skipped"]),
    ],
)
def test_a_migration_is_three_cases(found: Rehearsal, kinds: list[str]) -> None:
    (made,) = of_migration(found)

    assert [ended(each) for each in made] == kinds


def test_no_file_is_written_where_none_is_named(tmp_path: Path) -> None:
    with written(None, "rollback") as write:
        write([suite("rollback", [])])

    assert [*tmp_path.iterdir()] == []
