"""Waiting for something to become true, with a deadline."""

import time
from collections.abc import Callable


def until(condition: Callable[[], bool], seconds: float, interval: float) -> bool:
    """Whether `condition` comes to hold within so many seconds; it is asked every `interval` of them. Read-only."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(interval)
    return True
