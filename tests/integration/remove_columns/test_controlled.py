"""Option B paused, resumed and ended between two parts."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from runbook_lib.errors import Declined
from runbook_lib.journal.control import ControlFile
from runbook_lib.postgres.column_removal import drop_columns
from runbook_lib.postgres.connection import Postgres
from runbook_lib.results import not_passed
from runbook_lib.steps import Effect
from runbook_lib.steps.remove_columns import RemoveColumns

from ...support.removing import (
    in_mode,
    shape,
)


def channel(step: RemoveColumns) -> ControlFile:
    return ControlFile(step.context.folder.path, step.name)


def at_the_first_part(step: RemoveColumns, act: Callable[[str], object]) -> None:
    """Have something done once, when the step reports a part, and each time that it reports a pause."""
    reporter, told = step.context.reporter, list[str]()

    def seen(kind: str, **data: Any) -> None:
        reporter.append(kind, **data)
        if kind == "progress" and (not told or data["text"] == "paused"):
            told.append(data["text"])
            act(data["text"])

    step.context.reporter = replace(reporter, append=seen)


def test_a_copy_that_ended_between_two_parts_is_resumed(
    step: RemoveColumns, postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drop_columns, "BLOCKS", 1)
    step, heard = in_mode(step, "drop"), list[bool]()
    at_the_first_part(step, lambda text: heard.append(channel(step).request("abort")))

    with pytest.raises(Declined, match="aborted on request"):
        step.apply()

    assert heard == [True]
    assert not channel(step).request("abort")
    assert step.probe().effect is Effect.HALF_DONE
    assert in_mode(step, "drop").apply()["mode"] == "drop"
    assert not_passed(in_mode(step, "drop").verify()) == []


def test_restoring_dropped_columns_pauses_and_resumes_between_two_parts(
    step: RemoveColumns, postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runbook_lib.journal.control.BETWEEN_LOOKS", 0.01)
    before, step = shape(postgres), in_mode(step, "drop")
    step.apply()
    said: list[str] = []

    def steer(text: str) -> None:
        said.append(text)
        assert channel(step).request("resume" if text == "paused" else "pause")

    at_the_first_part(step, steer)

    step.undo()

    assert said[1:] == ["paused"]
    assert shape(postgres) == before
