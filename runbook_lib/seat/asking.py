"""Journals for how long a run waits for a person."""

from collections.abc import Iterator
from contextlib import contextmanager

from runbook_lib.run import Run
from runbook_lib.widgets import attended


@contextmanager
def asked(run: Run, question: str) -> Iterator[None]:
    """Note that a person is asked while the block runs; where nobody sits, nothing is noted."""
    if not attended():
        yield
        return
    run.journal.append("asked", question=question)
    try:
        yield
    finally:
        run.journal.append("answered", question=question)
