"""Signals that end a process, turned into an orderly end."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

ENDING = (signal.SIGTERM, signal.SIGHUP)
AGAIN = 1.0  # seconds after which an ending signal that was not heeded raises once more


def _exit(number: signal.Signals) -> BaseException:
    return SystemExit(128 + number)


@contextmanager
def ending_signals_raise(error: Callable[[signal.Signals], BaseException] = _exit) -> Iterator[Callable[[], None]]:
    """Raise `error` on SIGTERM and SIGHUP inside the block, so that `finally` runs; yields what says that it was heeded.

    Only the main thread can do so; a signal that was ignored stays ignored. What is raised while an object is finalized is
    lost, a response that is closed, say; so it is raised again until it is heeded or the block ends.
    """
    came: list[int] = []

    def leave(number: int, frame: FrameType | None) -> NoReturn:
        came.append(number)
        signal.setitimer(signal.ITIMER_REAL, AGAIN)
        raise error(signal.Signals(came[0]))

    def heeded() -> None:
        if came:
            signal.setitimer(signal.ITIMER_REAL, 0)

    with _handlers(leave, (*ENDING, signal.SIGALRM), keep_ignored=True):
        try:
            yield heeded
        finally:
            heeded()


@contextmanager
def undisturbed() -> Iterator[None]:
    """Ignore SIGINT, SIGTERM and SIGHUP inside the block: what it holds is finished first."""
    with _handlers(signal.SIG_IGN, (signal.SIGINT, *ENDING, signal.SIGALRM), keep_ignored=False):
        yield


@contextmanager
def _handlers(handler: object, numbers: tuple[signal.Signals, ...], *, keep_ignored: bool) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in numbers}
    chosen = [number for number in numbers if not (keep_ignored and before[number] is signal.SIG_IGN)]
    try:
        for number in chosen:
            signal.signal(number, handler)  # type: ignore[arg-type]
        yield
    finally:
        for number in chosen:
            signal.signal(number, before[number])
