"""No statement of the application is slow, by what the server itself has measured during the round."""

from runbook_lib.adapters.postgres.statements import during, taken
from runbook_lib.checks.round import Round
from runbook_lib.context import Context
from runbook_lib.errors import AdapterError
from runbook_lib.plan import SlowQueriesCheck
from runbook_lib.results import Result, Status

SHOWN = 5
UNMEASURED = "pg_stat_statements is not on this server, so nobody has measured them"


def does_not_apply(context: Context, name: str) -> str:
    """Why the check is left out of a checklist, "" where it is not: by the plan, where nobody measures. Read-only.

    What cannot be told, as without the right to see it, leaves nothing out.
    """
    spec = context.plan.checks[name]
    if not isinstance(spec, SlowQueriesCheck) or spec.unmeasured != "leave out":
        return ""
    try:
        measured = taken(context.postgres, context.target.database.application_role)
    except AdapterError:
        return ""
    return UNMEASURED if measured is None else ""


def none_slow(around: Round, name: str) -> Result:
    """Whether every statement that the application ran during this round kept the plan's mean time. Read-only."""
    spec = around.context.plan.checks[name]
    assert isinstance(spec, SlowQueriesCheck)
    before = around.statements
    if before is None:
        return around.result(name, Status.UNKNOWN, UNMEASURED)
    after = taken(around.context.postgres, around.context.target.database.application_role)
    found = during(before, after or {})
    if not found:
        return around.result(name, Status.UNKNOWN, "the application ran no statement during this round")
    told = [f"{each.milliseconds / each.calls:.1f} ms, {each.calls} times: {each.query[:160]}" for each in found[:SHOWN]]
    slow = [each for each in found if each.milliseconds / each.calls > spec.mean_ms]
    summary = f"{len(slow)} of {len(found)} statements took more than {spec.mean_ms:g} ms on average; slowest {told[0]}"
    return around.result(name, Status.FAIL if slow else Status.PASS, summary, statements=told)
