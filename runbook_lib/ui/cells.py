"""Journals every cell that a person executes: source, time, outcome, and a hash of its output."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import Any, ParamSpec, TypeVar

from IPython.core.getipython import get_ipython
from IPython.display import display as show

from runbook_lib.errors import Declined, RunbookError
from runbook_lib.run import Run, recovery
from runbook_lib.ui import banner, display
from runbook_lib.ui.banner import Banner
from runbook_lib.ui.widgets import attended

LONGEST = 20_000  # characters of a source that are kept


class Cells:
    """Journals the cells of one kernel for one run."""

    def __init__(self, run: Run, shell: Any, banner: Banner) -> None:
        self.run, self.shell, self.banner = run, shell, banner
        self._begun = monotonic()
        self._outputs = hashlib.sha256()

    def begin(self) -> None:
        """Journal from the current cell on."""
        self.shell.events.register("pre_run_cell", self.before)
        self.shell.events.register("post_run_cell", self.after)
        if hasattr(self.shell.display_pub, "register_hook"):
            self.shell.display_pub.register_hook(self.shown)
        parent = getattr(self.shell, "parent_header", None) or {}
        self._start(str(parent.get("content", {}).get("code", "")))

    def end(self) -> None:
        """Stop journaling."""
        self.shell.events.unregister("pre_run_cell", self.before)
        self.shell.events.unregister("post_run_cell", self.after)
        if hasattr(self.shell.display_pub, "unregister_hook"):
            self.shell.display_pub.unregister_hook(self.shown)

    def before(self, info: Any) -> None:
        """Journal that a cell starts."""
        self._start(info.raw_cell)

    def after(self, result: Any) -> None:
        """Journal that a cell ended."""
        error = result.error_before_exec or result.error_in_exec
        if result.result is not None:
            self._outputs.update(str(result.result).encode())
        self.run.journal.append(
            "cell-ended",
            outcome=type(error).__name__ if error else "ok",
            seconds=round(monotonic() - self._begun, 3),
            outputs=self._outputs.hexdigest(),
        )
        self.banner.busy.clear()
        self.banner.update()

    def shown(self, message: Any) -> Any:
        """Add a displayed output to the hash."""
        data = message.get("content", {}).get("data", {})
        self._outputs.update(json.dumps(data, sort_keys=True, default=str).encode())
        return message

    def _start(self, source: str) -> None:
        self._begun, self._outputs = monotonic(), hashlib.sha256()
        cut = f"\n… {len(source) - LONGEST} more characters" if len(source) > LONGEST else ""
        self.run.journal.append("cell-started", source=source[:LONGEST] + cut)
        self.banner.busy.set()


_watched: list[Cells] = []


def watch(run: Run, banner: Banner) -> None:
    """Journal the cells of this attended kernel for `run` from now on, and no longer for an earlier run."""
    shell = get_ipython()
    if shell is None or not attended():
        return
    while _watched:
        _watched.pop().end()
    cells = Cells(run, shell, banner)
    _watched.append(cells)
    cells.begin()


P = ParamSpec("P")
T = TypeVar("T")


def journaled(action: Callable[P, Awaitable[T]]) -> Callable[P, Awaitable[T]]:
    """Journal an error that ends an action on a run, its first argument, and show the recovery path."""

    @functools.wraps(action)
    async def wrapped(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return await action(*args, **kwargs)
        except RunbookError as error:
            run = args[0]
            assert isinstance(run, Run)
            run.journal.append("stopped", cell=action.__name__, exit_code=error.exit_code, error=str(error))
            banner.updated(run)
            if not isinstance(error, Declined):
                _offer_recovery(run)
            raise

    return wrapped


def _offer_recovery(run: Run) -> None:
    """Show the recovery path if some services are down, or that no path is left."""
    if not run.context.type:
        return
    way = recovery.recover(run)
    if way.moves or way.blocked:
        show(display.recovery(way, run.context.plan, run.state))
    if way.moves:
        show(display.line(f"Next: open 08-service-back, or in a terminal: runbook service-back {run.folder.label}"))
