"""The schema is what the rollback leaves, and migration history and files agree."""

from pathlib import Path
from typing import Any

from psycopg import sql

from runbook_lib.adapters.postgres.catalog import catalog, differences, missing
from runbook_lib.checks.restorable import restores
from runbook_lib.checks.round import Round
from runbook_lib.comparison import CATALOG_BEFORE, CATALOG_RESTORED
from runbook_lib.results import Result, Status


def as_expected(around: Round, name: str) -> Result:
    """Whether columns, indexes and constraints are as the option leaves them, all else is as before. Read-only."""
    context = around.context
    with context.postgres.connect() as connection:
        now = catalog(connection)
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
    problems = missing(now, context.plan.database, feature=context.schema_stays)
    if bool(recorded) != has_file:
        problems.append(
            f"migration {history.version} is {'in' if recorded else 'not in'} the history, but its file is "
            f"{'there' if has_file else 'gone'}"
        )
    restored = restores(context) is not None
    before = context.folder.read_json(CATALOG_RESTORED if restored else CATALOG_BEFORE)
    changed = differences(before, now) if before is not None else None
    if changed:
        problems += changed
    return _result(around, name, problems, changed, "as in the backup" if restored else "as before the rollback")


def _result(around: Round, name: str, problems: list[str], changed: list[str] | None, like: str) -> Result:
    evidence: dict[str, Any] = {"problems": problems}
    if problems:
        return around.result(name, Status.FAIL, "; ".join(problems), **evidence)
    stays = f"the feature's columns stay (option {around.context.option}), " if around.context.schema_stays else ""
    compared = "not compared with a snapshot" if changed is None else f"the whole catalog is {like}"
    return around.result(
        name, Status.PASS, f"{stays}older columns are there, history and files agree, {compared}", **evidence
    )
