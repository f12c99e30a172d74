"""The kinds of check a plan names; each looks at the real thing and says PASS, FAIL or UNKNOWN."""

from collections.abc import Callable, Iterable
from contextlib import suppress
from pkgutil import resolve_name

from runbook_lib.checks.round import Round
from runbook_lib.context import Context
from runbook_lib.errors import AdapterError
from runbook_lib.results import Result, Status

Check = Callable[[Round, str], Result]

KINDS = {
    "services": "services:running_in_wanted_version",
    "schema": "schema:as_expected",
    "api_present": "api:present",
    "api_absent": "api:absent_or_empty",
    "page_media": "page:shows_media",
    "page_served": "page:shows_served",
    "page_console": "page:no_errors",
    "page_thread": "page:loads",
    "page_render": "page:renders",
    "page_returning": "returning:runs_the_new_bundle",
    "logs": "logs:no_errors",
    "latency": "latency:within_limit",
    "slow_queries": "statements:none_slow",
    "reference": "reference:nothing_missing",
    "proof": "data:only_intended",
    "integrity": "data:intact",
    "fresh": "troubles:fresh",
    "sessions": "troubles:nobody_connected",
}


def kind(name: str) -> Check:
    """The check of a kind, imported when first asked for: what a run does not look at costs it no start-up."""
    found: Check = resolve_name(f"{__name__}.{KINDS[name]}")
    return found


def does_not_apply(context: Context, name: str) -> str:
    """Why a check has nothing to look at here, "" where it has. Read-only."""
    from runbook_lib.checks import statements

    return statements.does_not_apply(context, name)


def begin(checks: Iterable[str], around: Round) -> None:
    """Begin to open the pages that some checks look at, once a round. Read-only."""
    kinds = {around.context.plan.checks[name].kind for name in checks}
    if any(each.startswith("page") for each in kinds):
        around.begin_visits(returning="page_returning" in kinds)


def run(checks: Iterable[str], around: Round) -> list[Result]:
    """Make the named checks of a plan in one round of observations; what cannot be checked is UNKNOWN. Read-only.

    The page is opened while the other checks are made; what was asked of the server meanwhile is looked at last.
    """
    names = list(checks)
    kinds = {name: around.context.plan.checks[name].kind for name in names}
    if "slow_queries" in kinds.values():
        with suppress(AdapterError):  # told when the check itself is made
            _ = around.statements
    begin(names, around)
    order = sorted(names, key=lambda name: (kinds[name] == "slow_queries", kinds[name].startswith("page")))
    made = {name: _made(name, around) for name in order}
    return [made[name] for name in names]


def _made(name: str, around: Round) -> Result:
    spec = around.context.plan.checks[name]
    try:
        return kind(spec.kind)(around, name)
    except AdapterError as error:
        return Result(name, spec.title, Status.UNKNOWN, f"could not be checked: {error.what}")
