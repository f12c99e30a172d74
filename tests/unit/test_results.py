"""Results are never truth values, and unknown is not success."""

import pytest

from runbook_lib.errors import RunbookError, cause
from runbook_lib.results import Result, Status, not_passed, verdict


def result(status: Status) -> Result:
    return Result("name", "Title", status, "seen")


@pytest.mark.parametrize("status", Status)
def test_a_result_is_no_truth_value(status: Status) -> None:
    with pytest.raises(TypeError, match="not a truth value"):
        bool(result(status))


@pytest.mark.parametrize(
    ("statuses", "expected"),
    [
        ([], Status.UNKNOWN),
        ([Status.PASS], Status.PASS),
        ([Status.PASS, Status.UNKNOWN], Status.UNKNOWN),
        ([Status.PASS, Status.UNKNOWN, Status.FAIL], Status.FAIL),
    ],
)
def test_the_worst_counts(statuses: list[Status], expected: Status) -> None:
    assert verdict(map(result, statuses)) is expected


def test_unknown_has_not_passed() -> None:
    assert [r.status for r in not_passed(map(result, Status))] == [Status.FAIL, Status.UNKNOWN]


def test_a_cause_is_all_that_an_error_says_before_where_state_and_remedy() -> None:
    error = RunbookError("“Back up” failed: pg_dump ended:\nFATAL: no room", where="here", state="unknown", safe_next="wait")

    assert cause(str(error)) == "“Back up” failed: pg_dump ended: FATAL: no room"


def test_a_long_cause_keeps_its_beginning_and_its_end() -> None:
    said = cause("failed:\n" + "line\n" * 1000 + "because")

    assert said.startswith("failed: line")
    assert said.endswith("line because")
    assert len(said) < 1100
