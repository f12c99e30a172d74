"""A null that asks a person for a value stops every file that is read, with all that is asked."""

from pathlib import Path

import pytest

from runbook_lib.config.loading import read
from runbook_lib.config.open_points import open_points
from runbook_lib.errors import ParametersError


def test_each_open_point_has_its_line_its_key_and_its_question() -> None:
    text = 'a:\n  "b c": null  # decide: which one\nd: [~]  # decide: how many\n'

    assert [str(each) for each in open_points(text)] == ["line 2, a.b c: which one", "line 3, d.0: how many"]


def test_the_question_may_be_above_on_several_lines() -> None:
    text = "a: 1\n# from the log\n# decide: which one,\n#   of two\nb: null\nc: null\n"

    assert [str(each) for each in open_points(text)] == ["line 5, b: which one, of two"]


@pytest.mark.parametrize("text", ["a: null", "a: 1  # decide: which", "a: |\n  null  # decide: which", "a: null  # none"])
def test_what_asks_nothing_is_no_open_point(text: str) -> None:
    assert open_points(text) == []


def test_a_file_with_open_points_is_refused_in_one_error(tmp_path: Path) -> None:
    file = tmp_path / "target.yaml"
    file.write_text("name: null  # decide: what is typed\nplace: null  # decide: where it is\n")

    with pytest.raises(ParametersError) as raised:
        read(file)

    lines = [f"{file} leaves 2 to decide:", "  line 1, name: what is typed", "  line 2, place: where it is"]
    assert raised.value.what.splitlines() == lines
    assert raised.value.state == "Nothing was touched."
