"""Option A by a swap, by the notebook on real parts; the command line purges the pending cleanup."""

import json
from pathlib import Path

import nbformat
import psycopg
import pytest
from click.testing import CliRunner

from runbook_lib.cli import commands
from runbook_lib.errors import Declined, ParametersError
from runbook_lib.headless import conductor
from runbook_lib.rehearsal.stack import Stack
from runbook_lib.run import Run, cleanup, lifecycle

from ..support.code_steps import BUILT_BEFORE
from ..support.places import PLAN, TARGET


@pytest.fixture
def untouching(tmp_path: Path) -> Path:
    """The plan, but that no row's time of change is touched."""
    text = PLAN.read_text()
    assert "touch_column: updated_at" in text
    path = tmp_path / "plan.yaml"
    path.write_text(text.replace("touch_column: updated_at", "touch_column: null"))
    return path


@pytest.mark.slow
def test_a_swap_is_chosen_verified_and_purged(broken: Stack, untouching: Path, tmp_path: Path) -> None:
    run = lifecycle.open_new(untouching, TARGET, "full", operator="tester", reason="a swap", outputs=tmp_path / "outputs")

    would: list[str] = []

    def approve(run: Run) -> str:
        digest, previews = run.previews()
        would.extend(line for preview in previews for line in preview.would)
        return digest

    outcome = conductor.carry_out(run.folder.path, approve, {}, lambda text: None)

    assert outcome.status == "verified", outcome
    assert run.state.steps["clear-backfill"].outcome["strategy"] == "swap"
    assert any("indexes on the column are dropped during the step" in line for line in would)
    assert set(run.state.pending) == {"old-column", *BUILT_BEFORE}
    conductor.execute(run.folder.path, "05-close-out", {}, lambda text: None)
    closed = nbformat.read(run.folder.path / "05-close-out.ipynb", as_version=4)
    assert [
        "PENDING CLEANUP: " in str(cell.outputs) and "old-column" in str(cell.outputs)
        for cell in closed.cells
        if cell.cell_type == "code"
    ][-1]
    assert "Pending cleanup" in (run.folder.path / "rollback-log.md").read_text()
    assert "Pending cleanup" in (run.folder.path / "report.html").read_text()
    assert "old-column" in CliRunner().invoke(commands, ["status", str(run.folder.path)]).output
    old = [name for name in _columns(broken) if name.startswith("attachments__old_")]
    assert len(old) == 1

    shown = json.loads(CliRunner().invoke(commands, ["purge", str(run.folder.path), "--json"]).output)
    assert old[0] in _columns(broken), "a preview purges nothing"
    with pytest.raises(Declined):
        cleanup.clean_up(lifecycle.open_existing(run.folder.path), shown["digest"], "another")
    done = CliRunner().invoke(commands, ["purge", str(run.folder.path), "--approve", shown["digest"], "--json"])

    assert json.loads(done.output)["paid"] is True
    (run.folder.path / "report.html").unlink()  # as where the command was killed once all was paid
    for which in ([], ["--debt", "old-column"]):
        again = ["purge", str(run.folder.path), *which, "--approve", shown["digest"]]
        assert CliRunner().invoke(commands, again).output == "This run has no pending cleanup.\n"
    assert old[0] not in _columns(broken)
    assert run.state.pending == {}
    assert "Pending cleanup" not in (run.folder.path / "report.html").read_text()
    with pytest.raises(ParametersError, match="no pending cleanup"):
        cleanup.preview(lifecycle.open_existing(run.folder.path), "old-column")


def _columns(stack: Stack) -> list[str]:
    query = "SELECT column_name FROM information_schema.columns WHERE table_name = 'messages'"
    with psycopg.connect(stack.database.conninfo(stack.database.application)) as connection:
        return [row[0] for row in connection.execute(query).fetchall()]
