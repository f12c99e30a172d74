"""Does long work beside the cell that asked for it, so that widgets stay alive and an interrupt ends the work."""

from __future__ import annotations

import asyncio
import ctypes
import threading
from collections.abc import Callable
from contextlib import suppress
from time import monotonic
from typing import Any, Generic, TypeVar

from IPython.display import display as show

from runbook_lib import display
from runbook_lib.adapters.postgres.cancelling import cancel
from runbook_lib.display import Shown
from runbook_lib.errors import RunbookError, UnknownOutcome
from runbook_lib.run import Run
from runbook_lib.widgets import LIVE, attended

PERIOD = 0.5  # seconds between two looks at the work, and so between two updates at least
GRACE = 60.0  # seconds that interrupted work has to let go
BETWEEN = 2.0  # seconds between two attempts to wake work that waits for the database

T = TypeVar("T")


async def beside(run: Run, title: str, work: Callable[[], T]) -> T:
    """Have `work` done; where a person sits, beside the cell, with how long it has taken so far.

    Changes the target by what `work` does.

    Raises:
        RunbookError: What `work` raises.
        KeyboardInterrupt: The kernel was interrupted, and the work has let go.
        UnknownOutcome: It was interrupted, and the work has not let go in time.
    """
    return await Beside(run, title, work).done() if attended() else work()


class Beside(Generic[T]):
    """Work under way on a thread of its own, with what is shown of it."""

    def __init__(self, run: Run, title: str, work: Callable[[], T]) -> None:
        self.run, self.title, self.work = run, title, work
        self._begun = monotonic()
        self._thread = 0
        self._interrupted = False
        self._text = ""

    async def done(self) -> T:
        """What the work returns, once it has ended."""
        self._begun = monotonic()
        handle = show(self.shown(), display_id=True)
        controls = self.controls()
        shown_controls = show(controls.add_class(LIVE), display_id=True) if controls is not None else None
        task = asyncio.ensure_future(asyncio.to_thread(self._work))
        try:
            while not task.done():
                await asyncio.wait({task}, timeout=PERIOD)
                self._redraw(handle)
        except asyncio.CancelledError:
            await self._end(task)
            raise KeyboardInterrupt(f"“{self.title}” was interrupted; run the cell again to go on with it.") from None
        finally:
            self._redraw(handle)
            if shown_controls is not None:
                controls.remove_class(LIVE)
                shown_controls.update(display.line("The controls of this step are put away: it has ended."))
        return task.result()

    def shown(self) -> Shown:
        """What is shown of the work now."""
        return display.line(f"{self.title}: {monotonic() - self._begun:.0f} s")

    def controls(self) -> Any:
        """What steers the work, None for nothing."""
        return None

    def abort(self) -> None:
        """Have the work end by itself, where it can."""

    def cancel(self) -> None:
        """Wake the work where it waits for the database."""
        cancel(self.run.context.postgres)

    def _work(self) -> T:
        self._thread = threading.get_ident()
        try:
            if self._interrupted:
                raise KeyboardInterrupt
            return self.work()
        except KeyboardInterrupt as error:  # a future would have it end the kernel's loop
            raise _Interrupted from error
        finally:
            self._thread = 0

    def _redraw(self, handle: Any) -> None:
        shown = self.shown()
        if handle is not None and shown.text != self._text:
            self._text = shown.text
            handle.update(shown)

    async def _end(self, task: asyncio.Future[T]) -> None:
        """Have the thread interrupted, and what it waits for too, until it has let go."""
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
                f"“{self.title}” was interrupted, and has not let go in {GRACE:.0f} s.",
                where=self.run.context.target.name,
                state="It goes on in this kernel; nothing else can act in this run until it ends.",
                safe_next="Wait for it, or restart the kernel and run the cell again: the step is probed first.",
            )
        if not task.cancelled():
            task.exception()  # it stands in the journal


class _Interrupted(Exception):
    """The thread was interrupted."""
