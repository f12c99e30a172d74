"""Journals every cell that a person executes, whatever is in it: source, time, outcome, and a hash of what it showed."""

from __future__ import annotations

import hashlib
import json
from time import monotonic
from typing import Any

from IPython.core.getipython import get_ipython

from runbook_lib.run import Run
from runbook_lib.seat.live import Banner
from runbook_lib.widgets import attended

LONGEST = 20_000  # characters of a source that are kept


class Cells:
    """Takes note of the cells of one kernel for one run."""

    def __init__(self, run: Run, shell: Any, banner: Banner) -> None:
        self.run, self.shell, self.banner = run, shell, banner
        self._begun = monotonic()
        self._outputs = hashlib.sha256()

    def begin(self) -> None:
        """Take note from the present cell on."""
        self.shell.events.register("pre_run_cell", self.before)
        self.shell.events.register("post_run_cell", self.after)
        if hasattr(self.shell.display_pub, "register_hook"):
            self.shell.display_pub.register_hook(self.shown)
        parent = getattr(self.shell, "parent_header", None) or {}
        self._start(str(parent.get("content", {}).get("code", "")))

    def end(self) -> None:
        """Take no more notes."""
        self.shell.events.unregister("pre_run_cell", self.before)
        self.shell.events.unregister("post_run_cell", self.after)
        if hasattr(self.shell.display_pub, "unregister_hook"):
            self.shell.display_pub.unregister_hook(self.shown)

    def before(self, info: Any) -> None:
        """A cell begins."""
        self._start(info.raw_cell)

    def after(self, result: Any) -> None:
        """A cell has ended."""
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
        """Something is shown; it goes into the hash."""
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
    """Journal the cells of this kernel for `run` from now on, where a person sits there; no more for an earlier run."""
    shell = get_ipython()
    if shell is None or not attended():
        return
    while _watched:
        _watched.pop().end()
    cells = Cells(run, shell, banner)
    _watched.append(cells)
    cells.begin()
