"""The kinds of check a plan names; each looks at the real thing and says PASS, FAIL or UNKNOWN."""

from collections.abc import Callable, Iterable
from contextlib import suppress

from runbook_lib.checks import api, data, latency, logs, page, reference, returning, schema, services, statements, troubles
from runbook_lib.checks.round import Round
from runbook_lib.errors import AdapterError
from runbook_lib.results import Result, Status

Check = Callable[[Round, str], Result]

KINDS: dict[str, Check] = {
    "services": services.running_in_wanted_version,
    "schema": schema.as_expected,
    "api_present": api.present,
    "api_absent": api.absent_or_empty,
    "page_media": page.shows_media,
    "page_served": page.shows_served,
    "page_console": page.no_errors,
    "page_thread": page.loads,
    "page_render": page.renders,
    "page_returning": returning.runs_the_new_bundle,
    "logs": logs.no_errors,
    "latency": latency.within_limit,
    "slow_queries": statements.none_slow,
    "reference": reference.nothing_missing,
    "proof": data.only_intended,
    "integrity": data.intact,
    "fresh": troubles.fresh,
    "sessions": troubles.nobody_connected,
}

does_not_apply = statements.does_not_apply


def run(checks: Iterable[str], around: Round) -> list[Result]:
    """Make the named checks of a plan in one round of observations; what cannot be checked is UNKNOWN. Read-only.

    The page is opened while the other checks are made; what was asked of the server meanwhile is looked at last.
    """
    names = list(checks)
    kinds = {name: around.context.plan.checks[name].kind for name in names}
    if "slow_queries" in kinds.values():
        with suppress(AdapterError):  # told when the check itself is made
            _ = around.statements
    if any(kind.startswith("page") for kind in kinds.values()):
        around.begin_visits()
    order = sorted(names, key=lambda name: (kinds[name] == "slow_queries", kinds[name].startswith("page")))
    made = {name: _made(name, around) for name in order}
    return [made[name] for name in names]


def _made(name: str, around: Round) -> Result:
    spec = around.context.plan.checks[name]
    try:
        return KINDS[spec.kind](around, name)
    except AdapterError as error:
        return Result(name, spec.title, Status.UNKNOWN, f"could not be checked: {error.what}")
