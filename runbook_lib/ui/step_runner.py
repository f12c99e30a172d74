"""Executes steps in the background of their cell, so that progress is shown and the controls work."""

from __future__ import annotations

import asyncio
import ctypes
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from time import monotonic
from typing import Any, Generic, TypeVar

from IPython.display import display as show

from runbook_lib.errors import PreconditionError, RunbookError, UnknownOutcome
from runbook_lib.journal import Journal
from runbook_lib.journal.control import Request
from runbook_lib.journal.elapsed import seconds, steady, steady_now
from runbook_lib.journal.event import Event, clock
from runbook_lib.postgres.sessions import cancel
from runbook_lib.run import Run, recovery
from runbook_lib.run.engine import Done
from runbook_lib.ui import display, panel
from runbook_lib.ui.cells import journaled
from runbook_lib.ui.display import Shown
from runbook_lib.ui.widgets import LIVE, NOTHING, asked, attended, confirmation, confirmed_for_good

PERIOD = 0.5  # seconds between two updates of the output
GRACE = 60.0  # seconds that interrupted work has to end
BETWEEN = 2.0  # seconds between two attempts to wake work that waits for the database

R = TypeVar("R")


async def in_background(run: Run, title: str, work: Callable[[], R]) -> R:
    """Do `work`; in an attended kernel in the background, showing the elapsed time.

    Changes the target as far as `work` does.

    Raises:
        RunbookError: What `work` raises.
        KeyboardInterrupt: The kernel was interrupted, and the work has ended.
        UnknownOutcome: It was interrupted, and the work has not ended in time.
    """
    return await _OfRun(run, title, work).done() if attended() else work()


class BackgroundTask(Generic[R]):
    """Work on its own thread, with its output."""

    where = "this kernel"  # where the work acts

    def __init__(self, title: str, work: Callable[[], R]) -> None:
        self.title, self.work = title, work
        self._begun = monotonic()
        self._thread = 0
        self._interrupted = False
        self._text = ""
        self._controls: Any = None

    async def done(self) -> R:
        """Return the result of the work once it has ended."""
        self._begun = monotonic()
        handle = show(self.shown(), display_id=True)
        controls = self._controls = self.controls()
        shown_controls = show(controls.add_class(LIVE), display_id=True) if controls is not None else None
        task = asyncio.ensure_future(asyncio.to_thread(self._work))
        try:
            while not task.done():
                await asyncio.wait({task}, timeout=PERIOD)
                self._redraw(handle)
        except asyncio.CancelledError:
            await self._end(task)
            raise KeyboardInterrupt(f"“{self.title}” was interrupted; run the cell again to resume it.") from None
        finally:
            self.disconnect()
            self._redraw(handle)
            if place := panel.opened():
                place.work(NOTHING)
            if shown_controls is not None:
                controls.remove_class(LIVE)
                shown_controls.update(display.line("This step has ended; its controls are removed."))
        return task.result()

    def shown(self) -> Shown:
        """The current output of the work."""
        return display.line(f"{self.title}: {monotonic() - self._begun:.0f} s")

    def controls(self) -> Any:
        """The controls of the work, None without any."""
        return None

    def disconnect(self) -> None:
        """Stop what the controls still do, as the work has ended."""

    def abort(self) -> None:
        """Ask the work to end by itself, if it can."""

    def cancel(self) -> None:
        """Cancel what the work waits for, if that is possible."""

    def _work(self) -> R:
        self._thread = threading.get_ident()
        try:
            if self._interrupted:
                raise KeyboardInterrupt
            return self.work()
        except KeyboardInterrupt as error:  # in a future it would end the kernel's loop
            raise _Interrupted from error
        finally:
            self._thread = 0

    def _redraw(self, handle: Any) -> None:
        shown = self.shown()
        if handle is not None and shown.text != self._text:
            self._text = shown.text
            handle.update(shown)
            if place := panel.opened():
                place.work(shown, self._controls)

    async def _end(self, task: asyncio.Future[R]) -> None:
        """Interrupt the thread, and what it waits for, until the work has ended."""
        deadline = monotonic() + GRACE
        self._interrupted = True
        if thread := self._thread:
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(KeyboardInterrupt))
        for wake in (self.abort, *[self.cancel] * int(GRACE / BETWEEN)):
            await asyncio.wait({task}, timeout=PERIOD if wake == self.abort else BETWEEN)
            if task.done() or monotonic() > deadline:
                break
            with suppress(RunbookError, OSError):
                await asyncio.to_thread(wake)
        if not task.done():
            raise UnknownOutcome(
                f"“{self.title}” was interrupted, and has not ended in {GRACE:.0f} s.",
                where=self.where,
                state="It continues in this kernel; nothing else can act in this run until it ends.",
                safe_next="Wait for it, or restart the kernel and run the cell again: the step is probed first.",
            )
        if not task.cancelled():
            task.exception()  # it is in the journal


class _Interrupted(Exception):
    """The thread was interrupted."""


class _OfRun(BackgroundTask[R]):
    """Work of a run, which may wait for the run's database."""

    def __init__(self, run: Run, title: str, work: Callable[[], R]) -> None:
        super().__init__(title, work)
        self.run, self.where = run, run.context.target.name

    def cancel(self) -> None:
        cancel(self.run.context.adapters.postgres)


AGAIN = 0.25  # seconds until a step that has not started is asked again

Act = Callable[[Run, str], Done]
T = TypeVar("T")


async def run_step(run: Run, name: str, act: Act) -> Done:
    """Apply or undo a step with `act`; in an attended kernel with progress and controls.

    An interrupt of the kernel ends the step in a state from which it can resume. Changes the target.

    Raises:
        RunbookError: What `act` raises.
        KeyboardInterrupt: The kernel was interrupted, and the step has ended.
        UnknownOutcome: It was interrupted, and the step has not ended in time.
    """
    title = run.context.plan.steps[name].title if name in run.context.plan.steps else name
    if not attended():
        return act(run, name)
    return await _Acting(run, title, [name], partial(act, run, name)).done()


async def walked(run: Run, title: str, names: Sequence[str], work: Callable[[], T]) -> T:
    """Let `work` execute several steps, as `run_step` does one. Changes the target."""
    if not attended():
        return work()
    return await _Acting(run, title, names, work).done()


def under_way(title: str, events: list[Event], now: datetime) -> Shown:
    """The progress that a step reported since its last start, and the sessions that block it. Pure."""
    events, now = steady(events), steady_now(events, now)
    begun = max((n for n, event in enumerate(events) if event.kind == "started"), default=0)
    reported = events[begun:]
    since = seconds(events, reported[0], now) if reported else 0.0
    lines = [f"{title}: {clock(since) if since is None else f'{since:.0f} s'}"]
    bar = ""
    if rows := [event for event in reported if event.kind == "progress"]:
        data = rows[-1].data
        done, total, spent = data["done"], data["total"], seconds(events, reported[0], rows[-1]) or 0.0
        rate, unit = done / spent if spent > 0 else 0.0, data.get("unit", "rows")
        left = f"{(total - done) / rate:.0f} s remain" if rate and total > done else "rest unknown"
        left = left if total > done else "nearly done"
        lines.append(f"{done:,} of {total:,} {unit}, {rate:,.0f} a second, {left}" if total else f"{done:,} {unit} so far")
        lines += [data["text"]] if data.get("text") else []
        bar = f'<progress value="{done}" max="{max(total, done, 1)}" style="width:420px"></progress>'
    if reported and reported[-1].kind == "waiting":
        lines += [f"waiting for a lock; blocked by: {blocker}" for blocker in reported[-1].data["blockers"]]
    if requested := [event.data["wanted"] for event in reported if event.kind == "steered"]:
        lines.append(f"requested: {requested[-1]}")
    shown = display.side_by_side(*(display.line(text) for text in lines))
    return Shown(shown.html + bar, shown.text)


class _Acting(_OfRun[T]):
    """Steps on their own thread, with the output of the current one."""

    def __init__(self, run: Run, title: str, names: Sequence[str], work: Callable[[], T]) -> None:
        super().__init__(run, title, work)
        self.names = names
        self._journal = Journal(run.folder.journal_path)
        self._reply = ""  # the result of the last request
        self._asking: asyncio.Task[None] | None = None

    def shown(self) -> Shown:
        events = self._journal.events()
        shown = under_way(self._acting_title(events), events, datetime.now(UTC))
        return display.side_by_side(shown, display.line(self._reply)) if self._reply else shown

    def controls(self) -> Any:
        if not self._works_in_batches():
            return None
        import ipywidgets as widgets

        buttons = []
        said: list[tuple[str, Request, str]] = [
            ("Pause", "pause", "Wait before the next batch"),
            ("Resume", "resume", "Continue after a pause"),
            ("Abort", "abort", "End before the next batch; finished batches stay, and the cell can be run again"),
        ]
        loop = asyncio.get_running_loop()
        for label, request, tooltip in said:
            button = widgets.Button(description=f"{label} this step", tooltip=tooltip, layout={"width": "max-content"})
            button.on_click(lambda _, request=request: loop.call_soon_threadsafe(self._ask, request))
            buttons.append(button)
        return widgets.HBox(buttons)

    def disconnect(self) -> None:
        if self._asking:
            self._asking.cancel()

    def abort(self) -> None:
        if self._works_in_batches():
            self.run.request("abort")

    def cancel(self) -> None:
        if self.run.touches_database:
            super().cancel()

    def _acting_title(self, events: list[Event]) -> str:
        """The title, with that of the current step if there are several."""
        begun = [event.data["title"] for event in events if event.kind == "started" and event.data["step"] in self.names]
        return f"{self.title}: {begun[-1]}" if len(self.names) > 1 and begun else self.title

    def _works_in_batches(self) -> bool:
        steps = [self.run.steps[name] for name in self.names if name in self.run.steps]
        return any(step.WORKS_IN_PARTS for step in steps)

    def _ask(self, request: Request) -> None:
        self.disconnect()
        self._asking = asyncio.ensure_future(self._request(request))

    async def _request(self, request: Request) -> None:
        """Pass a request to the step, or as soon as the step has started."""
        while True:
            try:
                await asyncio.to_thread(self.run.request, request)
                self._reply = ""
                return
            except PreconditionError as error:
                self._reply = f"requested: {request}; it takes effect as soon as possible. {error.what}"
                await asyncio.sleep(AGAIN)
            except RunbookError as error:
                self._reply = str(error)
                return


@journaled
async def recovery_path(run: Run) -> Shown:
    """Show the shortest path to services that run in an allowed combination, and the digest to approve. Read-only.

    Example:
        >>> for step in ("freeze", "stop-services"):
        ...     done = await apply(run, step)
        >>> path = await recovery_path(run)
        >>> print(path)
        Service back in 20 s …
          undo | Stop the services | 20 s
        Recovery path …
    """
    offered = await in_background(run, "Looking for a recovery path", lambda: recovery.offer(run))
    parts = [display.recovery(offered.way, run.context.plan, run.state)]
    if offered.previews:
        parts.append(display.previews(offered.previewed, offered.previews))
    return display.side_by_side(*parts, display.line(f"Recovery path {offered.digest}"))


@journaled
async def recover(run: Run, value: str) -> Shown:
    """Take the recovery path once it is approved: by its digest, or on production by the typed target's name.

    Changes the target.

    Example:
        >>> await recover(run, str(path).split()[-1])
        Take the recovery path … on rehearsal? … (parameter)
        Stop the services: undone (… s, planned 20 s): running: …
        Services: 1 of 1 PASS
        …
        SERVICE-BACK: …
    """
    offered = await in_background(run, "Looking for a recovery path", lambda: recovery.offer(run))
    target = run.context.target
    if not offered.way.moves:
        return display.recovery(offered.way, run.context.plan, run.state)
    answer = target.name if target.is_production and attended() else offered.digest
    question = f"Take the recovery path {offered.digest} on {target.name}?"
    with asked(run, question):
        await confirmation(question, answer, value)
    for move in offered.way.moves:
        if move.action == "apply":
            await confirmed_for_good(run, move.step, offered.previewed or run.state.approved)
    names = [move.step for move in offered.way.moves]
    done, ended = await walked(run, "Service back", names, lambda: recovery.walk(run, offered, offered.digest))
    results = display.results(run.recorded(recovery.ROUND), "Services")
    return display.side_by_side(*map(display.done, done), results, display.outcome(ended, run.state))
