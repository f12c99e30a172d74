"""A full rollback behind a fence: the application cannot connect from its stop to its start, and can as before then."""

from pathlib import Path

import psycopg
import pytest

from runbook_lib import closing, loop, opening
from runbook_lib.adapters.postgres.lease import holder
from runbook_lib.rehearsal.stack import Stack

from .conftest import PLAN, TARGET

FENCE, LET_IN = "fence-application", "let-application-in"


def fenced_plan(directory: Path) -> Path:
    """The plan, with the fence in option A too."""
    text = PLAN.read_text()
    for kind in ("fence", "let_in"):
        text = text.replace(f"kind: {kind}, options: [B, C]", f"kind: {kind}")
    text = text.replace("      - back-up\n", f"      - {FENCE}\n      - back-up\n")
    path = directory / "plan.yaml"
    path.write_text(text.replace("      - start-backend\n", f"      - {LET_IN}\n      - start-backend\n"))
    return path


def test_the_application_is_out_while_the_database_changes_and_back_afterwards(broken: Stack, tmp_path: Path) -> None:
    run = opening.open_new(fenced_plan(tmp_path), TARGET, "full", operator="tester", reason="a test of it", outputs=tmp_path)
    application = broken.database.conninfo(broken.database.application)
    run.require(run.prerequisites())
    run.approve(run.previews()[0], "tester")
    steps = list(run.steps)
    assert steps[:3] == ["stop-services", FENCE, "back-up"]

    for name in steps[: steps.index(LET_IN)]:
        loop.apply(run, name)
        if name == FENCE:
            assert list(run.state.debts) == ["fence"]
    with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
        psycopg.connect(application)
    for name in steps[steps.index(LET_IN) :]:
        loop.apply(run, name)

    assert {r.status for r in closing.verify(run)} == {"PASS"}
    assert run.state.debts == {}
    assert closing.close(run).status == "verified"
    with run.context.postgres.connect() as connection:
        found = holder(connection)
    assert found
    assert found.released_at
    run.close_adapters()
