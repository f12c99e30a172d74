"""What the comparison of two ends looks at, on a real stack: each thing that is spoiled is found."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest

from runbook_lib.rehearsal.chaos.picture import Picture, differences, lost, picture
from runbook_lib.rehearsal.chaos.points import TRIALS, write_plan
from runbook_lib.rehearsal.stack import Stack, stack
from runbook_lib.rehearsal.workspace import MARK, TARGET, marked, settled_in, until
from runbook_lib.run import Run, lifecycle

BEGAN = datetime.now(UTC)


@pytest.fixture(scope="module")
def seated() -> Iterator[tuple[Stack, Run]]:
    """A stack, and a run on it whose backup is made."""
    with stack(200) as up, settled_in(up.environment):
        directory = up.root / "chaos"
        directory.mkdir()
        write_plan(TRIALS["part"], directory / "plan.yaml")
        run = lifecycle.open_new(directory / "plan.yaml", TARGET, "missing-column", outputs=directory)
        backup = run.steps["back-up"]
        run.journal.append("started", step="back-up", title=backup.title)
        run.journal.append("applied", step="back-up", seconds=0, outcome=dict(backup.apply()))
        yield up, run
        run.close_adapters()


def taken(seated: tuple[Stack, Run]) -> Picture:
    up, run = seated
    return picture(up, run, BEGAN, up.root / "chaos")


def changed(up: Stack, statement: str) -> None:
    with psycopg.connect(up.database.conninfo(up.database.application), autocommit=True) as connection:
        connection.execute(statement.encode())


def test_nothing_differs_where_nothing_was_done(seated: tuple[Stack, Run]) -> None:
    assert differences(taken(seated), taken(seated)) == []


def test_one_corrupted_row_is_reported_as_lost(seated: tuple[Stack, Run]) -> None:
    up, _ = seated
    before = taken(seated)

    changed(up, "UPDATE messages SET content = content || '!' WHERE id = 7")
    after = taken(seated)

    assert lost(before, after) == 1
    assert [line.split(":")[0] for line in differences(before, after)] == ["rows of social_selling public.messages"] * 2


def test_an_index_that_is_gone_is_reported(seated: tuple[Stack, Run]) -> None:
    up, _ = seated
    before = taken(seated)

    changed(up, "DROP INDEX idx_messages_attachments")

    (line,) = differences(before, taken(seated))
    assert line.startswith("catalog of social_selling: missing CREATE INDEX idx_messages_attachments")


def test_a_backup_that_is_not_the_recorded_one_is_reported(seated: tuple[Stack, Run]) -> None:
    _, run = seated
    before = taken(seated)

    with Path(run.state.step("back-up").outcome["file"]).open("ab") as file:
        file.write(b"written by somebody else")

    assert "run: unexpected backup as recorded: False" in differences(before, taken(seated))


def test_a_line_changed_in_the_journal_is_reported(seated: tuple[Stack, Run]) -> None:
    _, run = seated
    before, journal = taken(seated), run.folder.journal_path
    kept = shutil.copy(journal, journal.with_suffix(".kept"))

    journal.write_text(journal.read_text().replace("applied", "undone"))
    after = taken(seated)
    shutil.copy(kept, journal)

    assert any("chain is broken" in line for line in differences(before, after))


def test_a_process_that_outlives_its_run_is_reported(seated: tuple[Stack, Run]) -> None:
    up, _ = seated
    directory = up.root / "chaos"
    with ExitStack() as ending:
        command = [sys.executable, "-c", "import time; time.sleep(60)"]
        process = subprocess.Popen(command, env={**os.environ, MARK: str(directory)})
        ending.callback(process.wait)
        ending.callback(process.kill)
        assert until(lambda: marked(directory) == [process.pid], 10)

        assert f"processes left: unexpected {process.pid}" in differences({}, taken(seated))


def test_a_checkout_left_half_way_is_reported(seated: tuple[Stack, Run]) -> None:
    up, _ = seated
    before = taken(seated)

    (up.root / "frontend" / ".git" / "index.lock").touch()
    (up.root / "frontend" / "src" / "app.js").unlink()
    after = taken(seated)

    assert set(differences(before, after)) == {
        "repository frontend: unexpected half-way index.lock",
        "repository frontend: unexpected status D src/app.js",
    }
