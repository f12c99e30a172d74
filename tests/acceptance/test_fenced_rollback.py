"""A full rollback behind a fence: the application cannot connect from its stop to its start, and can as before then."""

from pathlib import Path

import psycopg
import pytest

from runbook_lib.postgres.lease import holder
from runbook_lib.rehearsal.stack import Stack
from runbook_lib.run import engine, lifecycle

from ..support.places import PLAN, TARGET

FENCE, LET_IN, FENCED = "fence-application", "let-application-in", "fence"


@pytest.mark.parametrize("option", ["B", "C"])
def test_the_application_is_kept_out_while_the_database_changes(broken: Stack, tmp_path: Path, option: str) -> None:
    run = lifecycle.open_new(PLAN, TARGET, "full", option=option, operator="tester", reason="a test of it", outputs=tmp_path)
    application = broken.database.conninfo(broken.database.application)
    run.require(run.prerequisites())
    run.look_before()
    run.approve(run.previews()[0], "tester")
    if option == "C":
        engine.apply(run, "restore-staging")  # the loss that it counts is approved too
        run.approve(run.previews()[0], "tester")
    steps = list(run.steps)

    for name in steps[: steps.index(LET_IN)]:
        engine.apply(run, name)
        if name == FENCE:
            assert FENCED in run.state.pending
        if FENCED in run.state.pending:
            with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
                psycopg.connect(application)
    for name in steps[steps.index(LET_IN) :]:
        engine.apply(run, name)

    assert {r.status for r in lifecycle.verify(run)} == {"PASS"}
    assert FENCED not in run.state.pending
    assert lifecycle.close(run).status == "verified"
    with run.context.adapters.postgres.connect() as connection:
        found = holder(connection)
    assert found
    assert (found.run, found.released_at is None) == (run.folder.id, False)
    run.close_adapters()
