"""What each option would change and lose, counted on a real database."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from runbook_lib.config.plan import Plan
from runbook_lib.context import Context
from runbook_lib.context.adapters import Adapters
from runbook_lib.journal import Journal
from runbook_lib.journal.folder import RunFolder
from runbook_lib.journal.state import replay
from runbook_lib.postgres.connection import Connection, Postgres, one
from runbook_lib.run import Run
from runbook_lib.ui import triage_cells

pytestmark = pytest.mark.newest


def test_each_option_is_shown_in_numbers(plan: Plan, postgres: Postgres, connection: Connection, tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path, "", "full")
    opened = Journal(folder.journal_path).append("opened", plan=plan.feature, type="full", option="A", operator="Dana")
    backups = SimpleNamespace(directory=str(tmp_path), pattern="*.dump")
    target = SimpleNamespace(name="test", backups=backups, before=None)
    adapters = Adapters(target, folder, postgres=postgres)  # type: ignore[arg-type]
    context = Context(plan, target, folder, adapters, replay([opened]), "Dana")  # type: ignore[arg-type]
    affected = context.backfill(connection).count(connection)
    filled = one(connection, "SELECT count(attachments) AS n FROM messages")["n"]

    run = Run(folder, context)
    text = triage_cells.in_numbers(run, triage_cells.counted(run)).text

    assert affected > 0
    assert f"{affected} rows of messages lose the backfilled entries" in text
    assert f"attachments of {filled} rows" in text
    assert "unknown: There is no *.dump" in text
