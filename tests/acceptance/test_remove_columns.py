"""The full rollback with option B on real parts: code, schema and history go back together, and forth again."""

from pathlib import Path
from typing import Any

import psycopg
import pytest

from runbook_lib.context import comparison
from runbook_lib.errors import PreconditionError
from runbook_lib.headless import conductor
from runbook_lib.rehearsal.stack import Stack
from runbook_lib.run import Run, cleanup, engine, lifecycle
from runbook_lib.steps.remove_columns import COPY

from ..support.code_steps import BUILT_BEFORE
from ..support.places import PLAN, TARGET
from ..support.stacks import as_previewed


def begun(outputs: Path, mode: str) -> Run:
    run = lifecycle.open_new(PLAN, TARGET, "full", option="B", operator="tester", reason="a test of it", outputs=outputs)
    run.choose("REMOVAL", mode, "tester")
    run.look_before()
    run.approve(run.previews()[0], "tester")
    return run


def rows(running: Stack) -> list[Any]:
    with psycopg.connect(running.database.conninfo(running.database.application)) as connection:
        return connection.execute("SELECT to_jsonb(m) FROM messages m ORDER BY id").fetchall()


@pytest.mark.parametrize("mode", ["quarantine", "drop"])
def test_the_old_version_runs_on_the_old_schema_and_all_can_be_undone(broken: Stack, tmp_path: Path, mode: str) -> None:
    before = rows(broken)
    run = begun(tmp_path, mode)

    for name in run.steps:
        engine.apply(run, name)

    order = list(run.steps)
    assert order.index("revert-backend") < order.index("build-backend") < order.index("remove-columns")
    assert order.index("remove-columns") < order.index("start-services")
    assert {r.name: r.summary for r in lifecycle.verify(run) if r.status != "PASS"} == {}
    assert list((broken.root / "backend" / "migrations").glob("039*")) == []
    assert len(run.state.pending) == 1 + len(BUILT_BEFORE)
    assert (comparison.tables(run.context)["Sample rows"]["attachments after"] == "the column is gone").all()

    for name in reversed(run.steps):
        engine.undo(run, name)

    assert rows(broken) == before
    assert run.state.pending == {}
    assert [r.status for r in run.observe("undone", ["services-running"])] == ["PASS"]
    run.close_adapters()


def test_while_the_feature_runs_its_columns_are_not_removed(broken: Stack, tmp_path: Path) -> None:
    run = begun(tmp_path, "quarantine")

    with pytest.raises(PreconditionError) as error:
        engine.apply(run, "remove-columns")

    assert "still connected: pid" in error.value.what
    assert "backend runs" in error.value.what
    assert "its repository still has the feature" in error.value.what
    run.close_adapters()


def test_the_notebook_ends_verified_and_its_own_digest_purges_what_is_kept(broken: Stack, tmp_path: Path) -> None:
    run = lifecycle.open_new(PLAN, TARGET, "full", option="B", operator="tester", reason="a test of it", outputs=tmp_path)
    parameters = {"OPTION": "B", "CHOICES": "REMOVAL=drop"}
    run.choose("REMOVAL", "drop", "tester")

    outcome = conductor.carry_out(run.folder.path, as_previewed, parameters, lambda text: None)

    assert (outcome.status, set(run.state.pending)) == ("verified", {COPY, *BUILT_BEFORE}), (
        run.folder.journal_path.read_text()[-6000:]
    )
    digest, previews = cleanup.preview(run)
    assert all(preview.irreversible for preview in previews)
    cleanup.clean_up(run, digest, digest)
    assert run.state.pending == {}
    run.close_adapters()
