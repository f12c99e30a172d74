"""A run's context on a clone of the sample database, for steps whose DDL is tried on a clone of it."""

from dataclasses import replace
from pathlib import Path

from runbook_lib.config.plan import Plan
from runbook_lib.context import Context
from runbook_lib.context.adapters import Adapters
from runbook_lib.documents import load_target
from runbook_lib.journal.folder import RunFolder
from runbook_lib.journal.state import RunState
from runbook_lib.postgres.connection import Postgres
from runbook_lib.rehearsal.database import Database
from runbook_lib.results import Result
from runbook_lib.steps.clear_backfill import ClearBackfill
from runbook_lib.steps.remove_columns import RemoveColumns

from .places import TARGET

WAYS = {
    "swap": ("clear-backfill", {"STRATEGY": "swap"}),
    "batched": ("clear-backfill", {"STRATEGY": "batched"}),
    "quarantine": ("remove-columns", {"REMOVAL": "quarantine"}),
    "drop": ("remove-columns", {"REMOVAL": "drop"}),
}


def context_of(plan: Plan, database: Database, postgres: Postgres, directory: Path) -> Context:
    """The context of a run that has not begun; the plan touches no time of change, so that each way is possible."""
    environment = {f"REHEARSAL_{name}": str(directory) for name in ("ROOT", "API_TOKEN", "PG_BIN", "PYTHON")}
    environment |= {f"REHEARSAL_{name}_URL": "http://localhost:1" for name in ("BACKEND", "FRONTEND")}
    environment |= {"REHEARSAL_APPLICATION_ROLE": database.application.name, "REHEARSAL_PG_BIN": str(database.server.tools)}
    target = load_target(TARGET, environment)
    target = target.model_copy(update={"database": target.database.model_copy(update={"service": "test"})})
    untouched = plan.database.model_copy(
        update={"backfill": plan.database.backfill.model_copy(update={"touch_column": None})}
    )
    plan = plan.model_copy(update={"database": untouched})
    folder = RunFolder.create(directory, "INC-1", "full")
    state = RunState({"option": "A"}, "2025-11-03T12:00:00+00:00", "full")
    return Context(plan, target, folder, Adapters(target, folder, postgres=postgres), state, "Dana")


def all_tried(context: Context, way: str) -> list[Result]:
    """What came of trying a way of a step on a clone."""
    name, choices = WAYS[way]
    context.state = replace(context.state, choices=choices)
    step = (ClearBackfill if name == "clear-backfill" else RemoveColumns)(name, context)
    return step.dry_run_of_ddl(step.preview())


def as_superuser(database: Database, statements: str) -> None:
    """Execute statements on the database as the superuser."""
    with database.server.connect(dbname=database.name) as connection:
        connection.execute(statements)  # type: ignore[arg-type]


def has_superuser_service(database: Database, directory: Path) -> None:
    """Have the runbook reach the database as the superuser."""
    lines = (f"{name}={value}" for name, value in database.parameters().items())
    (directory / "services").write_text("\n".join(["[test]", *lines, ""]))
