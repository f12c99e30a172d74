"""Elapsed time that survives a change of the clock: each change is in the journal, measured against the time since boot."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

from runbook_lib.journal.event import Event

CHANGED = "clock-changed"
TOLERANCE = 1.0  # seconds; several processes append to one journal, and a clock is slewed by less


def here() -> dict[str, Any]:
    """Return which start of which machine this is, and by how much its clock is ahead of the time since then, in seconds.

    Empty where the system does not say. Read-only.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return {"boot": f"{boot} {os.readlink('/proc/self/ns/time')}", "ahead": time.time() - _since_boot()}
    except (OSError, AttributeError):
        return {}


def change(events: Sequence[Event]) -> dict[str, Any]:
    """What a `clock-changed` event has to say now: `seconds` is None where the machine is another. Empty where nothing.

    Read-only.
    """
    before = next((e.data["clock"] for e in reversed(events) if "clock" in e.data), None)
    now = here()
    if not before or not now:
        return {}
    if before["boot"] != now["boot"]:
        return {"clock": now, "seconds": None}
    seconds = now["ahead"] - before["ahead"]
    return {"clock": now, "seconds": round(seconds, 3)} if abs(seconds) > TOLERANCE else {}


def steady(events: Sequence[Event]) -> list[Event]:
    """Return the events, their times as by a clock that nobody has set since the run began. Pure."""
    ahead = accumulate(map(_ahead, events))
    return [_earlier(event, by) if by else event for event, by in zip(events, ahead, strict=True)]


def steady_now(events: Sequence[Event], now: datetime) -> datetime:
    """Return a present time by that clock. Pure."""
    return now - timedelta(seconds=sum(map(_ahead, events)))


def present(events: Sequence[Event]) -> datetime:
    """Return the present time by that clock, also where it was set after the latest event. Read-only."""
    unnoted = timedelta(seconds=change(events).get("seconds") or 0.0)
    return steady_now(events, datetime.fromtimestamp(time.time(), UTC)) - unnoted


def seconds(events: Sequence[Event], begin: Event, until: Event | datetime) -> float | None:
    """The seconds from an event to a later one, or to a present time; None where the clock went back in between. Pure.

    Args:
        events: All events of the run, as `steady` returns them.
        begin: One of them.
        until: A later one, or a present time as `steady_now` returns it.
    """
    last, end = (events[-1].seq, [until]) if isinstance(until, datetime) else (until.seq, [])
    times = [event.time for event in events if begin.seq <= event.seq <= last] + end
    if any((later - earlier).total_seconds() < -TOLERANCE for earlier, later in pairwise(times)):
        return None
    return max(0.0, (times[-1] - times[0]).total_seconds())


def _earlier(event: Event, by: float) -> Event:
    return replace(event, at=(event.time - timedelta(seconds=by)).isoformat())


def _ahead(event: Event) -> float:
    return float(event.data["seconds"] or 0.0) if event.kind == CHANGED else 0.0


def _since_boot() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)
