"""A real stack and its environment, and runs in a folder of the test's own."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, LiteralString

import psycopg
import pytest

from runbook_lib import opening
from runbook_lib.rehearsal.stack import Stack, stack
from runbook_lib.run import Run

ROOT = Path(__file__).parents[2]
PLAN = ROOT / "parameters" / "feat-2025-20251103111429.yaml"
TARGET = ROOT / "parameters" / "rehearsal.yaml"
ROWS = 600


@contextmanager
def up(fault: str) -> Iterator[Stack]:
    """A stack, with what its target file needs in the environment."""
    before = dict(os.environ)
    with stack(ROWS, fault) as running:
        os.environ.update(running.environment)
        try:
            yield running
        finally:
            os.environ.clear()
            os.environ.update(before)


@pytest.fixture
def broken() -> Iterator[Stack]:
    """A stack on which no media reach any client."""
    with up("all-media-missing") as running:
        yield running


@pytest.fixture
def broken_frontend() -> Iterator[Stack]:
    """A stack on which only the frontend is wrong."""
    with up("frontend-errors") as running:
        yield running


@contextmanager
def beginning(outputs: Path) -> Iterator[Callable[..., Run]]:
    """What begins runs of some type in a folder."""
    begun: list[Run] = []

    def begin(type_name: str) -> Run:
        run = opening.open_new(PLAN, TARGET, type_name, operator="tester", reason="a test of it", outputs=outputs)
        begun.append(run)
        return run

    yield begin
    for run in begun:
        run.close_adapters()


@pytest.fixture
def begin(tmp_path: Path) -> Iterator[Callable[..., Run]]:
    """Begin a run of some type in a folder of the test's own."""
    with beginning(tmp_path) as begin:
        yield begin


def asked(running: Stack, query: LiteralString) -> list[Any]:
    """What the application's role is answered by a stack's database."""
    with psycopg.connect(running.database.conninfo(running.database.application)) as connection:
        return connection.execute(query).fetchall()
