"""Whether a service that was started stays up."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

INTERVAL = 0.1  # seconds between two looks


def stays(look: Callable[[], T], seconds: float) -> tuple[bool, T]:
    """Whether what `look` tells of the service's processes stays the same for so long, and the last of it. Read-only.

    Where it tells of nothing, there is nothing to wait for.
    """
    first = last = look()
    end = time.monotonic() + seconds
    while last and last == first and time.monotonic() < end:
        time.sleep(min(INTERVAL, max(0.0, end - time.monotonic())))
        last = look()
    return last == first, last
