"""Entries that users edited, decided row by row in a file."""

from pathlib import Path

import pytest

from runbook_lib.errors import ParametersError
from runbook_lib.folder import RunFolder
from runbook_lib.steps import decisions

ROWS = [{"key": str(number), "edited": [{"caption": "mine, yours"}], "written": {"a": 1}} for number in range(3)]


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder.create(tmp_path, "INC-1", "full")


def decide(folder: RunFolder, *words: str) -> None:
    file = folder.path / decisions.FILE
    head, *rows = file.read_text().splitlines()
    file.write_text("\n".join([head, *(row + word for row, word in zip(rows, words, strict=True))]) + "\n")


def test_a_fresh_list_has_nothing_decided(folder: RunFolder) -> None:
    decisions.write(folder, ROWS)

    assert decisions.read(folder) == decisions.Decisions(clear=(), keep=0, undecided=3)


def test_decisions_are_read_back(folder: RunFolder) -> None:
    decisions.write(folder, ROWS)
    decide(folder, "keep", "clear", "")

    assert decisions.read(folder) == decisions.Decisions(clear=("1",), keep=1, undecided=1)


def test_a_list_with_decisions_is_not_written_over(folder: RunFolder) -> None:
    decisions.write(folder, ROWS)
    decide(folder, "clear", "clear", "clear")
    decisions.write(folder, ROWS)

    assert decisions.read(folder).clear == ("0", "1", "2")


def test_another_word_is_refused(folder: RunFolder) -> None:
    decisions.write(folder, ROWS)
    decide(folder, "keep", "maybe", "")

    with pytest.raises(ParametersError, match="maybe"):
        decisions.read(folder)


def test_more_rows_than_a_person_can_decide_are_refused(folder: RunFolder) -> None:
    many = ({"key": str(number), "edited": [], "written": {}} for number in range(decisions.MOST + 1))

    with pytest.raises(ParametersError, match="too many"):
        decisions.write(folder, many)

    assert not (folder.path / decisions.FILE).exists()
