"""How large the next batch may be, and when to wait."""

import pytest

from runbook_lib.postgres.backfill_removal.throttle import LARGEST, TARGET, Pressure, resized


@pytest.mark.parametrize(
    ("pages", "seconds", "following"),
    [
        pytest.param(100, TARGET / 2, 120, id="quick: a fifth more and no further"),
        pytest.param(100, TARGET / 1.1, 110, id="nearly at the target"),
        pytest.param(100, TARGET, 100, id="at the target"),
        pytest.param(100, TARGET * 4, 25, id="four times too slow"),
        pytest.param(1, TARGET * 100, 1, id="never less than a page"),
        pytest.param(LARGEST, 0.001, LARGEST, id="never more than the largest"),
        pytest.param(100, 0.0, 121, id="nothing was to be done"),
    ],
)
def test_a_batch_is_sized_by_the_one_before(pages: int, seconds: float, following: int) -> None:
    assert resized(pages, seconds, LARGEST) == following


@pytest.mark.parametrize(
    ("found", "too_much", "says"),
    [
        pytest.param(Pressure(0.0, ()), False, "", id="nobody suffers"),
        pytest.param(Pressure(1.5, ()), False, "", id="a replica just near enough"),
        pytest.param(Pressure(1.6, ()), True, "1.6 s behind", id="a replica falls behind"),
        pytest.param(Pressure(0.0, ("pid 7 waits",)), True, "pid 7", id="a session waits for us"),
    ],
)
def test_what_is_too_much_for_others(found: Pressure, too_much: bool, says: str) -> None:
    assert found.too_much is too_much
    assert says in str(found)
