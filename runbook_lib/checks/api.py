"""What the API serves, and how fast: to older clients, and next to what was visible before."""

from collections.abc import Mapping
from statistics import quantiles
from typing import Annotated, Any, Literal

from pydantic import Field

from runbook_lib.checks import CheckContext, check
from runbook_lib.config.plan import CheckSpec, ColumnOfRow, Part
from runbook_lib.context import old_code
from runbook_lib.errors import PreconditionError
from runbook_lib.postgres.backfill_statistics import missed
from runbook_lib.postgres.catalog import has_column
from runbook_lib.report import charts
from runbook_lib.results import Result, Status
from runbook_lib.system.http import Answer

REFUSED = (401, 403)
TOO_MANY = 429


class ApiPresentKeys(CheckSpec):
    """Whether the API serves what older clients read."""

    kind: Literal["api_present"]

    area = "API"
    requires = ("api", "database")


@check(ApiPresentKeys)
def present(checked: CheckContext, name: str) -> Result:
    """Whether every item of every sample has the field, filled at least once. Read-only."""
    field = checked.context.plan.api.present
    if (early := unusable(checked, name)) is not None:
        return early
    served = {sample: items(answer) for sample, answer in checked.answers.items()}
    every = [item for rows in served.values() for item in rows]
    without = sum(at(item, field) is ABSENT for item in every)
    filled = sum(bool(at(item, field)) for item in every)
    blank = [sample for sample, rows in served.items() if not any(at(item, field) for item in rows)]
    summary = f"{len(every)} items of {len(served)} samples: {without} without {field}, {filled} with a value in it"
    if blank:
        summary += f"; none at all in {', '.join(blank)}"
    return checked.result(name, Status.FAIL if without or blank else Status.PASS, summary, samples=list(served))


class ApiAbsentKeys(CheckSpec):
    """Whether the API serves nothing of the feature."""

    kind: Literal["api_absent"]

    area = "API"
    requires = ("api", "database")


@check(ApiAbsentKeys)
def absent_or_empty(checked: CheckContext, name: str) -> Result:
    """Whether no item of any sample has anything in the feature's field. Read-only."""
    field = checked.context.plan.api.absent_or_empty
    if (early := unusable(checked, name)) is not None:
        return early
    served = {sample: items(answer) for sample, answer in checked.answers.items()}
    every = [item for rows in served.values() for item in rows]
    filled = sum(bool(at(item, field)) for item in every)
    unserved = [sample for sample, rows in served.items() if not rows]
    summary = f"{filled} of {len(every)} items hold something in {field}"
    return checked.result(
        name,
        Status.FAIL if filled else Status.UNKNOWN if unserved else Status.PASS,
        summary + (f"; no item was served of {', '.join(unserved)}" if unserved else ""),
        samples=list(checked.answers),
    )


def unusable(checked: CheckContext, name: str, answers: Mapping[str, Answer] | None = None) -> Result | None:
    """What is to be said of the API where its answers, else the round's, tell nothing of the data, else None. Read-only."""
    statuses = {sample: answer.status for sample, answer in (checked.answers if answers is None else answers).items()}
    listed = ", ".join(f"{sample}: {status}" for sample, status in statuses.items())
    if any(status in REFUSED for status in statuses.values()):
        return checked.result(name, Status.UNKNOWN, f"the API refused the token, which says nothing of the data ({listed})")
    if any(status >= 500 or status == TOO_MANY for status in statuses.values()):
        return checked.result(name, Status.UNKNOWN, f"the API could not answer ({listed})")
    if any(status != 200 for status in statuses.values()):
        return checked.result(name, Status.FAIL, f"the API does not serve what the database holds ({listed})")
    return None


def media_by_field(checked: CheckContext, rows: list[dict[str, Any]]) -> dict[str, list[str]]:
    """The media that the items name, in the field of older clients and in the feature's. Read-only."""
    plan = checked.context.plan
    written = plan.database.backfill.written.items()
    keys = [
        name for name, value in written if isinstance(value, ColumnOfRow) and value.column == plan.database.backfill.source
    ]
    older = [str(value) for item in rows if (value := at(item, plan.api.present))]
    lists = [at(item, plan.api.absent_or_empty) for item in rows]
    elements = [element for listed in lists if isinstance(listed, list) for element in listed if isinstance(element, dict)]
    return {
        plan.api.present: older,
        plan.api.absent_or_empty: [element[key] for element in elements for key in keys if element.get(key)],
    }


class _Absent:
    """The value at a path that is not there; it holds nothing."""

    def __bool__(self) -> bool:
        return False


ABSENT = _Absent()


def at(item: Any, path: str) -> Any:
    """The value at a path of keys parted by dots, ABSENT where a key is not there. Pure."""
    for key in path.split("."):
        if not isinstance(item, dict) or key not in item:
            return ABSENT
        item = item[key]
    return item


def items(answer: Answer) -> list[dict[str, Any]]:
    """The items in an answer: its list, or the first list in its object. Read-only."""
    body = answer.json
    if isinstance(body, dict):
        body = next((value for value in body.values() if isinstance(value, list)), [])
    return [item for item in body if isinstance(item, dict)] if isinstance(body, list) else []


SHARE = 0.05  # of the requests that may be slower than the limit
FEWEST = 10  # requests, after which no more are made once too many were slow


class LatencyKeys(CheckSpec):
    """Whether the API answers as fast as the plan says."""

    kind: Literal["latency"]
    requests: Annotated[int, Field(ge=10)]
    """How many requests are made."""
    p95_ms: Annotated[float, Field(gt=0)]
    """The 95th percentile that is allowed, in milliseconds."""

    area = "API"
    requires = ("api", "database")


@check(LatencyKeys)
def within_limit(checked: CheckContext, name: str) -> Result:
    """Whether the 95th percentile over the plan's number of requests keeps the plan's limit; plotted. Read-only.

    No more requests are made once so many were slow that it cannot be kept.
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
        f"p50 {p50:.0f} ms, p95 {p95:.0f} ms over {len(answers)} requests{early}; p95 may be {spec.p95_ms:.0f} ms",
        milliseconds=[round(value, 1) for value in milliseconds],
        p50_ms=p50,
        p95_ms=p95,
        limit_ms=spec.p95_ms,
        plot=plot,
    )


TIMEOUT = 600.0
EXAMPLES = 5


class ReferenceKeys(CheckSpec):
    """Whether the media that were visible before are visible now, measured against a named reference."""

    kind: Literal["reference"]
    reference: Literal["backup", "api"]
    """"api": the API from before the feature, which the target names."""
    where: Literal["shown", "source"]
    """In what the deployed page reads, or in what older code does, whatever is deployed."""

    area = "Database"
    requires = ("database", "backfill")

    def parts(self) -> tuple[Part, ...]:
        """Next to the backfill, the API that is asked, and the page whose code says what is shown. Pure."""
        by_api: tuple[Part, ...] = ("api",) if self.reference == "api" else ()
        shown: tuple[Part, ...] = ("page", "repositories") if self.where == "shown" else ()
        return (*self.requires, *by_api, *shown)


@check(ReferenceKeys)
def nothing_missing(checked: CheckContext, name: str) -> Result:
    """Whether all that had media by the check's reference, and is still there, has them where they are looked for.

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
            return checked.result(name, Status.FAIL, f"the column {column}, which shows the media, is not there")
        try:
            found = missed(connection, context.backfill(connection), data, column)
        except PreconditionError as error:
            return checked.result(name, Status.UNKNOWN, f"there is no reference: {error.what}")
        finally:
            data.unlink(missing_ok=True)
    facts = f"by {dump.path.name}, {found.rows} rows had media and are still there"
    facts += f" ({found.gone} more are gone)" if found.gone else ""
    if found.missing:
        summary = f"{found.missing} rows show none now in {column}, such as {', '.join(found.keys)}; {facts}"
        return checked.result(name, Status.FAIL, summary, missing=found.missing, keys=found.keys, column=column)
    if not found.rows:
        return checked.result(name, Status.UNKNOWN, f"{facts}: there is nothing to compare")
    return checked.result(name, Status.PASS, f"{facts}, each has them in {column}", column=column)


def _by_api(checked: CheckContext, name: str, column: str) -> Result:
    """Held against what the API from before serves of the samples, item by item."""
    plan = checked.context.plan
    reference = checked.context.target.reference_api
    if reference is None:
        return checked.result(name, Status.UNKNOWN, "there is no reference: the target names no reference_api")
    before = {
        sample: checked.ask(sample, reference.url, checked.context.adapters.reference_token) for sample in checked.samples
    }
    if refused := ", ".join(f"{sample}: {answer.status}" for sample, answer in before.items() if answer.status != 200):
        return checked.result(name, Status.UNKNOWN, f"there is no reference: {reference.url} does not serve it ({refused})")
    now = {sample: checked.ask(sample) for sample in before}  # asked after it: what is posted in between is in both
    if (early := unusable(checked, name, now)) is not None:
        return early
    field = plan.api.absent_or_empty if column == plan.database.backfill.name else plan.api.present
    had = [at(item, plan.api.key) for answer in before.values() for item in _with(checked, answer, plan.api.present)]
    have = [at(item, plan.api.key) for answer in now.values() for item in _with(checked, answer, field)]
    missing = [str(key) for key in had if key not in have]
    facts = f"by {reference.url}, {len(had)} items of {len(before)} samples have media"
    if not had or ABSENT in had:
        reason = "nothing to compare" if not had else f"an item of it without {plan.api.key}"
        return checked.result(name, Status.UNKNOWN, f"{facts}: there is {reason}")
    if missing:
        summary = f"{len(missing)} items show none now in {field}, such as {', '.join(missing[:EXAMPLES])}; {facts}"
        return checked.result(name, Status.FAIL, summary, missing=len(missing), keys=missing[:EXAMPLES], field=field)
    return checked.result(name, Status.PASS, f"{facts}, each has them in {field}", field=field)


def _with(checked: CheckContext, answer: Answer, field: str) -> list[dict[str, Any]]:
    return [item for item in items(answer) if media_by_field(checked, [item])[field]]


def _shown(checked: CheckContext) -> str:
    """The column that the deployed page reads: the feature's, while any of its commits is in effect there."""
    context, backfill = checked.context, checked.context.plan.database.backfill
    repository = context.target.services.built_from[context.plan.page.service]
    return backfill.name if old_code.live_commits(context, repository) else backfill.source
