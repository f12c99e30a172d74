"""Waiting for something to become true, with a deadline."""

from collections.abc import Callable
from pathlib import Path

from runbook_lib import waiting
from runbook_lib.rehearsal.errors import StackError

INTERVAL = 0.02


def until(condition: Callable[[], bool], seconds: float) -> bool:
    """Return True as soon as `condition` holds, False when it did not within `seconds`. Read-only."""
    return waiting.until(condition, seconds, INTERVAL)


def until_healthy(ready: Callable[[], bool], seconds: float, name: str, alive: Callable[[], bool], log: Path) -> None:
    """Return once `ready`. Read-only.

    Raises StackError with the end of `log` when `name` is no longer `alive` or `seconds` have passed.
    """
    answered = until(lambda: ready() or not alive(), seconds)
    if not alive():
        raise _unready(name, "ended while starting", log)
    if not answered:
        raise _unready(name, f"did not become healthy within {seconds:g} s", log)


def _unready(name: str, what: str, log: Path) -> StackError:
    tail = "\n".join(log.read_text(errors="replace").splitlines()[-10:]) if log.exists() else "(no log)"
    return StackError(
        f"{name} {what}:\n{tail}",
        where=str(log),
        state="the stack is being brought down",
        safe_next="mend what the log names and start again",
    )
