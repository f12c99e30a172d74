"""Checks of the database: its data, the speed of its statements, and its sessions."""

from typing import Annotated, Literal

from pydantic import Field

from runbook_lib.checks import CheckContext, check
from runbook_lib.checks.restorable import restores
from runbook_lib.config.plan import CheckSpec, DatabaseStep
from runbook_lib.config.plan.steps import Name
from runbook_lib.context import Context, builds, old_code
from runbook_lib.context.comparison import is_there
from runbook_lib.errors import AdapterError
from runbook_lib.postgres.sessions import during, of_others, taken
from runbook_lib.results import Result, Status, verdict


class IntegrityKeys(CheckSpec):
    """Whether the backfilled column holds valid values."""

    kind: Literal["integrity"]

    area = "Database"
    requires = ("database", "backfill")


@check(IntegrityKeys)
def intact(checked: CheckContext, name: str) -> Result:
    """Check whether the backfilled column holds lists of objects, each backfilled one with its source. Read-only."""
    context = checked.context
    with context.adapters.postgres.connect() as connection:
        removes = any(spec.about.on_table == "schema" for spec in context.specs.values())
        gone_by_plan = removes or (restores(context) is not None and not context.schema_stays)
        if gone_by_plan and not is_there(context, connection):
            return checked.result(name, Status.PASS, "the column is gone, as this rollback leaves it")
        bad = {what: rows for what, rows in context.statistics(connection).malformed(connection).items() if rows}
    if bad:
        return checked.result(name, Status.FAIL, "; ".join(f"{rows} rows: {what}" for what, rows in bad.items()))
    return checked.result(name, Status.PASS, "every value is a list of objects, every backfilled one has its source")


class ProofKeys(CheckSpec):
    """Whether the change of the data changed nothing else."""

    kind: Literal["proof"]

    area = "Database"
    requires = ()


@check(ProofKeys)
def only_intended(checked: CheckContext, name: str) -> Result:
    """Report the proof that the change of the data changed nothing else. Read-only."""
    changes = [
        step for step, spec in checked.context.specs.items() if isinstance(spec, DatabaseStep) and spec.touches().changes
    ]
    results = [result for step in changes for result in checked.verified.get(step, [])]
    if not results:
        return checked.result(name, Status.UNKNOWN, "no proof was made in this run")
    return checked.result(name, verdict(results), "; ".join(result.summary for result in results))


SHOWN = 5
CHARACTERS = 160  # of a statement
UNMEASURED = "this server has no pg_stat_statements, so statements are not measured"


def does_not_apply(context: Context, name: str) -> str:
    """Return why a checklist omits the check, "" if it does not: the plan may omit it without statistics. Read-only.

    If this is unknown, for example without the right to see it, the check is not omitted.
    """
    spec = context.plan.checks[name]
    if not isinstance(spec, SlowQueriesKeys) or spec.unmeasured != "leave out":
        return ""
    try:
        measured = taken(context.adapters.postgres, context.target.database.application_role)
    except AdapterError:
        return ""
    return UNMEASURED if measured is None else ""


class SlowQueriesKeys(CheckSpec):
    """Whether no statement of the application takes longer, on average, than the plan says."""

    kind: Literal["slow_queries"]
    mean_ms: Annotated[float, Field(gt=0)]
    """The highest allowed mean, in milliseconds."""
    unmeasured: Literal["unknown", "leave out"] = "unknown"
    """In a checklist, if the server measures no statements."""

    area = "Database"
    requires = ()
    last = True


@check(SlowQueriesKeys, does_not_apply=does_not_apply)
def none_slow(checked: CheckContext, name: str) -> Result:
    """Check whether every statement that the application ran during this round kept the plan's mean time. Read-only."""
    spec = checked.context.plan.checks[name]
    assert isinstance(spec, SlowQueriesKeys)
    before = checked.statements
    if before is None:
        return checked.result(name, Status.UNKNOWN, UNMEASURED)
    after = taken(checked.context.adapters.postgres, checked.context.target.database.application_role)
    found = during(before, after or {})
    if not found:
        return checked.result(name, Status.UNKNOWN, "the application ran no statement during this round")
    slowest = [f"{each.milliseconds / each.calls:.1f} ms, {each.calls} times: {_cut(each.query)}" for each in found[:SHOWN]]
    slow = [each for each in found if each.milliseconds / each.calls > spec.mean_ms]
    summary = f"{len(slow)} of {len(found)} statements took more than {spec.mean_ms:g} ms on average; slowest {slowest[0]}"
    return checked.result(name, Status.FAIL if slow else Status.PASS, summary, statements=slowest)


def _cut(query: str) -> str:
    return query if len(query) <= CHARACTERS else f"{query[: CHARACTERS - 1]}…"


class FreshKeys(CheckSpec):
    """Whether a service runs a build of the checked-out commit, without the feature."""

    kind: Literal["fresh"]
    service: Name
    """The service whose build is checked."""

    area = "Frontend"
    requires = ("repositories",)

    def of_services(self) -> tuple[str, ...]:
        """Its service. Pure."""
        return (self.service,)


@check(FreshKeys)
def fresh(checked: CheckContext, name: str) -> Result:
    """Check that a service runs a build of the checked-out commit, without the feature. Read-only."""
    context, spec = checked.context, checked.context.plan.checks[name]
    assert isinstance(spec, FreshKeys)
    repository = context.target.services.built_from[spec.service]
    checkout = context.checkout(repository)
    head = checkout.head()
    problems = [f"{c.id[:12]} “{c.subject}” is still in effect" for c in old_code.live_commits(context, repository)]
    if builds.built_version(context, repository, checkout.path, head) is False:
        problems.append(f"the build is not of {head[:12]}, which is checked out")
    try:
        running = builds.running(context, spec.service)
    except AdapterError as error:
        if not problems:
            return checked.result(name, Status.UNKNOWN, f"the running version is unknown: {error.what}")
        running = "unknown"
    else:
        if not builds.same(running, head):
            problems.append(f"{running} runs, but {head[:12]} is checked out")
    if problems:
        return checked.result(name, Status.FAIL, "; ".join(problems), problems=problems)
    return checked.result(name, Status.PASS, f"{running} runs, built from the checked-out commit, without the feature")


class SessionsKeys(CheckSpec):
    """Whether nobody else is connected to the database."""

    kind: Literal["sessions"]

    area = "Database"
    requires = ()


@check(SessionsKeys)
def nobody_connected(checked: CheckContext, name: str) -> Result:
    """Check whether nobody but the running services is connected to the database. Read-only."""
    context = checked.context
    with context.adapters.postgres.connect() as connection:
        found = of_others(connection)
    running = [service for service in context.plan.services if context.adapters.services.is_running(service)]
    role = context.target.database.application_role
    strange = [session for session in found if not (running and session.user == role)]
    if strange:
        listed = [str(session) for session in strange]
        return checked.result(name, Status.FAIL, f"{len(strange)} sessions: {'; '.join(listed[:5])}", sessions=listed)
    of_services = f"; {len(found)} are of {', '.join(running)}, which run" if found else ""
    return checked.result(name, Status.PASS, f"no other session is connected{of_services}")
