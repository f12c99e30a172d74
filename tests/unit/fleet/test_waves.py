"""Every target is in exactly one wave, the canaries first."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from runbook_lib.config.fleet import Fleet
from runbook_lib.fleet.waves import waves

names = st.integers(1, 40).map(lambda count: [f"t{number}" for number in range(count)])
sizes = st.lists(st.integers(1, 9) | st.integers(1, 100).map("{} %".format), max_size=5).map(lambda found: [*found, "rest"])


@given(names, st.data(), sizes)
def test_every_target_is_in_one_wave_in_order(found: list[str], data: st.DataObject, of: list[int | str]) -> None:
    canaries = data.draw(st.lists(st.sampled_from(found), unique=True))

    made = waves(found, canaries, of)

    assert sorted(name for wave in made for name in wave) == sorted(found)
    assert all(made)
    assert not canaries or made[0] == [name for name in found if name in canaries]
    assert [name for wave in made for name in wave if name not in canaries] == [n for n in found if n not in canaries]


def test_a_share_counts_all_targets_but_the_canaries_rounded_up() -> None:
    found = [f"t{n}" for n in range(21)]

    assert [len(wave) for wave in waves(found, ["t0"], [1, "5 %", "25 %", "rest"])] == [1, 1, 1, 5, 13]


@pytest.mark.parametrize("wrong", [[1], ["rest", 1], ["rest", "rest"], [0, "rest"], ["150 %", "rest"], ["half", "rest"]])
def test_waves_that_leave_targets_out_are_refused(wrong: list[int | str]) -> None:
    whole = {"name": "f", "plan": "p", "type": "full", "template": "t", "targets": {"list": ["a"]}}
    Fleet.model_validate(whole)

    with pytest.raises(ValidationError):
        Fleet.model_validate({**whole, "waves": wrong})
