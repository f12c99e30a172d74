"""A run of two steps whose effect is a word in memory."""

import pytest

from runbook_lib import run as run_module
from runbook_lib.run import Run

from ...support.tiny import FIRST, SECOND, Tiny


@pytest.fixture
def steps(run: Run, monkeypatch: pytest.MonkeyPatch) -> dict[str, Tiny]:
    made = {name: Tiny(name, run) for name in (FIRST, SECOND)}
    monkeypatch.setattr(run_module, "steps_of", lambda context: made)
    run.journal.append("chosen", name="TYPE", value="frontend", by="parameter")
    run.refresh()
    return made


@pytest.fixture
def step(steps: dict[str, Tiny]) -> Tiny:
    return steps[FIRST]


@pytest.fixture
def approved(run: Run, steps: dict[str, Tiny]) -> Run:
    digest, _ = run.previews()
    run.approve(digest, "Dana")
    return run
