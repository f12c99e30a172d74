"""Stacks with and without a fault, and runs in a folder of the test's own."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from runbook_lib.rehearsal.stack import Stack
from runbook_lib.run import Run

from ..support.stacks import beginning, up


@pytest.fixture
def broken() -> Iterator[Stack]:
    """A stack on which no media reach any client."""
    with up("all-media-missing") as running:
        yield running


@pytest.fixture
def sound() -> Iterator[Stack]:
    """A stack with a release that works."""
    with up("none") as running:
        yield running


@pytest.fixture
def broken_frontend() -> Iterator[Stack]:
    """A stack on which only the frontend is wrong."""
    with up("frontend-errors") as running:
        yield running


@pytest.fixture
def begin(tmp_path: Path) -> Iterator[Callable[..., Run]]:
    """Begin a run of some type in a folder of the test's own."""
    with beginning(tmp_path) as begin:
        yield begin
