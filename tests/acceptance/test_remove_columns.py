"""The full rollback with option B on real parts: code, schema and history go back together, and forth again."""

from pathlib import Path
from typing import Any

import psycopg
import pytest

from runbook_lib import closing, comparison, conductor, loop, opening, purging
from runbook_lib.errors import PreconditionError
from runbook_lib.rehearsal.stack import Stack
from runbook_lib.run import Run
from runbook_lib.steps.remove_columns import COPY

from .conftest import PLAN, TARGET


def begun(outputs: Path, mode: str) -> Run:
    run = opening.open_new(PLAN, TARGET, "full", option="B", operator="tester", reason="a test of it", outputs=outputs)
    run.choose("REMOVAL", mode, "tester")
    run.look_before()
    run.approve(run.previews()[0], "tester")
    return run


def rows(running: Stack) -> list[Any]:
    with psycopg.connect(running.database.conninfo(running.database.application)) as connection:
        return connection.execute("SELECT to_jsonb(m) FROM messages m ORDER BY id").fetchall()


@pytest.mark.parametrize("mode", ["quarantine", "drop"])
def test_the_old_version_runs_on_the_old_schema_with_file_and_history_row_gone_and_all_can_be_undone_pitfalls_17_18_25(
    broken: Stack, tmp_path: Path, mode: str
) -> None:
    before = rows(broken)
    run = begun(tmp_path, mode)

    for name in run.steps:
        loop.apply(run, name)

    order = list(run.steps)
    assert order.index("revert-backend") < order.index("build-backend") < order.index("remove-columns")
    assert order.index("remove-columns") < order.index("start-backend")
    assert {r.name: r.summary for r in closing.verify(run) if r.status != "PASS"} == {}
    assert list((broken.root / "backend" / "migrations").glob("039*")) == []
    assert len(run.state.debts) == 1
    assert (comparison.tables(run.context)["Sample rows"]["attachments after"] == "the column is gone").all()

    for name in reversed(run.steps):
        loop.undo(run, name)

    assert rows(broken) == before
    assert run.state.debts == {}
    assert [r.status for r in run.observe("undone", ["services-running"])] == ["PASS"]
    run.close_adapters()


def test_while_the_feature_runs_its_columns_are_not_removed(broken: Stack, tmp_path: Path) -> None:
    run = begun(tmp_path, "quarantine")

    with pytest.raises(PreconditionError) as error:
        loop.apply(run, "remove-columns")

    assert "still connected: pid" in error.value.what
    assert "backend runs" in error.value.what
    assert "its repository still holds the feature" in error.value.what
    run.close_adapters()


def test_the_notebook_leads_to_a_verified_end_and_what_is_kept_is_purged_by_its_own_digest(
    broken: Stack, tmp_path: Path
) -> None:
    run = opening.open_new(PLAN, TARGET, "full", option="B", operator="tester", reason="a test of it", outputs=tmp_path)
    parameters = {"OPTION": "B", "CHOICES": "REMOVAL=drop"}
    run.choose("REMOVAL", "drop", "tester")

    outcome = conductor.carry_out(run.folder.path, lambda run: run.previews()[0], parameters, lambda text: None)

    assert (outcome.status, set(run.state.debts)) == ("verified", {COPY}), run.folder.journal_path.read_text()[-6000:]
    digest, previews = purging.preview(run)
    assert previews[0].title.startswith("IRREVERSIBLE")
    purging.pay(run, digest, digest)
    assert run.state.debts == {}
    run.close_adapters()
