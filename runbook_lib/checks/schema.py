"""The schema is what the rollback leaves, and migration history and files agree."""

from pathlib import Path

from psycopg import sql

from runbook_lib.adapters.postgres.catalog import catalog, differences, missing
from runbook_lib.adapters.postgres.removal import Record, Removal, Stage, outcome
from runbook_lib.checks.restorable import restores
from runbook_lib.checks.round import Round
from runbook_lib.comparison import CATALOG_BEFORE, CATALOG_RESTORED
from runbook_lib.context import Context
from runbook_lib.plan import RemoveColumnsStep
from runbook_lib.results import Result, Status


def as_expected(around: Round, name: str) -> Result:
    """Whether columns, indexes and constraints are as the option leaves them, all else is as before. Read-only."""
    context = around.context
    with context.postgres.connect() as connection:
        present = catalog(connection)
        kept = [name for name in present if name.endswith(f"__old_{context.run}")]  # by a swap, as the way back
        now = {name: definition for name, definition in present.items() if name not in kept}
        history = context.plan.database.migration
        recorded = connection.execute(
            sql.SQL("SELECT 1 AS it FROM {} WHERE {} = {}").format(
                sql.Identifier(context.plan.database.schema_, history.history_table),
                sql.Identifier(history.history_column),
                sql.Literal(history.version),
            )
        ).fetchone()
    files = context.checkout(history.repository).files(history.directory)
    has_file = any(Path(file).name.startswith(history.version) for file in files)
    removes = any(isinstance(spec, RemoveColumnsStep) for spec in context.specs.values())
    restored = restores(context) is not None
    record = _record(context) if removes else None
    problems = missing(now, context.plan.database, feature=context.schema_stays)
    if removes:
        problems += outcome.left_over(now, context.plan.database, record)
    if bool(recorded) != has_file:
        problems.append(
            f"migration {history.version} is {'in' if recorded else 'not in'} the history, but its file is "
            f"{'there' if has_file else 'gone'}"
        )
    before = context.folder.read_json(CATALOG_RESTORED if restored else CATALOG_BEFORE)
    changed = None
    if before is not None:
        changed = outcome.changed(before, now, context.plan.database, record) if removes else differences(before, now)
    if changed:
        problems += changed
    if problems:
        return around.result(name, Status.FAIL, "; ".join(problems), problems=problems)
    parts = [
        _of_columns(context, removes, record),
        *(f"OPEN DEBT: {name} is kept" for name in kept),
        "older columns are there",
        "history and files agree",
    ]
    rest = "the rest of the catalog" if removes else "the whole catalog"
    like = "as in the backup" if restored else "as before the rollback"
    parts.append("not compared with a snapshot" if changed is None else f"{rest} is {like}")
    return around.result(name, Status.PASS, ", ".join(filter(None, parts)), problems=problems)


def _of_columns(context: Context, removes: bool, record: Record | None) -> str:
    if removes:
        kept = record.asides.values() if record and record.stage is Stage.REMOVED else ()
        return "the feature's columns are gone" + (f" (OPEN DEBT: set aside as {', '.join(kept)})" if kept else "")
    return f"the feature's columns stay (option {context.option})" if context.schema_stays else ""


def _record(context: Context) -> Record | None:
    """What this run recorded of the columns it removed; None where it found them gone. Read-only."""
    removal = Removal(context.postgres, context.plan.database, context.run)
    with removal.connect() as connection:
        return removal.state(connection).record
