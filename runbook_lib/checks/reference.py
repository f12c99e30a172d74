"""The media that were visible before are visible now, by the backup from before or by the API from before."""

from typing import Any

from runbook_lib import oldcode
from runbook_lib.adapters.http import Answer
from runbook_lib.adapters.postgres.catalog import has_column
from runbook_lib.adapters.postgres.reference import missed
from runbook_lib.checks import api
from runbook_lib.checks.round import Round
from runbook_lib.errors import PreconditionError
from runbook_lib.plan import ReferenceCheck
from runbook_lib.results import Result, Status

TIMEOUT = 600.0
EXAMPLES = 5


def nothing_missing(around: Round, name: str) -> Result:
    """Whether all that had media by the check's reference, and is still there, has them where they are looked for.

    Read-only.
    """
    spec = around.context.plan.checks[name]
    assert isinstance(spec, ReferenceCheck)
    column = _shown(around) if spec.where == "shown" else around.context.plan.database.backfill.source
    return _by_api(around, name, column) if spec.reference == "api" else _by_backup(around, name, column)


def _by_backup(around: Round, name: str, column: str) -> Result:
    context, database = around.context, around.context.plan.database
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


def _by_api(around: Round, name: str, column: str) -> Result:
    """Held against what the API from before serves of the samples, item by item."""
    plan = around.context.plan
    reference = around.context.target.reference_api
    if reference is None:
        return around.result(name, Status.UNKNOWN, "there is no reference: the target names no reference_api")
    before = {sample: around.ask(sample, reference.url, around.context.reference_token) for sample in around.samples}
    if refused := ", ".join(f"{sample}: {answer.status}" for sample, answer in before.items() if answer.status != 200):
        return around.result(name, Status.UNKNOWN, f"there is no reference: {reference.url} does not serve it ({refused})")
    now = {sample: around.ask(sample) for sample in before}  # asked after it: what is posted in between is in both
    if (early := api.unusable(around, name, now)) is not None:
        return early
    field = plan.api.absent_or_empty if column == plan.database.backfill.column else plan.api.present
    had = [api.at(item, plan.api.key) for answer in before.values() for item in _with(around, answer, plan.api.present)]
    have = [api.at(item, plan.api.key) for answer in now.values() for item in _with(around, answer, field)]
    missing = [str(key) for key in had if key not in have]
    facts = f"by {reference.url}, {len(had)} items of {len(before)} samples have media"
    if not had or api.ABSENT in had:
        reason = "nothing to compare" if not had else f"an item of it without {plan.api.key}"
        return around.result(name, Status.UNKNOWN, f"{facts}: there is {reason}")
    if missing:
        summary = f"{len(missing)} items show none now in {field}, such as {', '.join(missing[:EXAMPLES])}; {facts}"
        return around.result(name, Status.FAIL, summary, missing=len(missing), keys=missing[:EXAMPLES], field=field)
    return around.result(name, Status.PASS, f"{facts}, each has them in {field}", field=field)


def _with(around: Round, answer: Answer, field: str) -> list[dict[str, Any]]:
    return [item for item in api.items(answer) if api.media_by_field(around, [item])[field]]


def _shown(around: Round) -> str:
    """The column that the deployed page reads: the feature's, while any of its commits is in effect there."""
    context, backfill = around.context, around.context.plan.database.backfill
    repository = context.target.services.built_from[context.plan.page.service]
    return backfill.column if oldcode.live_commits(context, repository) else backfill.source
