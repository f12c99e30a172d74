"""The services run in the expected version."""

from typing import Literal

from runbook_lib.checks import CheckContext, check
from runbook_lib.config.plan import CheckSpec
from runbook_lib.context import builds
from runbook_lib.errors import AdapterError
from runbook_lib.results import Result, Status


class ServicesKeys(CheckSpec):
    """Whether the services run in the expected version."""

    kind: Literal["services"]

    area = "Services"
    requires = ()
    of_recovery = True


@check(ServicesKeys)
def running_in_expected_version(checked: CheckContext, name: str) -> Result:
    """Check that every service of the plan runs its repository's commit. Read-only."""
    up = checked.context.adapters.services.up(checked.context.plan.services)
    found = {service: _state(checked, service, service in up) for service in checked.context.plan.services}
    statuses = {status for status, _ in found.values()}
    worst = Status.FAIL if Status.FAIL in statuses else Status.UNKNOWN if Status.UNKNOWN in statuses else Status.PASS
    return checked.result(name, worst, "; ".join(f"{service}: {text}" for service, (_, text) in found.items()))


def _state(checked: CheckContext, service: str, is_up: bool) -> tuple[Status, str]:
    if not is_up:
        restarted = checked.context.adapters.services.is_running(service)
        return Status.FAIL, "restarts repeatedly, or only part of it runs" if restarted else "does not run"
    expected = builds.expected(checked.context, service)
    try:
        version = builds.running(checked.context, service)
    except AdapterError as error:
        return Status.UNKNOWN, f"runs, but its version is unknown: {error.what}"
    if builds.same(version, expected):
        return Status.PASS, f"runs {version}"
    return Status.FAIL, f"runs {version}, expected {expected[:12]}"
