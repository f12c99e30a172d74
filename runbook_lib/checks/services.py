"""The services run, in the version that is checked out."""

from runbook_lib import versions
from runbook_lib.checks.round import Round
from runbook_lib.errors import AdapterError
from runbook_lib.results import Result, Status


def running_in_wanted_version(around: Round, name: str) -> Result:
    """Whether every service of the plan runs what its repository holds. Read-only."""
    up = around.context.services.up(around.context.plan.services)
    found = {service: _state(around, service, service in up) for service in around.context.plan.services}
    statuses = {status for status, _ in found.values()}
    worst = Status.FAIL if Status.FAIL in statuses else Status.UNKNOWN if Status.UNKNOWN in statuses else Status.PASS
    return around.result(name, worst, "; ".join(f"{service}: {text}" for service, (_, text) in found.items()))


def _state(around: Round, service: str, is_up: bool) -> tuple[Status, str]:
    if not is_up:
        restarted = around.context.services.is_running(service)
        return Status.FAIL, "is being restarted again and again, or only part of it runs" if restarted else "does not run"
    wanted = versions.wanted(around.context, service)
    try:
        version = versions.running(around.context, service)
    except AdapterError as error:
        return Status.UNKNOWN, f"runs, but its version is not known: {error.what}"
    if versions.same(version, wanted):
        return Status.PASS, f"runs {version}"
    return Status.FAIL, f"runs {version}, wanted {wanted[:12]}"
