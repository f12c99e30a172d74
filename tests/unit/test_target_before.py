"""What a target says of the state from before, and what it must not."""

import pytest
from pydantic import ValidationError

from runbook_lib.config.target import PointInTime

FILES = {"base": "/base", "wal": "/wal"}
COMMAND = {"command": ["restore", "{folder}"]}


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({}, "name either `base` and `wal`, or the `command`"),
        ({"base": "/base"}, "name either `base` and `wal`, or the `command`"),
        (FILES | COMMAND, "name either `base` and `wal`, or the `command`"),
        ({"command": ["restore", "/there"]}, "must name the folder that it restores into by {folder}"),
        (FILES | {"at": "2025-11-03 11:14:29"}, "it must be a moment with its zone"),
        (FILES | {"at": "yesterday"}, "it must be a moment with its zone"),
    ],
)
def test_what_cannot_lead_to_a_state_is_refused_when_it_is_read(keys: dict[str, object], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        PointInTime.model_validate({"kind": "point-in-time", **keys})


@pytest.mark.parametrize("keys", [FILES, COMMAND, FILES | {"at": "2025-11-03 11:14:29.123456+00:00"}])
def test_files_or_a_command_lead_there(keys: dict[str, object]) -> None:
    assert PointInTime.model_validate({"kind": "point-in-time", **keys}).timeout == 4 * 3600
