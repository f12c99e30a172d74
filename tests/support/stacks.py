"""A real stack and its environment, and what the tests of whole rollbacks do on it."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, LiteralString

import psycopg

from runbook_lib.rehearsal.stack import Stack, stack
from runbook_lib.run import Run, lifecycle

from .places import PLAN, TARGET

ROWS = 600
RUNBOOK = str(Path(sys.executable).with_name("runbook"))


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


@contextmanager
def beginning(outputs: Path) -> Iterator[Callable[..., Run]]:
    """What begins runs of some type in a folder."""
    begun: list[Run] = []

    def begin(type_name: str) -> Run:
        run = lifecycle.open_new(PLAN, TARGET, type_name, operator="tester", reason="a test of it", outputs=outputs)
        begun.append(run)
        return run

    yield begin
    for run in begun:
        run.close_adapters()


def asked(running: Stack, query: LiteralString) -> list[Any]:
    """What the application's role is answered by a stack's database."""
    with psycopg.connect(running.database.conninfo(running.database.application)) as connection:
        return connection.execute(query).fetchall()


def as_previewed(run: Run) -> str:
    """Approve a run's preview, whatever it holds."""
    return run.previews()[0]


def ignore(_: str) -> None:
    """Ignore the reports of a run."""
