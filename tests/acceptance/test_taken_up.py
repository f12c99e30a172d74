"""A run that one engineer began is carried on by another, on a machine that has nothing of it but the target's address."""

from collections.abc import Callable
from pathlib import Path

import pytest

from runbook_lib.errors import ParametersError, PreconditionError
from runbook_lib.rehearsal.stack import Stack
from runbook_lib.run import Run, engine, lifecycle
from runbook_lib.ui import mirror

from ..support.places import TARGET

BEGUN = ["freeze", "stop-services", "back-up", "clear-backfill"]


def test_another_machine_completes_a_run_and_the_first_no_longer_can(
    broken: Stack, begin: Callable[..., Run], tmp_path: Path
) -> None:
    first = begin("full")
    first.look_before()
    first.approve(first.previews()[0], "tester")
    for name in BEGUN:
        engine.apply(first, name)
    mirror.send(first)

    second = mirror.take_up(TARGET, "", "Kim", outputs=tmp_path / "elsewhere")

    with pytest.raises(ParametersError, match="is here already"):
        mirror.take_up(TARGET, first.folder.id, "Kim", outputs=tmp_path / "elsewhere")
    assert (second.state.handovers, second.context.operator) == (({"from": "tester", "to": "Kim"},), "Kim")
    assert second.folder.id == first.folder.id
    assert second.folder.path != first.folder.path
    with pytest.raises(PreconditionError, match="resumed on another machine"):
        engine.apply(first, "revert-backend")
    assert first.state.step("revert-backend").status == "pending"

    for name in second.steps:
        engine.apply(second, name)
    found = {result.name: result.status for result in lifecycle.verify(second)}
    assert [second.state.step(name).status for name in BEGUN] == ["done"] * len(BEGUN)  # none was done twice
    assert {name for name, status in found.items() if status != "PASS"} == {"returning-users"}  # that cache is elsewhere
    second.close_adapters()
