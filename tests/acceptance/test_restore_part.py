"""The smaller restore on real parts: a column that went missing comes back from the backup alone, by plan and run."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, LiteralString

import psycopg
import pytest

from runbook_lib.rehearsal.stack import Stack
from runbook_lib.run import cleanup, lifecycle

from ..support.places import PLAN, TARGET

NAME = "restore-media-url"
REST: LiteralString = "SELECT to_jsonb(m) - 'media_url' FROM messages m ORDER BY id"
MEDIA: LiteralString = "SELECT id, media_url FROM messages ORDER BY id"

Ask = Callable[[LiteralString], list[Any]]


@pytest.fixture
def ask(sound: Stack) -> Ask:
    def ask(query: LiteralString) -> list[Any]:
        with psycopg.connect(sound.database.conninfo(sound.database.application), autocommit=True) as connection:
            done = connection.execute(query)
            return done.fetchall() if done.description else []

    return ask


def runbook(*arguments: str) -> dict[str, Any]:
    command = [sys.executable, "-c", "from runbook_lib.cli import main; main()", *arguments, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def test_plan_and_run_bring_a_lost_column_back_and_change_nothing_else(ask: Ask) -> None:
    rest, media = ask(REST), ask(MEDIA)
    ask("ALTER TABLE messages DROP media_url")

    planned = runbook("plan", "--plan", str(PLAN), "--target", str(TARGET), "--type", "missing-column")
    preview = planned["previews"][-1]
    assert (preview["volumes"], preview["facts"]["part"]) == ({"rows": 200, "left alone": 0}, "column")
    assert ask("SELECT count(*) FROM pg_attribute WHERE attrelid = 'messages'::regclass AND attname = 'media_url'") == [(0,)]
    done = runbook("run", planned["run"], "--approve", planned["digest"])

    assert done["outcome"]["status"] == "verified"
    assert list(done["debts"]) == [f"{NAME}-undo"]
    assert (ask(REST), ask(MEDIA)) == (rest, media)
    run = lifecycle.open_existing(Path(planned["run"]))
    digest, _ = cleanup.preview(run)
    cleanup.clean_up(run, digest, digest)
    assert run.state.pending == {}
