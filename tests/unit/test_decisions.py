"""Entries that users edited, decided row by row in a file."""

import pytest

from runbook_lib.errors import ParametersError
from runbook_lib.journal.folder import RunFolder
from runbook_lib.steps import backfill_step

ROWS = [{"key": str(number), "edited": [{"caption": "mine, yours"}], "written": {"a": 1}} for number in range(3)]


def decide(folder: RunFolder, *words: str) -> None:
    file = folder.path / backfill_step.FILE
    head, *rows = file.read_text().splitlines()
    file.write_text("\n".join([head, *(row + word for row, word in zip(rows, words, strict=True))]) + "\n")


def test_a_fresh_list_has_nothing_decided(folder: RunFolder) -> None:
    backfill_step.write(folder, ROWS)

    assert backfill_step.read(folder) == backfill_step.Decisions(clear=(), keep=0, undecided=3)


def test_decisions_are_read_back(folder: RunFolder) -> None:
    backfill_step.write(folder, ROWS)
    decide(folder, "keep", "clear", "")

    assert backfill_step.read(folder) == backfill_step.Decisions(clear=("1",), keep=1, undecided=1)


def test_a_list_with_decisions_is_not_written_over(folder: RunFolder) -> None:
    backfill_step.write(folder, ROWS)
    decide(folder, "clear", "clear", "clear")
    backfill_step.write(folder, ROWS)

    assert backfill_step.read(folder).clear == ("0", "1", "2")


def test_another_word_is_refused(folder: RunFolder) -> None:
    backfill_step.write(folder, ROWS)
    decide(folder, "keep", "maybe", "")

    with pytest.raises(ParametersError, match="maybe"):
        backfill_step.read(folder)


def test_more_rows_than_a_person_can_decide_are_refused(folder: RunFolder) -> None:
    many = ({"key": str(number), "edited": [], "written": {}} for number in range(backfill_step.MOST + 1))

    with pytest.raises(ParametersError, match="too many"):
        backfill_step.write(folder, many)

    assert not (folder.path / backfill_step.FILE).exists()
