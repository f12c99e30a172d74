"""What each option would change and lose, in numbers that are quick to come by."""

from __future__ import annotations

from collections.abc import Callable

from psycopg import sql

from runbook_lib import display
from runbook_lib.adapters.postgres.catalog import has_column
from runbook_lib.adapters.postgres.connection import Connection, one
from runbook_lib.display import Shown
from runbook_lib.errors import RunbookError
from runbook_lib.plan import ClearBackfillStep, RemoveColumnsStep, RestoreAsideStep
from runbook_lib.run import Run

PATIENCE = "5s"  # for each count


def compared(run: Run) -> Shown:
    """Each option of the run's type with what it would change and lose, in numbers where those come quickly. Read-only."""
    plan, kind = run.context.plan, run.context.plan.types[run.context.type]
    rows = []
    for option, text in kind.options.items():
        specs = [plan.steps[name] for name in plan.steps_of(run.context.type, option)]
        changes, loses = "nothing in the data", "nothing"
        if any(isinstance(spec, ClearBackfillStep) for spec in specs):
            changes, loses = _told(run, _clearing)
        if any(isinstance(spec, RemoveColumnsStep) for spec in specs):
            changes, loses = _told(run, _removing)
        if any(isinstance(spec, RestoreAsideStep) for spec in specs):
            changes, loses = _restoring(run)
        rows.append([option, text, changes, loses])
    return display.table("What each option would change and lose", ["option", "", "would change", "would lose"], rows)


def _told(run: Run, count: Callable[[Run, Connection], tuple[str, str]]) -> tuple[str, str]:
    try:
        with run.context.postgres.connect() as connection:
            connection.execute(f"SET statement_timeout = '{PATIENCE}'")
            return count(run, connection)
    except RunbookError as error:
        return f"not counted: {error.what}", "not counted; the preview will"


def _clearing(run: Run, connection: Connection) -> tuple[str, str]:
    database = run.context.plan.database
    if not has_column(connection, database, database.backfill.column):
        return f"nothing: {database.backfill.column} is not there", "nothing"
    rows, hidden = run.context.backfill.count(connection), run.context.census.invisible(connection)
    unseen = ", ".join(f"{what}: {number} rows" for what, number in hidden.items())
    return f"{rows} rows of {database.table} lose the backfilled entries", f"no row; older code does not show {unseen}"


def _removing(run: Run, connection: Connection) -> tuple[str, str]:
    database = run.context.plan.database
    there = [name for name in database.columns if has_column(connection, database, name)]
    if not there:
        return "nothing: the columns are not there", "nothing"
    counts = [sql.SQL("count({0}) AS {0}").format(sql.Identifier(name)) for name in there]
    table = sql.Identifier(database.schema_, database.table)
    found = one(connection, sql.SQL("SELECT {} FROM {}").format(sql.SQL(", ").join(counts), table))
    filled = ", ".join(f"{name} of {found[name]} rows" for name in there)
    return f"{len(there)} columns of {database.table} go: {', '.join(there)}", f"what they hold: {filled}"


def _restoring(run: Run) -> tuple[str, str]:
    try:
        dump = run.context.dump
    except RunbookError as error:
        return f"cannot be told: {error.what}", "cannot be told"
    return f"the whole database, back to {dump.path.name}", "all that was written since; counted row by row before downtime"
