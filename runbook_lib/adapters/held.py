"""Waits for a command that was started, has it stand still, and ends it."""

import os
import select
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress

GRACE = 2.0  # seconds that a command has to end after each signal
LOOK = 0.2  # seconds between two looks at what a command says, and at whether its thread is to end

Hold = Callable[[], bool]  # is asked whether a command is to stand still for now; what it raises ends the command


def exit_code(process: subprocess.Popen[bytes], timeout: float, look: Callable[[], None], hold: Hold | None) -> int:
    """The exit code, as soon as it is there: where the system can tell, without polling for it.

    `look` is called again and again meanwhile. The time for which the command stood still, as `hold` wanted, does not count.

    Raises:
        subprocess.TimeoutExpired: It goes on.
    """
    deadline = time.monotonic() + timeout
    try:
        descriptor = os.pidfd_open(process.pid)
    except (AttributeError, OSError):
        descriptor = -1
    try:
        while (left := deadline - time.monotonic()) > 0:
            if hold and hold():
                deadline += _stood_still(process, hold)
            if _has_ended(process, descriptor, min(left, LOOK)):
                break
            look()
    finally:
        if descriptor >= 0:
            os.close(descriptor)
    return process.wait(0)


def _has_ended(process: subprocess.Popen[bytes], descriptor: int, seconds: float) -> bool:
    if descriptor >= 0:
        return bool(select.select([descriptor], [], [], seconds)[0])
    with suppress(subprocess.TimeoutExpired):
        process.wait(seconds)
    return process.returncode is not None


def _stood_still(process: subprocess.Popen[bytes], hold: Hold) -> float:
    """Stop the command and its children until they are to go on; the seconds for which they stood still."""
    begun = time.monotonic()
    try:
        _signal(process, signal.SIGSTOP)
        while hold():
            time.sleep(LOOK)
    finally:
        _signal(process, signal.SIGCONT)
    return time.monotonic() - begun


def end(process: subprocess.Popen[bytes]) -> None:
    """Have a command that leads its group end, with all of the group: by an interrupt, by request, by force."""
    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            _signal(process, number)
            with suppress(subprocess.TimeoutExpired):
                process.wait(GRACE)
                return
    finally:
        _signal(process, signal.SIGKILL)  # whoever of its group is left
        process.wait()


def _signal(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, number)
