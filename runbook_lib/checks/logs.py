"""The logs of services have no errors, except kinds that were also logged before the release."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from runbook_lib import logs
from runbook_lib.checks import CheckContext, check
from runbook_lib.config.plan import CheckSpec
from runbook_lib.config.plan.steps import Name
from runbook_lib.context import Context, old_code
from runbook_lib.errors import AdapterError, PreconditionError
from runbook_lib.logs import Severity
from runbook_lib.logs.patterns import LONGEST, Pattern, matched
from runbook_lib.logs.records import Record, counted, records
from runbook_lib.logs.times import written
from runbook_lib.redaction import Lines, redact
from runbook_lib.results import Found, Result, Status
from runbook_lib.services import NOTHING, Marks

KEPT = 2000  # lines of errors
LINES = 50  # of each error
SHOWN = 20  # errors in a result
RECENTLY = timedelta(hours=1)
RECENT = 1000  # lines
EARLIER = timedelta(days=7)  # how far before the release a log is read


def _known(names: list[str]) -> list[str]:
    if unknown := [name for name in names if name not in logs.formats()]:
        raise ValueError(f"the format {unknown[0]!r} does not exist; use one of {', '.join(sorted(logs.formats()))}")
    return names


def _moment(text: str) -> str:
    if datetime.fromisoformat(text).tzinfo is None:
        raise ValueError("it has no offset from UTC; write it as 2025-11-03T11:14:29Z")
    return text


class LogsKeys(CheckSpec):
    """Whether the logs of services have no errors, except kinds that were also logged before the release."""

    kind: Literal["logs"]
    services: Annotated[list[Name], Field(min_length=1)]
    """The services whose logs are read."""
    formats: Annotated[list[str], AfterValidator(_known)] | None = None
    """The log formats in which errors are recognised; all formats if none is named."""
    errors: list[Pattern] = []
    """Regular expressions of further errors."""
    not_errors: list[Pattern] = []
    """Regular expressions of known noise, which is not an error whatever its format says."""
    released: Annotated[str, AfterValidator(_moment)] | None = None
    """When the feature was released, for example 2025-11-03T11:14:29Z; if left out, the time of its first commit."""

    area = "Services"
    requires = ()

    @model_validator(mode="after")
    def _something_is_an_error(self) -> Self:
        if self.formats == [] and not self.errors:
            raise ValueError("it names no format and no pattern of errors, so it cannot find any")
        return self

    def of_services(self) -> tuple[str, ...]:
        """Return the services whose logs are read. Pure."""
        return (*self.services,)


@dataclass
class _Log:
    """A service's log: its records, and those that are errors or have an unknown level."""

    read: list[Record]
    errors: list[Record] = field(default_factory=list)
    unclear: list[Record] = field(default_factory=list)
    cleared: int = 0  # records that match the plan's patterns

    @property
    def said(self) -> str:
        """The number of lines by format. Pure."""
        counts = counted(self.read)
        named = [f"{lines} {name or 'of unknown format'}" for name, lines in counts.items()]
        return f"{sum(counts.values())} lines ({', '.join(named)})"


def _beforehand(context: Context, name: str) -> Found:
    """Check that an error could be recognised in the services' recent logs. Read-only."""
    spec = context.plan.checks[name]
    assert isinstance(spec, LogsKeys)
    if blind := _blind(spec, _judged(spec, {service: _lately(context, service) for service in spec.services})):
        return Status.UNKNOWN, f"{blind}; set errors, or leave the check out by `without`"
    return Status.PASS, f"an error would be recognised in the recent logs of {', '.join(spec.services)}"


def _lately(context: Context, service: str) -> list[str]:
    """Return the lines of the last hour; if they have no time, the last lines."""
    services = context.adapters.services
    try:
        return services.logs(service, datetime.fromisoformat(context.state.opened_at) - RECENTLY)
    except AdapterError:
        return services.logs(service, None)[-RECENT:]


def _blind(spec: LogsKeys, found: Mapping[str, _Log]) -> str:
    """Return why no error can be recognised in some services' logs, "" if one can. Pure."""
    logged = {service: log for service, log in found.items() if log.read}
    blind = [s for s, log in logged.items() if not log.cleared and not any(record.format for record in log.read)]
    if spec.errors or not blind:
        return ""
    example = redact(found[blind[0]].read[-1].text.splitlines()[0][:LONGEST])
    return f"no line of {', '.join(blind)} is of a known format, so no error can be recognised, for example “{example}”"


@check(LogsKeys, beforehand=_beforehand)
def no_errors(checked: CheckContext, name: str) -> Result:
    """Check that the logs since the round's start have readable lines, and no new kind of error. Read-only."""
    spec = checked.context.plan.checks[name]
    assert isinstance(spec, LogsKeys)
    since = {service: checked.started.get(service, checked.since) for service in spec.services}
    ends, services = _ends_of_logs(checked), checked.context.adapters.services
    read = {service: services.logs(service, since[service], ends.get(service, NOTHING)) for service in spec.services}
    found = _judged(spec, read)
    first = min(since.values()).isoformat(timespec="seconds")
    facts = ", ".join(f"{log.said.replace(' lines', f' lines of {service}', 1)}" for service, log in found.items())
    errors = [(service, error) for service, log in found.items() for error in log.errors]
    if errors:
        return _with_errors(checked, name, spec, errors, f"since {first}", facts)
    if silent := [service for service, log in found.items() if not log.read]:
        return checked.result(name, Status.UNKNOWN, f"nothing was logged since {first} by {', '.join(silent)}")
    if unclear := [(service, record) for service, log in found.items() for record in log.unclear]:
        (service, example), count = unclear[0], len(unclear)
        summary = f"{count} lines have an unknown level, for example {service}: {_shown(example)[0]}"
        return checked.result(name, Status.UNKNOWN, f"{summary}; list it under errors or not_errors")
    if blind := _blind(spec, found):
        return checked.result(name, Status.UNKNOWN, f"{blind}: {facts} since {first}; set errors")
    return checked.result(name, Status.PASS, f"no error in {facts} since {first}")


def _ends_of_logs(checked: CheckContext) -> Marks:
    """Return the end of each service's log at the time this run last started it."""
    found: dict[str, Mapping[str, Any]] = {}
    for step in checked.context.state.steps.values():
        found |= step.outcome.get("logs", {}) if step.is_done else {}
    return found


def _judged(spec: LogsKeys, read: Mapping[str, Sequence[str]]) -> dict[str, _Log]:
    """Return the records of each service's lines, judged by format and then by the plan's patterns."""
    names = logs.formats() if spec.formats is None else spec.formats
    found = {service: _Log(records(lines, names)) for service, lines in read.items()}
    every = [(log, record) for log in found.values() for record in log.read]
    patterns = {"errors": spec.errors, "not_errors": spec.not_errors}
    by = matched(patterns, [record.text for _, record in every])
    for (log, record), is_error, is_none in zip(every, by["errors"], by["not_errors"], strict=True):
        log.cleared += is_none
        if not is_none and (is_error or record.severity is Severity.ERROR):
            log.errors.append(record)
        elif not is_none and record.severity is Severity.UNCLEAR:
            log.unclear.append(record)
    return found


def _with_errors(
    checked: CheckContext, name: str, spec: LogsKeys, errors: list[tuple[str, Record]], since: str, facts: str
) -> Result:
    """Return the result; errors of kinds also logged before the release are counted separately."""
    before, why = _before(checked.context, spec, {service for service, _ in errors})
    kinds = [error.kind in before.get(service, ()) for service, error in errors]
    old = [each for each, known in zip(errors, kinds, strict=True) if known]
    new = [each for each, known in zip(errors, kinds, strict=True) if not known]
    shown = (f"{service}: {line}" for service, error in [*new, *old] for line in _shown(error))
    text = checked.keep_text(name, "\n".join(islice(shown, KEPT)))
    apart = f"{len(old)} errors of {_kinds(old)} that were also logged before the release"
    evidence = {
        "errors": [f"{service}: {_shown(error)[0]}" for service, error in new[:SHOWN]],
        "before": [f"{service}: {_shown(error)[0]}" for service, error in old[:SHOWN]],
        "findings": [redact(f"{service}: {kind}") for service, kind in dict.fromkeys((s, e.kind) for s, e in new)],
        "text": text,
    }
    if not new:
        return checked.result(
            name, Status.PASS, f"no new kind of error in {facts} {since}; {apart}: {evidence['before'][0]}", **evidence
        )
    summary = f"{len(new)} errors of {_kinds(new)} {since}: {evidence['errors'][0]}"
    return checked.result(name, Status.FAIL, f"{summary}; {apart if old else why}", **evidence)


def _kinds(errors: Sequence[tuple[str, Record]]) -> str:
    count = len({(service, error.kind) for service, error in errors})
    return f"{count} kind{'s' * (count != 1)}"


def _shown(error: Record) -> list[str]:
    """Return an error's lines without colours and secrets, up to a limit."""
    clean, lines = Lines(), error.text.splitlines()
    more = [f"… {len(lines) - LINES} more lines"] if len(lines) > LINES else []
    return [clean(line[:LONGEST]) for line in lines[:LINES]] + more


def _before(context: Context, spec: LogsKeys, services: set[str]) -> tuple[dict[str, set[str]], str]:
    """Return the kinds of error that each service logged before the release, and a sentence on them."""
    released = _released(context, spec, services)
    if released is None:
        return {}, "whether they were logged before the release is unknown, because its time is unknown: set released"
    moment, what = released
    if moment > datetime.fromisoformat(context.state.opened_at):
        return {}, f"whether they were logged before {what} is unknown, because it is after the start of this run: fix it"
    read = {service: _lines_before(context, service, moment) for service in services}
    if not any(read.values()):
        return {}, f"whether they were logged before {what} is unknown: no log from that time is here"
    judged = _judged(spec, read)
    silent = [service for service in sorted(services) if not read[service]]
    unknown = f"; {', '.join(silent)} has no log from that time here" if silent else ""
    return {
        s: {e.kind for e in log.errors} for s, log in judged.items()
    }, f"none is of a kind that was logged before {what}{unknown}"


def _lines_before(context: Context, service: str, moment: datetime) -> list[str]:
    """Return a service's lines from before a moment, if they have a time; none if its log cannot be read."""
    try:
        lines = context.adapters.services.logs(service, moment - EARLIER)
    except AdapterError:
        return []
    kept, keep = [], False  # lines before the first one with a time may be from any time
    for line in lines:
        if at := written(line):
            keep = moment - EARLIER <= at < moment
        if keep:
            kept.append(line)
    return kept


def _released(context: Context, spec: LogsKeys, services: set[str]) -> tuple[datetime, str] | None:
    """Return a moment before the feature's release, and its label; None if it is unknown."""
    if spec.released:
        return datetime.fromisoformat(spec.released), f"the release of {spec.released}"
    built_from = context.target.services.built_from
    repositories = {built_from[s] for s in services if s in built_from} & context.plan.repositories.keys()
    try:
        commits = [finding.commit for name in repositories for finding in old_code.look(context, name).findings]
    except (AdapterError, PreconditionError):
        return None
    times = [int(commit.author.rpartition(" ")[2]) for commit in commits if commit.author]
    if not times:
        return None
    moment = datetime.fromtimestamp(min(times), UTC)
    return moment, f"the feature's first commit of {moment:%Y-%m-%dT%H:%M:%SZ}"
