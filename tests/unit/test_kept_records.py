"""What a rehearsal that ended green leaves."""

import pytest

from runbook_lib import records
from runbook_lib.rehearsal import record
from runbook_lib.run import Run

from ..support.rehearsals import SUBJECT
from ..support.tiny import FIRST


@pytest.fixture
def rehearsed(run: Run) -> Run:
    """A run that was verified, and then undone."""
    run.journal.append("rehearsal-of", subject=SUBJECT.model_dump())
    run.journal.append("started", step=FIRST, title="Take it back")
    run.journal.append("applied", step=FIRST, seconds=1.5, outcome={})
    run.journal.append("outcome", status="verified", summary="all of it", exit_code=0)
    run.journal.append("started", step=FIRST, title="Take it back", action="undo")
    run.journal.append("undone", step=FIRST, seconds=9.0, outcome={})
    run.journal.append("outcome", status="undone", summary="", exit_code=0)
    return run


def test_it_is_of_the_run_as_it_was_verified_whatever_came_after(rehearsed: Run) -> None:
    said: list[str] = []

    record.keep(rehearsed, said.append)

    (kept,) = records.kept(records.next_to(rehearsed.folder.path.parent)).records
    step = kept.walk.steps[FIRST]
    assert (kept.name, kept.subject) == (rehearsed.folder.id, SUBJECT)
    assert (step.status, step.seconds, step.kind) == ("done", 1.5, "revert")
    assert said == [f"Record: {kept.name} in the folder {rehearsed.folder.path.parent / 'records'}"]


def test_it_is_kept_once(rehearsed: Run) -> None:
    record.keep(rehearsed, lambda _: None)
    record.keep(rehearsed, lambda _: None)

    assert len(records.kept(records.next_to(rehearsed.folder.path.parent)).records) == 1
