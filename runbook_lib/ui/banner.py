"""The banner on top of a notebook, which follows the run while a cell runs."""

from __future__ import annotations

import contextvars
import threading
import time
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

from IPython.display import display as show

from runbook_lib.errors import RunbookError
from runbook_lib.journal import Journal
from runbook_lib.journal.event import Event
from runbook_lib.journal.state import RunState, replay
from runbook_lib.run import Run, recovery
from runbook_lib.ui import display, estimates, next_notebook, panel
from runbook_lib.ui.display import Shown
from runbook_lib.ui.panel import Panel
from runbook_lib.ui.widgets import Gate, attended

PERIOD = 0.5  # seconds between two reads of the journal, so the least between two updates


class Banner:
    """A run's banner: shown once, then updated while a cell runs if a person attends."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.busy = threading.Event()  # a cell runs
        self._journal = Journal(run.folder.journal_path)  # its own: it reads on a thread of its own
        self._handle: Any = None
        self._over = False
        self._text = ""
        self._panel: Panel | None = None
        self._lines: list[str] = []
        self._state = run.state
        self._way = (0, "")  # the number of events it was computed from, and the line

    def show(self) -> None:
        """Show the banner, and follow the run from now on."""
        shown = self.now()
        self._text = shown.text
        if not attended():
            show(shown)
            return
        self._handle = show(shown, display_id=True)
        self._panel = panel.open_one()
        Gate([self._panel.opener] if self._panel else []).show()
        self._put_in_panel()
        context = contextvars.copy_context()
        name = f"banner-{self.run.folder.id}"
        threading.Thread(target=context.run, args=(self._follow,), name=name, daemon=True).start()

    def end(self) -> None:
        """Stop following the run."""
        self._over = True
        self.busy.set()

    def update(self) -> bool:
        """Show the banner again if it changed; return whether it did."""
        shown = self.now()
        if self._handle is None or shown.text == self._text:
            return False
        self._text = shown.text
        self._handle.update(shown)
        self._put_in_panel()
        return True

    def now(self) -> Shown:
        """Return the banner by the journal of now. Read-only."""
        events = self._journal.events()
        state = self._state = replay(events)
        self._lines = estimates.lines(self.run.context.plan, state, events, self.run.earlier, datetime.now(UTC))
        return display.banner(self.run.folder, self.run.context.plan, state, self._lines, self._way_back(state, events))

    def _put_in_panel(self) -> None:
        if self._panel:
            plan = self.run.context.plan
            head = display.headline(
                plan, self._state, [line for line in self._lines if not line.startswith(estimates.WAITED)]
            )
            rest = display.side_by_side(display.steps(plan, self._state), display.text(self._way[1]))
            self._panel.put(head, rest, self._recovery if self._way[1] not in ("", display.ALL_RUN) else None)

    @cached_property
    def _recovery(self) -> Any:
        """The button that opens the recovery notebook, None where no server can."""
        if not next_notebook.is_served():
            return None
        import ipywidgets

        button = ipywidgets.Button(description=f"Open {next_notebook.RECOVERY}", layout={"width": "max-content"})
        button.on_click(lambda _: next_notebook.open_file(f"{next_notebook.RECOVERY}.ipynb"))
        return button

    def _way_back(self, state: RunState, events: list[Event]) -> str:
        if not state.steps:
            return "This run has changed nothing yet."
        if self._way[0] != len(events):
            try:
                line = display.recovery_in_short(recovery.recover(self.run), self.run.context.plan)
            except RunbookError as error:
                line = f"RECOVERY PATH UNKNOWN: {error.what}"
            self._way = (len(events), line)
        return self._way[1]

    def _follow(self) -> None:
        while True:
            self.busy.wait()
            if self._over:
                return
            time.sleep(PERIOD)
            try:
                self.update()
            except (RunbookError, OSError):  # a stale banner is no reason to stop a rollback
                continue


_banners: dict[str, Banner] = {}  # run folder -> what is shown of it in this kernel


def begin(run: Run) -> Banner:
    """Show the banner of a run just opened here, and stop following earlier ones."""
    for earlier in _banners.values():
        earlier.end()
    banner = _banners[run.folder.id] = Banner(run)
    banner.show()
    return banner


def updated(run: Run) -> None:
    """Update the banner of a run, if one is shown."""
    if banner := _banners.get(run.folder.id):
        banner.update()
