"""The media that were visible before are visible now, by the backup from before."""

from runbook_lib import oldcode
from runbook_lib.adapters.postgres.catalog import has_column
from runbook_lib.adapters.postgres.reference import missed
from runbook_lib.checks.round import Round
from runbook_lib.errors import PreconditionError
from runbook_lib.plan import ReferenceCheck
from runbook_lib.results import Result, Status

TIMEOUT = 600.0


def nothing_missing(around: Round, name: str) -> Result:
    """Whether every row that had media by the backup, and is still there, has them where they are looked for. Read-only."""
    context, spec = around.context, around.context.plan.checks[name]
    assert isinstance(spec, ReferenceCheck)
    database = context.plan.database
    column = _shown(around) if spec.where == "shown" else database.backfill.source
    try:
        dump = context.dump
    except PreconditionError as error:
        return around.result(name, Status.UNKNOWN, f"there is no reference: {error.what}")
    data = context.scratch / "reference.copy"
    context.dump_tools.rows_of(dump.path, database.schema_, database.table, data, TIMEOUT)
    with context.postgres.connect() as connection:
        if not has_column(connection, database, column):
            return around.result(name, Status.FAIL, f"the column {column}, which shows the media, is not there")
        try:
            found = missed(connection, context.backfill, data, column)
        except PreconditionError as error:
            return around.result(name, Status.UNKNOWN, f"there is no reference: {error.what}")
        finally:
            data.unlink(missing_ok=True)
    facts = f"by {dump.path.name}, {found.rows} rows had media and are still there"
    facts += f" ({found.gone} more are gone)" if found.gone else ""
    if found.missing:
        summary = f"{found.missing} rows show none now in {column}, such as {', '.join(found.keys)}; {facts}"
        return around.result(name, Status.FAIL, summary, missing=found.missing, keys=found.keys, column=column)
    if not found.rows:
        return around.result(name, Status.UNKNOWN, f"{facts}: there is nothing to compare")
    return around.result(name, Status.PASS, f"{facts}, each has them in {column}", column=column)


def _shown(around: Round) -> str:
    """The column that the deployed page reads: the feature's, while any of its commits is in effect there."""
    context, backfill = around.context, around.context.plan.database.backfill
    repository = context.target.services.built_from[context.plan.page.service]
    return backfill.column if oldcode.live_commits(context, repository) else backfill.source
