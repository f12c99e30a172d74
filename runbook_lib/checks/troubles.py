"""What stands behind the troubles of a rollback: a page that is not built from what is checked out, sessions in the way."""

from runbook_lib import builds, oldcode, versions
from runbook_lib.adapters.postgres.sessions import of_others
from runbook_lib.checks.round import Round
from runbook_lib.errors import AdapterError
from runbook_lib.plan import FreshCheck
from runbook_lib.results import Result, Status


def fresh(around: Round, name: str) -> Result:
    """Whether a service runs a build of what is checked out, and that is without the feature. Read-only."""
    context, spec = around.context, around.context.plan.checks[name]
    assert isinstance(spec, FreshCheck)
    repository = context.target.services.built_from[spec.service]
    checkout = context.checkout(repository)
    head = checkout.head()
    problems = [f"{c.id[:12]} “{c.subject}” is still in effect" for c in oldcode.live_commits(context, repository)]
    if builds.built_version(context, repository, checkout.path, head) is False:
        problems.append(f"what is built is not of {head[:12]}, which is checked out")
    try:
        running = versions.running(context, spec.service)
    except AdapterError as error:
        if not problems:
            return around.result(name, Status.UNKNOWN, f"which version runs is not known: {error.what}")
        running = "unknown"
    else:
        if not versions.same(running, head):
            problems.append(f"{running} runs, and {head[:12]} is checked out")
    if problems:
        return around.result(name, Status.FAIL, "; ".join(problems), problems=problems)
    return around.result(name, Status.PASS, f"{running} runs, built from what is checked out, without the feature")


def nobody_connected(around: Round, name: str) -> Result:
    """Whether nobody but the running services is connected to the database. Read-only."""
    context = around.context
    with context.postgres.connect() as connection:
        found = of_others(connection)
    running = [service for service in context.plan.services if context.services.is_running(service)]
    role = context.target.database.application_role
    strange = [session for session in found if not (running and session.user == role)]
    if strange:
        listed = [str(session) for session in strange]
        return around.result(name, Status.FAIL, f"{len(strange)} sessions: {'; '.join(listed[:5])}", sessions=listed)
    of_services = f"; {len(found)} are of {', '.join(running)}, which run" if found else ""
    return around.result(name, Status.PASS, f"no session is in the way{of_services}")
