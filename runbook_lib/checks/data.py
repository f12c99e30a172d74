"""The data hold what they should, and nothing was changed that should not be."""

from runbook_lib.checks.restorable import restores
from runbook_lib.checks.round import Round
from runbook_lib.comparison import is_there
from runbook_lib.plan import BackupStep, DatabaseStep, RemoveColumnsStep
from runbook_lib.results import Result, Status, verdict


def intact(around: Round, name: str) -> Result:
    """Whether the backfilled column holds lists of objects, each backfilled one with its source. Read-only."""
    context = around.context
    with context.postgres.connect() as connection:
        removes = any(isinstance(spec, RemoveColumnsStep) for spec in context.specs.values())
        gone_by_plan = removes or (restores(context) is not None and not context.schema_stays)
        if gone_by_plan and not is_there(context, connection):
            return around.result(name, Status.PASS, "the column is not there, as this rollback leaves it")
        bad = {what: rows for what, rows in context.census.malformed(connection).items() if rows}
    if bad:
        return around.result(name, Status.FAIL, "; ".join(f"{rows} rows: {what}" for what, rows in bad.items()))
    return around.result(name, Status.PASS, "every value is a list of objects, every backfilled one has its source")


def only_intended(around: Round, name: str) -> Result:
    """What the change of the data was shown to have left alone, while nothing else could write. Read-only."""
    changes = [
        step
        for step, spec in around.context.specs.items()
        if isinstance(spec, DatabaseStep) and not isinstance(spec, BackupStep)
    ]
    results = [result for step in changes for result in around.verified.get(step, [])]
    if not results:
        return around.result(name, Status.UNKNOWN, "no proof was made in this run")
    return around.result(name, verdict(results), "; ".join(result.summary for result in results))
