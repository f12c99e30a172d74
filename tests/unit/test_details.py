"""What else an option leaves open, as one parameter."""

import pytest

from runbook_lib.errors import ParametersError
from runbook_lib.run import approval


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("", {}),
        ("STRATEGY=swap", {"STRATEGY": "swap"}),
        (" STRATEGY = swap , EDITED=clear,", {"STRATEGY": "swap", "EDITED": "clear"}),
    ],
)
def test_values_are_read_from_one_line(text: str, values: dict[str, str]) -> None:
    assert approval.read(text) == values


@pytest.mark.parametrize("text", ["STRATEGY", "STRATEGY=", "=swap", "STRATEGY=swap, EDITED"])
def test_what_is_not_name_and_value_is_refused(text: str) -> None:
    with pytest.raises(ParametersError, match="NAME=value"):
        approval.read(text)


def test_a_name_that_cannot_be_chosen_here_is_refused_with_those_that_can() -> None:
    with pytest.raises(ParametersError) as caught:
        approval.require_known({"REMOVAL": "drop"}, {"STRATEGY": ()})

    assert "REMOVAL" in caught.value.what
    assert "STRATEGY" in caught.value.safe_next
