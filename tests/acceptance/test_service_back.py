"""Service back now, on real parts: back from before the middle, forward from behind it."""

import json
import subprocess
from collections.abc import Callable
from typing import Any

import pytest
from click.testing import CliRunner

from runbook_lib.cli import commands
from runbook_lib.context.old_code import live_commits
from runbook_lib.errors import PreconditionError
from runbook_lib.headless import conductor
from runbook_lib.rehearsal.stack import Stack
from runbook_lib.run import Run, engine, lifecycle

FORWARD = ["build-backend", "revert-frontend", "build-frontend", "start-services"]


def asked(run: Run, *options: str) -> dict[str, Any]:
    done = CliRunner().invoke(commands, ["service-back", str(run.folder.path), "--json", *options], catch_exceptions=False)
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def moves(told: dict[str, Any]) -> list[str]:
    return [f"{move['action']} {move['step']}" for move in told["moves"]]


def remote_tip(running: Stack, repository: str) -> str:
    command = ["git", "rev-parse", "main"]
    return subprocess.check_output(command, cwd=running.root / f"{repository}.git", text=True).strip()


def test_before_the_middle_it_leads_back_and_after_it_forward_to_verified(broken: Stack, begin: Callable[..., Run]) -> None:
    run = begin("full")
    feature = {name: run.context.checkout(name).head() for name in run.context.plan.repositories}
    run.look_before()
    run.approve(run.previews()[0], "tester")
    for name in ("stop-services", "back-up"):
        engine.apply(run, name)
    engine.apply(run, "clear-backfill")
    with pytest.raises(PreconditionError, match=r"compatibility table: .*backend would run the feature's code"):
        engine.undo(run, "stop-services")
    engine.undo(run, "clear-backfill")

    told = asked(run)
    assert (moves(told), told["done"]) == (["undo stop-services"], [])
    assert not run.context.adapters.services.is_running("frontend")  # only looked so far
    walked = asked(run, "--approve", told["digest"])
    assert (walked["done"], walked["outcome"]["status"]) == (["stop-services"], "service-back")
    said = CliRunner().invoke(commands, ["status", str(run.folder.path)]).stdout
    assert ("SERVICE BACK, NOT FINISHED" in said, "$ runbook run " in said) == (True, True)
    assert "SERVICE BACK, NOT FINISHED" in (run.folder.path / "report.html").read_text()
    assert {r.status for r in run.observe("back", ["services-running"])} == {"PASS"}

    for name in ("freeze", "stop-services", "back-up", "clear-backfill", "revert-backend"):
        engine.apply(run, name)
    assert run.state.outcome is None
    told = asked(run)
    assert moves(told) == [f"apply {name}" for name in FORWARD]
    assert conductor.execute(run.folder.path, "08-service-back", {"APPROVE": told["digest"]}, lambda line: None) is None
    assert [run.state.step(name).status for name in FORWARD] == ["done"] * len(FORWARD)

    assert run.state.outcome["status"] == "service-back"  # type: ignore[index]

    assert moves(asked(run)) == []
    for name in ("push-backend", "push-frontend"):
        assert remote_tip(broken, name.removeprefix("push-")) == feature[name.removeprefix("push-")]
        engine.apply(run, name)
    for name in ("purge-cache", "release"):
        engine.apply(run, name)
    assert {r.name: r.summary for r in lifecycle.verify(run) if r.status != "PASS"} == {}
    assert lifecycle.close(run).status == "verified"
    for repository in run.context.plan.repositories:
        assert remote_tip(broken, repository) == run.context.checkout(repository).head() != feature[repository]
        assert live_commits(run.context, repository) == []
