"""Whether services that were started stay up."""

import time
from collections.abc import Callable, Mapping
from typing import TypeVar

T = TypeVar("T")

INTERVAL = 0.1  # seconds between two looks


def staying(look: Callable[[], Mapping[str, T]], seconds: float) -> dict[str, T]:
    """What `look` tells of each service's processes, for those of which it stays the same for so long. Read-only.

    Where it tells of nothing, there is nothing to wait for.
    """
    told = {name: processes for name, processes in look().items() if processes}
    end = time.monotonic() + seconds
    while told and time.monotonic() < end:
        time.sleep(min(INTERVAL, max(0.0, end - time.monotonic())))
        now = look()
        told = {name: processes for name, processes in told.items() if now[name] == processes}
    return told
