"""A whole run undone by one command, one step of it, and a run that nobody will finish ended, on real parts."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest
from click.testing import CliRunner, Result

from runbook_lib.cli import commands
from runbook_lib.errors import PreconditionError
from runbook_lib.headless import conductor
from runbook_lib.rehearsal.stack import Stack
from runbook_lib.run import Run, engine

from ..support.commands import words
from ..support.stacks import as_previewed, asked

ROWS = "SELECT m::text FROM messages m ORDER BY id"


def runbook(*arguments: str | Path) -> tuple[int, dict[str, Any]]:
    done: Result = CliRunner().invoke(commands, [*map(str, arguments), "--json"])
    if done.exception and not isinstance(done.exception, SystemExit):
        return getattr(done.exception, "exit_code", 1), {"error": str(done.exception)}
    return done.exit_code, json.loads(done.stdout)


def edit(running: Stack, identity: int) -> None:
    with psycopg.connect(running.database.conninfo(running.database.application)) as connection:
        connection.execute("UPDATE messages SET attachments = '[{\"mine\": 1}]' WHERE id = %s", [identity])


@pytest.mark.slow
def test_one_approval_undoes_a_verified_run_and_later_edits_stay(broken: Stack, begin: Callable[..., Run]) -> None:
    run = begin("full")
    before = asked(broken, ROWS)
    heads = {name: run.context.checkout(name).head() for name in run.context.plan.repositories}
    assert conductor.carry_out(run.folder.path, as_previewed, {}, lambda line: None).status == "verified"
    cleared = [now for was, now in zip(before, asked(broken, ROWS), strict=True) if was != now]
    edited = int(asked(broken, "SELECT min(id) FROM messages WHERE attachments = '[]' AND media_url IS NOT NULL")[0][0])
    edit(broken, edited)

    code, told = runbook("undo", run.folder.path)
    assert (code, told["refused"], told["undone"]) == (0, {}, [])
    assert told["steps"] == [*reversed([name for name in run.state.steps if run.state.step(name).begun_here])]
    shown = words(CliRunner().invoke(commands, ["undo", str(run.folder.path)]).stdout)
    assert "1 rows that someone changed since keep their values" in shown
    assert f"runbook undo {run.folder.path} --approve {told['digest']}" in shown
    assert runbook("undo", run.folder.path, "--approve", "another")[0] == 1
    assert asked(broken, ROWS) != before

    digest = told["digest"]
    code, told = runbook("undo", run.folder.path, "--approve", digest)

    assert (code, told["outcome"]["status"]) == (0, "undone"), told
    assert "1 rows that someone changed since keep their values" in told["outcome"]["summary"]
    changed = [now for was, now in zip(before, asked(broken, ROWS), strict=True) if was != now]
    assert len(cleared) > 1
    assert [row for (row,) in changed] == [row for (row,) in asked(broken, ROWS) if "mine" in row]
    assert {name: run.context.checkout(name).head() for name in run.context.plan.repositories} == heads
    for name in heads:
        run.context.checkout(name).git("fsck", "--connectivity-only")  # the checkout holds all that its references name
    assert "UNDONE" in (run.folder.path / "report.html").read_text()
    assert runbook("verify", run.folder.path) == (0, {"run": str(run.folder.path), "intact": True, "problems": []})
    (run.folder.path / "report.html").unlink()  # as where the command was killed once all was undone
    code, told = runbook("undo", run.folder.path, "--approve", digest)
    assert (code, told["undone"], told["outcome"]["status"]) == (0, [], "undone")
    assert runbook("verify", run.folder.path)[1]["problems"] == []
    code, told = runbook("undo", run.folder.path)
    assert (code, "nothing to undo" in told["error"]) == (1, True)
    again = conductor.carry_out(begin("full").folder.path, as_previewed, {}, lambda line: None)
    assert (again.status, "git pull --ff-only" in again.summary) == ("failed", True)  # the remote holds the undo's commits
    for name in heads:
        run.context.checkout(name).git("pull", "--quiet", "--ff-only")
    again = conductor.carry_out(begin("full").folder.path, as_previewed, {}, lambda line: None)
    assert again.status == "verified", again  # the target was given back, and a new run rolls back again


def test_one_step_is_undone_and_the_same_command_resumes_a_cut_undo(
    broken: Stack, begin: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = begin("full")
    run.approve(run.previews()[0], "tester")
    for name in ("freeze", "stop-services", "back-up", "clear-backfill"):
        engine.apply(run, name)

    code, told = runbook("undo", run.folder.path, "--step", "stop-services")
    assert (code, list(told["refused"])) == (3, ["stop-services"])
    assert "clear-backfill" in told["refused"]["stop-services"] or "compatibility" in told["refused"]["stop-services"]
    assert runbook("undo", run.folder.path, "--step", "no-step")[0] == 2
    code, told = runbook("undo", run.folder.path, "--step", "clear-backfill")
    assert (code, told["steps"]) == (0, ["clear-backfill"])
    single = {"STEP": "clear-backfill", "APPROVE": told["digest"]}
    assert conductor.execute(run.folder.path, "09-undo", single, lambda line: None) is None
    assert run.state.step("clear-backfill").status == "undone"
    assert run.state.step("clear-backfill").outcome["conflicts"] == 0
    assert not any(map(run.context.adapters.services.is_running, run.context.plan.services))

    digest = runbook("undo", run.folder.path)[1]["digest"]
    real, calls = engine.undo, []

    def cut_short(run: Run, name: str) -> object:
        calls.append(name)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(run, name)

    with monkeypatch.context() as patched:
        patched.setattr(engine, "undo", cut_short)
        CliRunner().invoke(commands, ["undo", str(run.folder.path), "--approve", digest])
    code, told = runbook("undo", run.folder.path, "--approve", digest)
    assert (code, told["outcome"]["status"]) == (0, "undone"), told


def test_a_run_that_nobody_will_finish_is_ended_and_gives_its_lease_back(broken: Stack, begin: Callable[..., Run]) -> None:
    run, other = begin("full"), begin("full")
    for one in (run, other):
        one.approve(one.previews()[0], "tester")
    engine.apply(run, "freeze")
    with pytest.raises(PreconditionError, match="left behind on this target"):
        engine.apply(other, "freeze")

    assert runbook("end", run.folder.path, "--reason", "no")[0] == 2
    code, told = runbook("end", run.folder.path, "--reason", "The release was fixed by hand")

    assert (code, told["outcome"]["status"]) == (0, "ended")
    assert "freeze" in told["outcome"]["summary"]
    engine.apply(other, "stop-services")
    code, told = runbook("run", run.folder.path)
    assert (code, "was ended by tester" in told["error"]) == (3, True)
    assert runbook("end", run.folder.path, "--reason", "The release was fixed by hand")[0] == 3
