"""Checks of the API: what it serves to older clients and how fast, compared with what was visible before."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import quantiles
from typing import Annotated, Literal

from pydantic import Field

from runbook_lib.checks import CheckContext, check
from runbook_lib.checks.served import UNASKED, Item, Served, absence, holds, presence, texts
from runbook_lib.config.plan import CheckSpec, ColumnOfRow, Part, Rows
from runbook_lib.config.plan.answer_path import ABSENT, at
from runbook_lib.context import old_code
from runbook_lib.errors import PreconditionError
from runbook_lib.postgres.backfill_statistics import missed
from runbook_lib.postgres.catalog import has_column
from runbook_lib.report import charts
from runbook_lib.results import Result, Status
from runbook_lib.system.http import Answer

REFUSED = (401, 403)
LATER = (408, 425, 429)
SERVED = (200, 203, 206)
REDIRECTS = range(300, 400)
SAY_WHICH = "say under api.rows which"


class ApiPresentKeys(CheckSpec):
    """Whether the API serves what older clients read."""

    kind: Literal["api_present"]

    area = "API"
    requires = ("api", "database")


@check(ApiPresentKeys)
def present(checked: CheckContext, name: str) -> Result:
    """Check whether every item of every sample has the field, filled at least once. Read-only."""
    api = checked.context.plan.api
    if (early := unusable(checked, name)) is not None:
        return early
    status, summary = presence(_as_planned(checked), api.present, api.omitted, _unsure(checked))
    return checked.result(name, status, summary, samples=list(checked.served))


def _as_planned(checked: CheckContext) -> Mapping[str, Served]:
    """Return what is served of each sample, without a doubt about more items if the plan says how many rows exist."""
    rows = checked.context.plan.api.rows
    is_limited = isinstance(rows, Rows) and rows.limit is not None
    return {sample: replace(each, more="") if is_limited else each for sample, each in checked.served.items()}


def _unsure(checked: CheckContext) -> dict[str, str]:
    """Return the samples served without a value that may still be right, since the plan does not say which rows -> why."""
    plan = checked.context.plan
    blank = [
        sample
        for sample, each in checked.served.items()
        if not each.unclear and not any(holds(at(item, plan.api.present)) for item in each.items)
    ]
    if plan.api.rows or isinstance(plan.rows_shown, Rows) or not blank:
        return {}
    held = checked.rows_of(plan.api.sample.having, blank)
    return {
        sample: f"the API serves {len(checked.served[sample].items)} of {held[sample].count} rows; {SAY_WHICH}"
        for sample in blank
        if len(checked.served[sample].items) != held[sample].count
    }


class ApiAbsentKeys(CheckSpec):
    """Whether the API serves nothing of the feature."""

    kind: Literal["api_absent"]

    area = "API"
    requires = ("api", "database")


@check(ApiAbsentKeys)
def absent_or_empty(checked: CheckContext, name: str) -> Result:
    """Check whether no item of any sample has anything in the feature's field. Read-only."""
    api = checked.context.plan.api
    if (early := unusable(checked, name)) is not None:
        return early
    status, summary = absence(_as_planned(checked), api.absent_or_empty, api.omitted)
    return checked.result(name, status, summary, samples=list(checked.answers))


def unusable(checked: CheckContext, name: str, answers: Mapping[str, Answer] | None = None) -> Result | None:
    """Return the result if the API's answers, else the round's, show nothing about the data, else None. Read-only."""
    statuses = {sample: answer.status for sample, answer in (checked.answers if answers is None else answers).items()}
    listed = ", ".join(f"{sample}: {status}" for sample, status in statuses.items())
    if any(status in REFUSED for status in statuses.values()):
        return checked.result(name, Status.UNKNOWN, f"the API refused the token: nothing is known about the data ({listed})")
    if any(status >= 500 or status in LATER for status in statuses.values()):
        return checked.result(name, Status.UNKNOWN, f"the API could not answer ({listed})")
    if any(status in REDIRECTS for status in statuses.values()):
        return checked.result(name, Status.UNKNOWN, f"the API redirects, and redirects are not followed ({listed})")
    if any(status not in SERVED for status in statuses.values()):
        return checked.result(name, Status.FAIL, f"the API does not serve the rows of the database ({listed})")
    return None


def media_by_field(checked: CheckContext, rows: Sequence[Item]) -> dict[str, list[str]]:
    """Return the media that the items name, in the field of older clients and in the feature's. Read-only."""
    plan = checked.context.plan
    written = plan.database.backfill.written.items()
    keys = [
        name for name, value in written if isinstance(value, ColumnOfRow) and value.column == plan.database.backfill.source
    ]
    older = [text for item in rows for text in texts(at(item, plan.api.present))]
    lists = [at(item, plan.api.absent_or_empty) for item in rows]
    elements = [element for listed in lists if isinstance(listed, list) for element in listed if isinstance(element, dict)]
    return {
        plan.api.present: older,
        plan.api.absent_or_empty: [element[key] for element in elements for key in keys if element.get(key)],
    }


SHARE = 0.05  # of the requests that may be slower than the limit
FEWEST = 10  # requests, after which the check stops if too many were slow


class LatencyKeys(CheckSpec):
    """Whether the API answers as fast as the plan says."""

    kind: Literal["latency"]
    requests: Annotated[int, Field(ge=10)]
    """The number of requests."""
    p95_ms: Annotated[float, Field(gt=0)]
    """The highest allowed 95th percentile, in milliseconds."""

    area = "API"
    requires = ("api", "database")


@check(LatencyKeys)
def within_limit(checked: CheckContext, name: str) -> Result:
    """Check whether the 95th percentile over the plan's number of requests keeps the plan's limit; plotted. Read-only.

    It stops as soon as too many requests were slow to keep the limit.
    """
    spec = checked.context.plan.checks[name]
    assert isinstance(spec, LatencyKeys)
    samples, slow = checked.samples, 0
    answers: list[Answer] = []
    while len(answers) < spec.requests and (len(answers) < FEWEST or slow <= spec.requests * SHARE):
        answers.append(checked.ask(samples[len(answers) % len(samples)]))
        slow += answers[-1].seconds * 1000 > spec.p95_ms
    if failed := [answer.status for answer in answers if answer.status != 200]:
        summary = f"{len(failed)} of {len(answers)} requests were not served ({failed[0]})"
        return checked.result(name, Status.UNKNOWN, summary)
    milliseconds = [answer.seconds * 1000 for answer in answers]
    cuts = quantiles(milliseconds, n=20, method="inclusive")
    p50, p95 = round(cuts[9], 1), round(cuts[18], 1)
    early = "" if len(answers) == spec.requests else f", which ended the planned {spec.requests} early"
    values = [(float(number), value) for number, value in enumerate(milliseconds, 1)]
    plot = checked.keep_chart(name, charts.line(values, spec.p95_ms, across="request", up="milliseconds"))
    return checked.result(
        name,
        Status.PASS if cuts[18] <= spec.p95_ms else Status.FAIL,
        f"p50 {p50:.0f} ms, p95 {p95:.0f} ms over {len(answers)} requests{early}; the limit of p95 is {spec.p95_ms:.0f} ms",
        milliseconds=[round(value, 1) for value in milliseconds],
        p50_ms=p50,
        p95_ms=p95,
        limit_ms=spec.p95_ms,
        plot=plot,
    )


TIMEOUT = 600.0
EXAMPLES = 5


class ReferenceKeys(CheckSpec):
    """Whether the media that were visible before are visible now, compared with a named reference."""

    kind: Literal["reference"]
    reference: Literal["backup", "api"]
    """"api": the API from before the feature, which the target names."""
    where: Literal["shown", "source"]
    """Look in the field that the deployed page reads, or in the one of older code, whatever is deployed."""

    area = "Database"
    requires = ("database", "backfill")

    def parts(self) -> tuple[Part, ...]:
        """Apart from the backfill, the requested API, and the page whose code decides what is shown. Pure."""
        by_api: tuple[Part, ...] = ("api",) if self.reference == "api" else ()
        shown: tuple[Part, ...] = ("page", "repositories") if self.where == "shown" else ()
        return (*self.requires, *by_api, *shown)


@check(ReferenceKeys)
def nothing_missing(checked: CheckContext, name: str) -> Result:
    """Check that every row or item with media in the reference, if it still exists, has them in the checked field.

    Read-only.
    """
    spec = checked.context.plan.checks[name]
    assert isinstance(spec, ReferenceKeys)
    column = _shown(checked) if spec.where == "shown" else checked.context.plan.database.backfill.source
    return _by_api(checked, name, column) if spec.reference == "api" else _by_backup(checked, name, column)


def _by_backup(checked: CheckContext, name: str, column: str) -> Result:
    context, database = checked.context, checked.context.plan.database
    try:
        dump = context.dump
    except PreconditionError as error:
        return checked.result(name, Status.UNKNOWN, f"there is no reference: {error.what}")
    data = context.adapters.scratch / "reference.copy"
    context.adapters.dump_tools.rows_of(dump.path, database.schema_, database.table, data, TIMEOUT)
    with context.adapters.postgres.connect() as connection:
        if not has_column(connection, database, column):
            return checked.result(name, Status.FAIL, f"the column {column}, which shows the media, does not exist")
        try:
            found = missed(connection, context.backfill(connection), data, column)
        except PreconditionError as error:
            return checked.result(name, Status.UNKNOWN, f"there is no reference: {error.what}")
        finally:
            data.unlink(missing_ok=True)
    facts = f"in {dump.path.name}, {found.rows} rows had media and still exist"
    facts += f" ({found.gone} more no longer exist)" if found.gone else ""
    if found.missing:
        summary = f"{found.missing} rows show none now in {column}, such as {', '.join(found.keys)}; {facts}"
        return checked.result(name, Status.FAIL, summary, missing=found.missing, keys=found.keys, column=column)
    if not found.rows:
        return checked.result(name, Status.UNKNOWN, f"{facts}: there is nothing to compare")
    return checked.result(name, Status.PASS, f"{facts}, each has them in {column}", column=column)


def _by_api(checked: CheckContext, name: str, column: str) -> Result:
    """Compare with what the API from before serves of the samples, item by item."""
    plan = checked.context.plan
    reference = checked.context.target.reference_api
    if reference is None:
        return checked.result(name, Status.UNKNOWN, "there is no reference: the target names no reference_api")
    before = {
        sample: checked.ask(sample, reference.url, checked.context.adapters.reference_token) for sample in checked.samples
    }
    if refused := ", ".join(f"{sample}: {answer.status}" for sample, answer in before.items() if answer.status != 200):
        return checked.result(name, Status.UNKNOWN, f"there is no reference: {reference.url} does not serve it ({refused})")
    now = {sample: checked.ask(sample) for sample in before}  # requested second: an item posted in between is in both
    if (early := unusable(checked, name, now)) is not None:
        return early
    field = plan.api.absent_or_empty if column == plan.database.backfill.name else plan.api.present
    token = checked.context.adapters.reference_token
    then = {sample: checked.read(sample, answer, reference.url, token) for sample, answer in before.items()}
    here = {sample: checked.read(sample, answer) for sample, answer in now.items()}
    for sample, each in [*then.items(), *here.items()]:
        if each.unclear:
            return checked.result(name, Status.UNKNOWN, f"{sample}: {each.unclear}")
    had = [at(item, plan.api.key) for each in then.values() for item in _with(checked, each, plan.api.present)]
    have = {str(at(item, plan.api.key)) for each in here.values() for item in _with(checked, each, field)}
    missing = [str(key) for key in had if str(key) not in have]  # 7 became "7" as one outgrew a number
    facts = f"at {reference.url}, {len(had)} items of {len(before)} samples have media"
    if not had or ABSENT in had:
        reason = "nothing to compare" if not had else f"an item of it without {plan.api.key}"
        return checked.result(name, Status.UNKNOWN, f"{facts}: there is {reason}")
    if missing and (more := next((each.more for each in here.values() if each.more), "")):
        summary = f"{len(missing)} items are not among the served ones, such as {missing[0]}; {UNASKED}: {more}"
        return checked.result(name, Status.UNKNOWN, summary)
    if missing:
        summary = f"{len(missing)} items show none now in {field}, such as {', '.join(missing[:EXAMPLES])}; {facts}"
        return checked.result(name, Status.FAIL, summary, missing=len(missing), keys=missing[:EXAMPLES], field=field)
    return checked.result(name, Status.PASS, f"{facts}, each has them in {field}", field=field)


def _with(checked: CheckContext, served: Served, field: str) -> list[Item]:
    return [item for item in served.items if media_by_field(checked, [item])[field]]


def _shown(checked: CheckContext) -> str:
    """Return the column that the deployed page reads: the feature's, while any of its commits is in effect."""
    context, backfill = checked.context, checked.context.plan.database.backfill
    repository = context.target.services.built_from[context.plan.page.service]
    return backfill.name if old_code.live_commits(context, repository) else backfill.source
