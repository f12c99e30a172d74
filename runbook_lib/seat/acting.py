"""Carries a step out beside the cell that asked for it, so that its controls stay alive and what it does is seen."""

from __future__ import annotations

import asyncio
import ctypes
import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from time import monotonic
from typing import Any

from IPython.display import display as show

from runbook_lib import display, steering
from runbook_lib.adapters.postgres.cancelling import cancel
from runbook_lib.display import Shown
from runbook_lib.errors import RunbookError, UnknownOutcome
from runbook_lib.journal import Event, Journal
from runbook_lib.loop import Done
from runbook_lib.parts import Wanted
from runbook_lib.run import Run
from runbook_lib.widgets import attended

PERIOD = 0.5  # seconds between two looks at the journal, and so between two updates at least
GRACE = 60.0  # seconds that an interrupted step has to let go
BETWEEN = 2.0  # seconds between two attempts to wake a step that waits for the database

Act = Callable[[Run, str], Done]


async def carried_out(run: Run, name: str, act: Act) -> Done:
    """Have `act`, the loop's `apply` or `undo`, done to a step; where a person sits, with progress and controls.

    An interrupt of the kernel ends the step and leaves a state that it can be taken up from. Changes the target.

    Raises:
        RunbookError: What `act` raises.
        KeyboardInterrupt: The kernel was interrupted, and the step has let go.
        UnknownOutcome: It was interrupted, and the step has not let go in time.
    """
    if not attended():
        return act(run, name)
    return await _Acting(run, name, act).done()


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
        rate = done / spent if spent > 0 else 0.0
        left = f"{(total - done) / rate:.0f} s remain" if rate and total > done else "rest unknown"
        lines.append(f"{done:,} of {total:,} rows, {rate:,.0f} a second, {left if total > done else 'nearly done'}")
        lines += [data["text"]] if data.get("text") else []
        bar = f'<progress value="{done}" max="{max(total, done, 1)}" style="width:420px"></progress>'
    if told and told[-1].kind == "waiting":
        lines += [f"waiting for a lock; in the way: {blocker}" for blocker in told[-1].data["blockers"]]
    if wanted := [event.data["wanted"] for event in told if event.kind == "steered"]:
        lines.append(f"asked for: {wanted[-1]}")
    shown = display.beside(*(display.line(text) for text in lines))
    return Shown(shown.html + bar, shown.text)


class _Acting:
    """A step under way on a thread of its own, with what is shown of it."""

    def __init__(self, run: Run, name: str, act: Act) -> None:
        self.run, self.name, self.act = run, name, act
        self.title = run.context.plan.steps[name].title if name in run.context.plan.steps else name
        self._journal = Journal(run.folder.journal_path)
        self._thread = 0
        self._interrupted = False
        self._text = ""
        self._errors: list[str] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def done(self) -> Done:
        handle = show(self._shown(), display_id=True)
        controls = show(self._controls(), display_id=True) if self._works_in_batches() else None
        task = asyncio.ensure_future(asyncio.to_thread(self._work))
        try:
            while not task.done():
                await asyncio.wait({task}, timeout=PERIOD)
                self._redraw(handle)
        except asyncio.CancelledError:
            await self._end(task)
            raise KeyboardInterrupt("The step was interrupted; run the cell again to go on with it.") from None
        finally:
            self._redraw(handle)
            if controls is not None:
                controls.update(display.line("The controls of this step are put away: it has ended."))
        return task.result()

    def _work(self) -> Done:
        self._thread = threading.get_ident()
        try:
            if self._interrupted:
                raise KeyboardInterrupt
            return self.act(self.run, self.name)
        except KeyboardInterrupt as error:  # a future would have it end the kernel's loop
            raise _Interrupted from error
        finally:
            self._thread = 0

    def _redraw(self, handle: Any) -> None:
        shown = self._shown()
        if handle is not None and shown.text != self._text:
            self._text = shown.text
            handle.update(shown)

    def _shown(self) -> Shown:
        shown = panel(self.title, self._journal.events(), datetime.now(UTC))
        return display.beside(shown, *(display.line(error) for error in self._errors[-1:]))

    def _works_in_batches(self) -> bool:
        step = self.run.steps.get(self.name)
        return step is not None and step.WORKS_IN_PARTS

    def _controls(self) -> Any:
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
            button.on_click(lambda _, wanted=wanted: loop.call_soon_threadsafe(self._start, self._steer(wanted)))
            buttons.append(button)
        return widgets.HBox(buttons)

    def _start(self, coroutine: Any) -> None:
        task = asyncio.ensure_future(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _steer(self, wanted: Wanted) -> None:
        try:
            await asyncio.to_thread(steering.steer, self.run, wanted)
        except RunbookError as error:
            self._errors.append(str(error))

    async def _end(self, task: asyncio.Future[Done]) -> None:
        """Have the thread interrupted, and what it waits for too, until it has let go."""
        deadline = monotonic() + GRACE
        self._interrupted = True
        if thread := self._thread:
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(KeyboardInterrupt))
        for wake in (self._abort, *[self._cancel] * int(GRACE / BETWEEN)):
            await asyncio.wait({task}, timeout=PERIOD if wake == self._abort else BETWEEN)
            if task.done() or monotonic() > deadline:
                break
            with suppress(RunbookError, OSError):
                await asyncio.to_thread(wake)
        if not task.done():
            raise UnknownOutcome(
                f"“{self.title}” was interrupted, and has not let go in {GRACE:.0f} s.",
                where=self.run.context.target.name,
                state="It goes on in this kernel; nothing else can act in this run until it ends.",
                safe_next="Wait for it, or restart the kernel and run the cell again: the step is probed first.",
            )
        if not task.cancelled():
            task.exception()  # it stands in the journal

    def _abort(self) -> None:
        if self._works_in_batches():
            steering.steer(self.run, "abort")

    def _cancel(self) -> None:
        if self.run.touches_database:
            cancel(self.run.context.postgres)


class _Interrupted(Exception):
    """The thread of a step was interrupted."""
