"""Purging the cache between the services and their users."""

from pathlib import Path

import pytest

from runbook_lib.config.target import CachePurge
from runbook_lib.errors import StepFailed
from runbook_lib.run import Run, engine
from runbook_lib.steps.purge_cache import PurgeCacheKeys
from runbook_lib.system.processes import LocalProcesses

NAME = "purge-cache"


def purging(run: Run, *command: str) -> Run:
    """The run with a purge as its one step, approved."""
    context = run.context
    kind = context.plan.types["full"].model_copy(update={"steps": [NAME]})
    steps = {**context.plan.steps, NAME: PurgeCacheKeys(kind="purge_cache", title="Purge", estimate=1)}
    context.plan = context.plan.model_copy(update={"steps": steps, "types": {**context.plan.types, "full": kind}})
    purge = CachePurge(command=list(command)) if command else None
    context.target = context.target.model_copy(update={"cache_purge": purge})
    context.adapters = context.adapters.but(processes=LocalProcesses())
    digest, _ = run.previews()
    run.approve(digest, "Dana")
    return run


def test_a_cache_is_purged_once(run: Run, tmp_path: Path) -> None:
    log = tmp_path / "log"
    purging(run, "sh", "-c", f"echo purged >> {log}")
    previewed = log.exists()

    for _ in range(2):
        engine.apply(run, NAME)

    assert (previewed, log.read_text()) == (False, "purged\n")


def test_a_purge_that_fails_is_no_success(run: Run) -> None:
    purging(run, "false")

    with pytest.raises(StepFailed, match="exit code 1"):
        engine.apply(run, NAME)


def test_a_target_without_a_cache_goes_through(run: Run) -> None:
    purging(run)

    assert engine.apply(run, NAME).how == "already done: the target names no cache to purge"
