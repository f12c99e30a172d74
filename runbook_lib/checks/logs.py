"""The services' logs hold no errors."""

import re

from runbook_lib.checks.round import Round
from runbook_lib.plan import LogsCheck
from runbook_lib.results import Result, Status

_ERROR = re.compile(
    r"\b(?:ERROR|CRITICAL|FATAL)\b|^Traceback |\"level\":\s*\"(?:error|critical|fatal)\"|(?:^|[\s\[])(?:error|fatal)[\]:]"
)

KEPT = 1000  # lines


def no_errors(around: Round, name: str) -> Result:
    """Whether the logs since the round's start hold something, but no error. Read-only."""
    spec = around.context.plan.checks[name]
    assert isinstance(spec, LogsCheck)
    since = {service: around.started.get(service, around.since) for service in spec.services}
    lines = {service: around.context.services.logs(service, since[service]) for service in spec.services}
    errors = [f"{service}: {line}" for service, found in lines.items() for line in found if _ERROR.search(line)]
    read = ", ".join(f"{len(found)} lines of {service}" for service, found in lines.items())
    first = min(since.values()).isoformat(timespec="seconds")
    if errors:
        kept = around.keep_text(name, "\n".join(errors[:KEPT]))
        summary = f"{len(errors)} errors since {first}: {errors[0]}"
        return around.result(name, Status.FAIL, summary, errors=errors[:20], text=kept)
    if silent := [service for service, found in lines.items() if not found]:
        return around.result(name, Status.UNKNOWN, f"nothing was logged since {first} by {', '.join(silent)}")
    return around.result(name, Status.PASS, f"no error in {read} since {first}")
