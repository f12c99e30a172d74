"""Has an error that ends a cell stand in the run's journal too, and offers the way back to services that run."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from typing import ParamSpec, TypeVar

from IPython.display import display as show

from runbook_lib import display, service_back
from runbook_lib.errors import Declined, RunbookError
from runbook_lib.run import Run
from runbook_lib.seat import live

P = ParamSpec("P")
T = TypeVar("T")


def journaled(action: Callable[P, Awaitable[T]]) -> Callable[P, Awaitable[T]]:
    """Have an error that ends an action on a run, its first argument, journaled, and the way back shown."""

    @functools.wraps(action)
    async def wrapped(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return await action(*args, **kwargs)
        except RunbookError as error:
            run = args[0]
            assert isinstance(run, Run)
            run.journal.append("stopped", cell=action.__name__, exit_code=error.exit_code, error=str(error))
            live.updated(run)
            if not isinstance(error, Declined):
                _offer_way_back(run)
            raise

    return wrapped


def _offer_way_back(run: Run) -> None:
    """Show the nearest way to services that are back, where they are not and there is one."""
    if run.context.type and (way := service_back.service_back(run)).moves:
        show(display.way(way, run.context.plan, run.state))
        show(display.line(f"To walk it: 08-service-back, or runbook service-back {run.folder.told}"))
