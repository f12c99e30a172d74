"""The kinds of check a plan names; each looks at the real thing and says PASS, FAIL or UNKNOWN."""

from collections.abc import Iterable
from contextlib import suppress
from functools import cache

from runbook_lib.checks.kind import Check, Round
from runbook_lib.config.kinds import collected
from runbook_lib.context import Context
from runbook_lib.errors import AdapterError
from runbook_lib.results import Result, Status


@cache
def kinds() -> dict[str, Check]:
    """The kinds of check that are installed, by the name that plans give them. Read-only.

    Raises:
        TypeError: Two have one name.
    """
    return collected(
        __name__,
        "runbook_lib.checks",
        lambda module: [(check.keys, check) for check in vars(module).values() if isinstance(check, Check)],
    )


def kind(name: str) -> Check:
    """A kind of check. Read-only."""
    return kinds()[name]


def does_not_apply(context: Context, name: str) -> str:
    """Why a check has nothing to look at here, "" where it has. Read-only."""
    return kind(context.plan.checks[name].kind).does_not_apply(context, name)


def is_final(context: Context, name: str) -> bool:
    """Whether a check cannot be made again, because what it looks with was removed when the run ended. Read-only."""
    return kind(context.plan.checks[name].kind).is_final(context, name)


def begin(checks: Iterable[str], around: Round) -> None:
    """Begin to open the pages that some checks look at, once a round. Read-only."""
    opened = {around.context.plan.checks[name].opens for name in checks} - {""}
    if opened:
        around.begin_visits(returning="page and returning page" in opened)


def run(checks: Iterable[str], around: Round) -> list[Result]:
    """Make the named checks of a plan in one round of observations; what cannot be checked is UNKNOWN. Read-only.

    The page is opened while the other checks are made; what was asked of the server meanwhile is looked at last.
    """
    names = list(checks)
    specs = {name: around.context.plan.checks[name] for name in names}
    if any(spec.last for spec in specs.values()):
        with suppress(AdapterError):  # told when the check itself is made
            _ = around.statements
    begin(names, around)
    order = sorted(names, key=lambda name: (specs[name].last, bool(specs[name].opens)))
    made = {name: _made(name, around) for name in order}
    return [made[name] for name in names]


def _made(name: str, around: Round) -> Result:
    spec = around.context.plan.checks[name]
    try:
        return kind(spec.kind)(around, name)
    except AdapterError as error:
        return Result(name, spec.title, Status.UNKNOWN, f"could not be checked: {error.what}")
