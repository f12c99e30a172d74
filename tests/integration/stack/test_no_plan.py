"""docs/no-plan.md is walked on the Node stack, from a draft to a preview that can be approved, and its time is counted."""

import re
import time
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
import yaml

from runbook_lib.errors import PreconditionError
from runbook_lib.rehearsal.stack import stack
from runbook_lib.rehearsal.stack_file import named
from runbook_lib.rehearsal.workspace import settled_in

from ...support.commands import words
from ...support.documented import blocks, printed
from ...support.places import ROOT
from ...support.sample import FEATURE
from ...support.stack_access import ROWS, THREAD

PAGE = ROOT / "docs" / "no-plan.md"
CHARACTERS, LINES = 3, 1.5  # typed a second; seconds to read one
MINUTES = 5


@pytest.mark.slow
def test_from_a_draft_to_a_preview_that_can_be_approved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    try:
        named("node").require()
    except PreconditionError as error:
        pytest.skip(f"{error.what} {error.safe_next}")
    monkeypatch.setenv("RUNBOOK_PROJECT", str(tmp_path))
    typed = blocks(PAGE)
    folder = tmp_path / "team"
    folder.mkdir()
    with stack(ROWS, "frontend-errors", "node") as running, settled_in(running.environment):
        headers = {"Authorization": f"Bearer {running.environment['REHEARSAL_API_TOKEN']}"}
        httpx.get(running.environment["REHEARSAL_BACKEND_URL"] + THREAD, headers=headers, trust_env=False).raise_for_status()
        target = ROOT / "parameters" / "rehearsal-node.yaml"
        about = replace(typed[0], typed=f"T={target}\nID={FEATURE}\nBACKUPS={running.root}/backups\n")
        begun = time.monotonic()
        found = printed([about, *typed[1:]], folder, 280)
        machine = time.monotonic() - begun

    assert [code for _, code in found] == [0] * len(typed), found
    assert re.search(r"To execute it: runbook run \S+ --approve [0-9a-f]{16}", words(found[-1][0]))
    plan = (folder / "parameters" / f"{FEATURE}.yaml").read_text()
    assert yaml.safe_load(plan)["checks"].keys() == {"backend-health", "backend-answer", "frontend-page"}
    lines, characters = len(plan.splitlines()), sum(len(each.typed) for each in typed)
    person = characters / CHARACTERS + lines * LINES
    print(f"typed {characters} characters, read {lines} lines: {person:.0f} s of a person, {machine:.0f} s of the machine")
    assert lines <= 60
    assert person <= MINUTES * 60
