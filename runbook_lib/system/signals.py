"""Signals: an orderly end of this process, and the defaults for those it starts."""

import ctypes
import os
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

ENDING = (signal.SIGTERM, signal.SIGHUP)
# What a process starts with ignored or blocked, its children do too: in the background of a shell, under nohup, in some CI.
_RESTORED = {signal.SIGPIPE, signal.SIGXFSZ}  # Python ignores these, and `subprocess` restores them
_SETTABLE = {n for n in signal.valid_signals() if n not in (signal.SIGKILL, signal.SIGSTOP)}
_RESET_THEN_EXEC = """
import os, signal, sys
for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
    signal.signal(number, signal.SIG_DFL)
signal.pthread_sigmask(signal.SIG_SETMASK, ())
os.execvp(sys.argv[1], sys.argv[1:])
"""
AGAIN = 1.0  # seconds after which an ending signal that was not heeded raises once more


def settle() -> None:
    """Let this process be ended by SIGINT and SIGTERM and see how its children end, whatever it was started with.

    SIGHUP stays ignored where it was: that is what nohup is for.
    """
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    ignored = {n for n in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD) if signal.getsignal(n) is signal.SIG_IGN}
    for number in ignored:
        signal.signal(number, signal.default_int_handler if number is signal.SIGINT else signal.SIG_DFL)


def with_default_signals(command: Sequence[str], *, cwd: object = None, env: Mapping[str, str] | None = None) -> list[str]:
    """Return the command that runs `command` with every signal at its default and none blocked. Read-only.

    It is `command` itself where this process neither ignores nor blocks one, and where there is no such program.
    """
    inherited = {n for n in _SETTABLE - _RESTORED if signal.getsignal(n) is signal.SIG_IGN}
    if not inherited and not signal.pthread_sigmask(signal.SIG_BLOCK, ()):
        return list(command)
    name = os.path.join(str(cwd or ""), command[0]) if os.sep in command[0] else command[0]
    if shutil.which(name, path=(os.environ if env is None else env).get("PATH")) is None:
        return list(command)
    return [sys.executable, "-I", "-S", "-c", _RESET_THEN_EXEC, *command]


_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None  # loaded beforehand: a forked process must not


def end_with_parent() -> None:
    """Have the system send SIGTERM to this process when its parent dies; Linux only."""
    if _LIBC is not None:
        _LIBC.prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG


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
def ending_signals_report(report: Callable[[signal.Signals], object]) -> Iterator[None]:
    """Call `report` on SIGINT, SIGTERM and SIGHUP inside the block, and raise nothing.

    An event loop needs this: what is raised in it ends whichever task happens to be at work. Only the main thread can do
    so; a signal that was ignored stays ignored.
    """
    with _handlers(lambda number, _: report(signal.Signals(number)), (signal.SIGINT, *ENDING), keep_ignored=True):
        yield


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
