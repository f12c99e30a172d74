"""What a step took before, in a run like this one."""

import pytest

from runbook_lib.journal.past import Past, measured

from ..support.rehearsals import walk

KEY = ("SHOP-41", "full", "A")
OLD, NEW = Past(KEY, {"stop": 3.0, "clear": 10.0}, 1000, "2026-11-01"), Past(KEY, {"stop": 2.0}, 1000, "2026-11-30")


@pytest.mark.parametrize(
    ("step", "rows", "grows", "found"),
    [
        ("stop", 1000, False, (2.0, "2026-11-30")),
        ("stop", 90_000, False, (2.0, "2026-11-30")),
        ("clear", 1000, True, (10.0, "2026-11-01")),
        ("clear", 2000, True, (20.0, "2026-11-01")),
        ("clear", 2001, True, None),
        ("clear", 0, True, None),
        ("start", 1000, False, None),
    ],
)
def test_the_newest_run_of_about_this_size_counts(
    step: str, rows: int, grows: bool, found: tuple[float, str] | None
) -> None:
    assert measured([OLD, NEW], KEY, step, rows, grows=grows) == found


def test_a_run_of_another_option_teaches_nothing() -> None:
    assert measured([NEW], ("SHOP-41", "full", "B"), "stop", 1000, grows=False) is None


def test_a_record_teaches_what_its_rehearsal_took() -> None:
    assert measured([walk().past("A")], KEY, "clear", 1500, grows=True) == (12.0, "2026-12-01T12:00:00+00:00")
