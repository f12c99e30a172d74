"""What records of rehearsals say of a run: none, too old, of something else, or of exactly this."""

import json
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runbook_lib.checks.rehearsed import judged
from runbook_lib.config.plan import Plan
from runbook_lib.records import MemoryRecords, kept
from runbook_lib.records.record import Subject, differences, read
from runbook_lib.results import Status

from ..support.rehearsals import CODE, NOW, SUBJECT, record

MONTH = timedelta(days=30)
OTHERWISE: dict[str, tuple[dict[str, Any], str]] = {
    "plan": ({"plan": "9" * 64}, f"the plan: rehearsed {'a' * 12}, here {'9' * 12}"),
    "changes": ({"changes": ""}, f"the draft's changes: rehearsed {'b' * 12}, here nothing"),
    "schema": ({"catalog": "9" * 64}, f"the schema: rehearsed {'0' * 12}, here {'9' * 12}"),
    "type": ({"type": "quick"}, "the type: rehearsed full, here quick"),
    "option": ({"option": "B"}, "the option: rehearsed A, here B"),
    "runbook": ({"runbook": "0.2.0"}, "the runbook: rehearsed 0.1.0, journal 2, here 0.2.0"),
    "code": (
        {"code": {"backend": CODE.model_copy(update={"commit": "9" * 40, "files": "8" * 40})}},
        f"the commit of backend: rehearsed {'c' * 12}, here {'9' * 12}",
    ),
    "code without": (
        {"code": {"backend": CODE.model_copy(update={"leads_to": "9" * 40, "files_left": "8" * 40})}},
        f"the code that backend goes back to: rehearsed {'d' * 12}, here {'9' * 12}",
    ),
    "lock file": (
        {"code": {"backend": CODE.model_copy(update={"locks": {"uv.lock": "2" * 40}})}},
        f"uv.lock of backend: rehearsed {'1' * 12}, here {'2' * 12}",
    ),
}


@pytest.mark.parametrize(("changed", "said"), OTHERWISE.values(), ids=OTHERWISE)
def test_each_thing_that_differs_is_named_with_both_values(changed: dict[str, Any], said: str) -> None:
    now = SUBJECT.model_copy(update=changed)

    status, text = judged([record()], now, MONTH, NOW)

    assert differences(SUBJECT, now) == [said]
    assert (status, said in text, "runbook run RUN --waive 'rehearsed: REASON'" in text) == (Status.FAIL, True, True)


def test_the_same_files_by_another_commit_are_the_same_release() -> None:
    squashed = SUBJECT.model_copy(update={"code": {"backend": CODE.model_copy(update={"commit": "9" * 40})}})

    assert judged([record()], squashed, MONTH, NOW)[0] is Status.PASS


def test_before_a_type_is_chosen_any_rehearsal_of_the_release_counts() -> None:
    open_code = CODE.model_copy(update={"leads_to": "", "files_left": ""})
    now = SUBJECT.model_copy(update={"type": "", "option": "", "code": {"backend": open_code, "frontend": CODE}})

    assert differences(SUBJECT, now.model_copy(update={"code": {"backend": open_code}})) == []
    assert differences(SUBJECT, now)


def test_a_rehearsal_of_the_migration_alone_counts_for_no_type() -> None:
    alone = SUBJECT.model_copy(update={"type": "migration", "code": {}})

    assert judged([record(subject=alone)], SUBJECT, MONTH, NOW)[0] is Status.FAIL


@pytest.mark.parametrize(("days", "status"), [(29.9, Status.PASS), (30.1, Status.FAIL), (-1, Status.UNKNOWN)])
def test_only_a_recent_one_counts(days: float, status: Status) -> None:
    assert judged([record(NOW - timedelta(days=days))], SUBJECT, MONTH, NOW)[0] is status


def test_an_older_one_says_by_how_much() -> None:
    said = judged([record(NOW - timedelta(days=34))], SUBJECT, MONTH, NOW)[1]

    assert "34 d ago, 4 d more than the 30 d that the plan allows" in said


def test_the_newest_that_fits_counts_whatever_came_after_it() -> None:
    other = SUBJECT.model_copy(update={"option": "B"})

    status, said = judged([record(subject=other), record(NOW - timedelta(hours=5))], SUBJECT, MONTH, NOW)

    assert (status, said.startswith("5 h")) == (Status.PASS, True)


@given(st.builds(Subject, type=st.text(min_size=1), code=st.dictionaries(st.text(), st.just(CODE))))
def test_a_subject_never_differs_from_itself(subject: Subject) -> None:
    assert differences(subject, subject) == []


def test_a_record_is_read_as_it_was_written() -> None:
    assert read(record().text()) == record()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("no JSON", "it is no record"),
        ("[]", "it is no record"),
        ('{"version": 2}', "version 2"),
        (json.dumps({**json.loads(record().text()), "at": "soon"}), "at: "),
        (json.dumps({**json.loads(record().text()), "more": 1}), "more: "),
    ],
)
def test_what_is_no_record_is_named_with_the_reason(text: str, why: str) -> None:
    found = kept(MemoryRecords({"a": text, "b": record().text()}))

    assert (why in found.unreadable["a"], found.records) == (True, [record()])


def test_a_record_holds_no_secret() -> None:
    assert "hunter22" not in record(waivers={"api": "password=hunter22"}).text()


@pytest.mark.parametrize(("said", "age"), [("12h", timedelta(hours=12)), ("30d", MONTH), ("2w", timedelta(days=14))])
def test_a_plan_says_how_old_it_may_be(plan: Plan, said: str, age: timedelta) -> None:
    assert plan.model_copy(update={"rehearsed_within": said}).rehearsal_age == age


@pytest.mark.parametrize("said", ["30", "0d", "d", "-3d", "30 days", "3m"])
def test_no_other_age_is_taken(plan: Plan, said: str) -> None:
    with pytest.raises(ValueError, match="a number of hours, days or weeks, as 30d"):
        type(plan).model_validate({**plan.model_dump(by_alias=True), "rehearsed_within": said})
