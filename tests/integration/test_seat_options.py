"""What each option would change and lose, counted on a real database."""

from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

from runbook_lib.adapters.postgres.connection import Connection, Postgres, one
from runbook_lib.context import Context
from runbook_lib.folder import RunFolder
from runbook_lib.journal import Journal
from runbook_lib.plan import Plan
from runbook_lib.run import Run
from runbook_lib.seat import options


def test_each_option_is_told_in_numbers(plan: Plan, postgres: Postgres, connection: Connection, tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path, "", "full")
    Journal(folder.journal_path).append("opened", plan=plan.feature, type="full", option="A", operator="Dana")
    backups = SimpleNamespace(directory=str(tmp_path), pattern="*.dump")
    target = SimpleNamespace(name="test", backups=backups)
    context = Context(plan, target, folder, "full", "A", "Dana", datetime.now(UTC))  # type: ignore[arg-type]
    context.__dict__["postgres"] = postgres
    affected = context.backfill.count(connection)
    filled = one(connection, "SELECT count(attachments) AS n FROM messages")["n"]

    text = options.compared(Run(folder, context)).text

    assert affected > 0
    assert f"{affected} rows of messages lose the backfilled entries" in text
    assert f"attachments of {filled} rows" in text
    assert "cannot be told: There is no *.dump" in text
