"""The night when nothing else runs: a sheet, psql and a shell reach what the run itself would."""

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runbook_lib.headless import conductor
from runbook_lib.rehearsal.stack import Stack
from runbook_lib.run import Run, by_hand, lifecycle

from ..support.sheets import executed, state_of
from ..support.stacks import RUNBOOK, as_previewed, ignore, up

pytestmark = pytest.mark.slow

Begin = Callable[..., Run]
NOT_SEEN_AFTERWARDS = ["freeze", "stop-services", "back-up", "purge-cache"]  # released, started, without a hash, and a cache


def left(running: Stack, run: Run) -> dict[str, Any]:
    """Tables, schema and history, the files of both repositories, and which services run."""
    checkouts = {name: run.context.checkout(name) for name in ("backend", "frontend")}
    return {
        "database": state_of(running.database, run.folder.short),
        "files": {name: checkout.git.says("rev-parse", "HEAD^{tree}") for name, checkout in checkouts.items()},
        "running": run.context.adapters.services.all_running(),
    }


def test_a_full_rollback_by_hand_leaves_what_the_run_leaves(begin: Begin, tmp_path: Path) -> None:
    with up("all-media-missing") as running:
        by_tool = begin("full")
        assert conductor.carry_out(by_tool.folder.path, as_previewed, {}, ignore).status == "verified"
        wanted = left(running, by_tool)
        by_tool.close_adapters()

    with up("all-media-missing") as running:
        run, file = begin("full"), tmp_path / "sheet.md"
        run.previews()
        subprocess.run([RUNBOOK, "sheet", str(run.folder.path), "-o", str(file)], check=True, capture_output=True)
        said = executed(file.read_text(), running.database.server.tools, "rehearsal")

        assert [line for line, code, _ in said if code] == [next(line for line, _, _ in said if line.startswith("rm "))]
        assert left(running, run) == wanted

        for name in run.steps:
            by_hand.record(run.folder.path, name, "done", "by the sheet", "Kim")
        by_hand.look(run)
        results = lifecycle.verify(run)
        outcome = lifecycle.judge(run.context.plan, run.state)

    assert {result.name for result in results if result.status != "PASS"} == {"returning-users"}  # nobody was there before
    assert (outcome.status, [n for n in NOT_SEEN_AFTERWARDS if n in outcome.summary]) == ("unknown", NOT_SEEN_AFTERWARDS)
    assert [name for name in run.steps if not run.state.step(name).is_done] == NOT_SEEN_AFTERWARDS
