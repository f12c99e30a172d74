"""Runs begun by an earlier version are resumed, undone and cleaned up by this one, on their databases."""

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import psycopg
import pytest

from runbook_lib.rehearsal.database import Database

from ..support import old_runs
from ..support.bare import SERVICES, Bare, runbook
from .conftest import EMBEDDED

ROWS = "SELECT (to_jsonb(m) - 'updated_at')::text FROM messages m ORDER BY id"
Rows = list[tuple[object, ...]]
Take = Callable[[str], Bare]


@pytest.fixture
def sample(templates: Callable[[int], Database]) -> Database:
    return templates(EMBEDDED)


@pytest.fixture
def before(sample: Database) -> Rows:
    """The rows as they were before any of the runs."""
    with psycopg.connect(sample.conninfo()) as connection:
        return connection.execute(ROWS).fetchall()


@pytest.fixture
def taken_up(sample: Database) -> Iterator[Take]:
    with ExitStack() as ending:
        yield lambda name: ending.enter_context(old_runs.taken_up(name, sample))


def undone(run: Bare) -> None:
    offered = runbook("undo", run.run)
    done = runbook("undo", run.run, "--approve", re.findall(r"--approve (\w+)", offered.text)[-1])
    assert (done.exit_code, run.status(), run.running()) == (0, "undone", set(SERVICES)), done.text


def cleaned_up(run: Bare) -> None:
    offered = runbook("purge", run.run)
    done = runbook("purge", run.run, "--approve", re.findall(r"--approve (\w+)", offered.text)[-1])
    assert (done.exit_code, run.opened().state.pending) == (0, {}), done.text


@pytest.mark.parametrize("name", ["cleared", "quarantined", "restored"])
def test_a_verified_run_of_an_earlier_version_is_intact_and_undone(taken_up: Take, name: str, before: Rows) -> None:
    run = taken_up(name)
    assert (runbook("verify", run.run).exit_code, run.status()) == (0, "verified")

    undone(run)

    assert run.ask(ROWS) == before


@pytest.mark.parametrize("name", ["cleared", "quarantined", "restored"])
def test_a_verified_run_of_an_earlier_version_is_cleaned_up(taken_up: Take, name: str) -> None:
    cleaned_up(taken_up(name))


@pytest.mark.parametrize("name", ["half_swapped", "half_cleared"])
def test_a_killed_run_of_an_earlier_version_is_resumed(taken_up: Take, name: str) -> None:
    run = taken_up(name)
    run.digest = next(reversed(run.opened().state.previews))

    ended = run.executed()

    assert (ended.exit_code, run.status()) == (0, "verified"), ended.text


@pytest.mark.parametrize("name", ["half_swapped", "half_cleared"])
def test_a_killed_run_of_an_earlier_version_is_undone(taken_up: Take, name: str, before: Rows) -> None:
    run = taken_up(name)

    undone(run)

    assert run.ask(ROWS) == before
