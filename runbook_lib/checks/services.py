"""The services run in the wanted version, and their logs hold no errors."""

import re
from collections.abc import Mapping
from typing import Any, Literal

from runbook_lib.checks import CheckContext, check
from runbook_lib.config.plan import CheckSpec
from runbook_lib.config.plan.steps import Name
from runbook_lib.context import builds
from runbook_lib.errors import AdapterError
from runbook_lib.results import Result, Status
from runbook_lib.services import NOTHING, Marks


class ServicesKeys(CheckSpec):
    """Whether the services run in the wanted version."""

    kind: Literal["services"]

    area = "Services"
    requires = ()


@check(ServicesKeys)
def running_in_wanted_version(checked: CheckContext, name: str) -> Result:
    """Whether every service of the plan runs what its repository holds. Read-only."""
    up = checked.context.adapters.services.up(checked.context.plan.services)
    found = {service: _state(checked, service, service in up) for service in checked.context.plan.services}
    statuses = {status for status, _ in found.values()}
    worst = Status.FAIL if Status.FAIL in statuses else Status.UNKNOWN if Status.UNKNOWN in statuses else Status.PASS
    return checked.result(name, worst, "; ".join(f"{service}: {text}" for service, (_, text) in found.items()))


def _state(checked: CheckContext, service: str, is_up: bool) -> tuple[Status, str]:
    if not is_up:
        restarted = checked.context.adapters.services.is_running(service)
        return Status.FAIL, "is being restarted again and again, or only part of it runs" if restarted else "does not run"
    wanted = builds.wanted(checked.context, service)
    try:
        version = builds.running(checked.context, service)
    except AdapterError as error:
        return Status.UNKNOWN, f"runs, but its version is not known: {error.what}"
    if builds.same(version, wanted):
        return Status.PASS, f"runs {version}"
    return Status.FAIL, f"runs {version}, wanted {wanted[:12]}"


_ERROR = re.compile(
    r"\b(?:ERROR|CRITICAL|FATAL)\b|^Traceback |\"level\":\s*\"(?:error|critical|fatal)\"|(?:^|[\s\[])(?:error|fatal)[\]:]"
)

KEPT = 1000  # lines


class LogsKeys(CheckSpec):
    """Whether the logs of services hold no errors."""

    kind: Literal["logs"]
    services: list[Name]
    """The services whose logs are read."""

    area = "Services"
    requires = ()


@check(LogsKeys)
def no_errors(checked: CheckContext, name: str) -> Result:
    """Whether the logs since the round's start hold something, but no error. Read-only."""
    spec = checked.context.plan.checks[name]
    assert isinstance(spec, LogsKeys)
    since = {service: checked.started.get(service, checked.since) for service in spec.services}
    ends, services = _ends_of_logs(checked), checked.context.adapters.services
    lines = {service: services.logs(service, since[service], ends.get(service, NOTHING)) for service in spec.services}
    errors = [f"{service}: {line}" for service, found in lines.items() for line in found if _ERROR.search(line)]
    read = ", ".join(f"{len(found)} lines of {service}" for service, found in lines.items())
    first = min(since.values()).isoformat(timespec="seconds")
    if errors:
        kept = checked.keep_text(name, "\n".join(errors[:KEPT]))
        summary = f"{len(errors)} errors since {first}: {errors[0]}"
        return checked.result(name, Status.FAIL, summary, errors=errors[:20], text=kept)
    if silent := [service for service, found in lines.items() if not found]:
        return checked.result(name, Status.UNKNOWN, f"nothing was logged since {first} by {', '.join(silent)}")
    return checked.result(name, Status.PASS, f"no error in {read} since {first}")


def _ends_of_logs(checked: CheckContext) -> Marks:
    """Where the log of each service ended when this run last started it."""
    found: dict[str, Mapping[str, Any]] = {}
    for step in checked.context.state.steps.values():
        found |= step.outcome.get("logs", {}) if step.is_done else {}
    return found
