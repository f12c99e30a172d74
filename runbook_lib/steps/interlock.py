"""Whether anything of the feature's version still lives, so that taking its schema away would break it."""

from runbook_lib import oldcode, versions
from runbook_lib.context import Context
from runbook_lib.errors import AdapterError
from runbook_lib.results import Result, Status


def no_feature_service(context: Context, step: str) -> Result:
    """That every service is stopped, or runs code in which the feature is taken back. Read-only."""
    lines, statuses = [], set()
    for service in context.plan.services:
        status, text = _looked(context, service)
        statuses.add(status)
        lines.append(f"{service} {text}")
    worst = next(
        status for status in (Status.FAIL, Status.UNKNOWN, Status.PASS) if status in statuses or status is Status.PASS
    )
    return Result(f"{step}: services", "No service runs the feature's version", worst, "; ".join(lines))


def _looked(context: Context, service: str) -> tuple[Status, str]:
    if not context.services.is_running(service):
        return Status.PASS, "is stopped"
    try:
        version = versions.running(context, service)
    except AdapterError as error:
        return Status.UNKNOWN, f"runs, in a version that is not known: {error.what}"
    head = versions.wanted(context, service)
    if oldcode.live_commits(context, context.target.services.built_from[service]):
        return Status.FAIL, f"runs {version}, and its repository still holds the feature"
    if not versions.same(version, head):
        return Status.FAIL, f"runs {version}, not {head[:12]}, in which the feature is taken back"
    return Status.PASS, f"runs {version}, without the feature"
