"""Carries steps out beside the cell that asked for them: their controls stay alive, and what they do is seen."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

from runbook_lib import display, steering
from runbook_lib.display import Shown
from runbook_lib.errors import PreconditionError, RunbookError
from runbook_lib.journal import Event, Journal
from runbook_lib.loop import Done
from runbook_lib.parts import Wanted
from runbook_lib.run import Run
from runbook_lib.seat.beside import Beside
from runbook_lib.widgets import attended

AGAIN = 0.25  # seconds after which a step that was not at work is asked again

Act = Callable[[Run, str], Done]
T = TypeVar("T")


async def carried_out(run: Run, name: str, act: Act) -> Done:
    """Have `act`, the loop's `apply` or `undo`, done to a step; where a person sits, with progress and controls.

    An interrupt of the kernel ends the step and leaves a state that it can be taken up from. Changes the target.

    Raises:
        RunbookError: What `act` raises.
        KeyboardInterrupt: The kernel was interrupted, and the step has let go.
        UnknownOutcome: It was interrupted, and the step has not let go in time.
    """
    title = run.context.plan.steps[name].title if name in run.context.plan.steps else name
    return await walked(run, title, [name], lambda: act(run, name))


async def walked(run: Run, title: str, names: Sequence[str], work: Callable[[], T]) -> T:
    """Have `work` carry several steps out, one after another, as `carried_out` does one. Changes the target."""
    if not attended():
        return work()
    return await _Acting(run, title, names, work).done()


def panel(title: str, events: list[Event], now: datetime) -> Shown:
    """How far a step has come by what it told since it was last begun, and who is in its way. Pure."""
    begun = max((n for n, event in enumerate(events) if event.kind == "started"), default=0)
    told = events[begun:]
    since = max(0.0, (now - told[0].time).total_seconds()) if told else 0.0
    lines = [f"{title}: {since:.0f} s"]
    bar = ""
    if rows := [event for event in told if event.kind == "progress"]:
        data = rows[-1].data
        done, total, spent = data["done"], data["total"], (rows[-1].time - told[0].time).total_seconds()
        rate, unit = done / spent if spent > 0 else 0.0, data.get("unit", "rows")
        left = f"{(total - done) / rate:.0f} s remain" if rate and total > done else "rest unknown"
        left = left if total > done else "nearly done"
        lines.append(f"{done:,} of {total:,} {unit}, {rate:,.0f} a second, {left}" if total else f"{done:,} {unit} so far")
        lines += [data["text"]] if data.get("text") else []
        bar = f'<progress value="{done}" max="{max(total, done, 1)}" style="width:420px"></progress>'
    if told and told[-1].kind == "waiting":
        lines += [f"waiting for a lock; in the way: {blocker}" for blocker in told[-1].data["blockers"]]
    if wanted := [event.data["wanted"] for event in told if event.kind == "steered"]:
        lines.append(f"asked for: {wanted[-1]}")
    shown = display.beside(*(display.line(text) for text in lines))
    return Shown(shown.html + bar, shown.text)


class _Acting(Beside[T]):
    """Steps under way on a thread of their own, with what is shown of the one that acts."""

    def __init__(self, run: Run, title: str, names: Sequence[str], work: Callable[[], T]) -> None:
        super().__init__(run, title, work)
        self.names = names
        self._journal = Journal(run.folder.journal_path)
        self._told = ""  # what became of what was asked for last
        self._asking: asyncio.Task[None] | None = None

    async def done(self) -> T:
        try:
            return await super().done()
        finally:
            self._ask_no_more()

    def shown(self) -> Shown:
        events = self._journal.events()
        shown = panel(self._acting_title(events), events, datetime.now(UTC))
        return display.beside(shown, display.line(self._told)) if self._told else shown

    def controls(self) -> Any:
        if not self._works_in_batches():
            return None
        import ipywidgets as widgets

        buttons = []
        said: list[tuple[str, Wanted, str]] = [
            ("Pause", "pause", "Wait before the next batch"),
            ("Resume", "go on", "Go on after a pause"),
            ("Abort", "abort", "End before the next batch; what is done stays, and the cell can be run again"),
        ]
        loop = asyncio.get_running_loop()
        for label, wanted, tooltip in said:
            button = widgets.Button(description=f"{label} this step", tooltip=tooltip, layout={"width": "max-content"})
            button.on_click(lambda _, wanted=wanted: loop.call_soon_threadsafe(self._ask, wanted))
            buttons.append(button)
        return widgets.HBox(buttons)

    def abort(self) -> None:
        if self._works_in_batches():
            steering.steer(self.run, "abort")

    def cancel(self) -> None:
        if self.run.touches_database:
            super().cancel()

    def _acting_title(self, events: list[Event]) -> str:
        """The title, with that of the step that acts where there are several."""
        begun = [event.data["title"] for event in events if event.kind == "started" and event.data["step"] in self.names]
        return f"{self.title}: {begun[-1]}" if len(self.names) > 1 and begun else self.title

    def _works_in_batches(self) -> bool:
        steps = [self.run.steps[name] for name in self.names if name in self.run.steps]
        return any(step.WORKS_IN_PARTS for step in steps)

    def _ask(self, wanted: Wanted) -> None:
        self._ask_no_more()
        self._asking = asyncio.ensure_future(self._steer(wanted))

    def _ask_no_more(self) -> None:
        if self._asking:
            self._asking.cancel()

    async def _steer(self, wanted: Wanted) -> None:
        """Have the step steered; where it is not at work yet, as soon as it is."""
        while True:
            try:
                await asyncio.to_thread(steering.steer, self.run, wanted)
                self._told = ""
                return
            except PreconditionError as error:
                self._told = f"asked for: {wanted}, which it will be told once it can be. {error.what}"
                await asyncio.sleep(AGAIN)
            except RunbookError as error:
                self._told = str(error)
                return
