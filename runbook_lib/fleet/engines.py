"""What carries the targets of a fleet to whoever acts on them: a narrow protocol, and a plain pool of threads.

An engine says only that a task has ended, with an error or without, or that whoever had it is gone. What was done is never
taken from it.
"""

from __future__ import annotations

from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from time import sleep
from typing import Any, Protocol

from runbook_lib.fleet.child import Task, bring


@dataclass(frozen=True)
class Ended:
    """A task that is not under way any more; `lost` where whoever had it is gone, `error` where it raised."""

    task: Task
    error: str = ""
    lost: bool = False


class Engine(Protocol):
    """Carries tasks; each is handed in once and comes back once."""

    name: str
    dashboard: str  # the address of its own page, "" where it has none

    def submit(self, task: Task) -> None:
        """Have a task begun as soon as there is room.

        Raises:
            AdapterError: The engine itself is gone.
        """

    def ended(self, seconds: float) -> list[Ended]:
        """The tasks that have ended since they were asked for last; waits at most so long for the first.

        Raises:
            AdapterError: The engine itself is gone.
        """

    def close(self) -> None:
        """End the engine; what is under way is let go to its end where that can be."""


class Pool:
    """Threads of this process, as many as may act at once."""

    name, dashboard = "threads", ""

    def __init__(self, threads: int) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="fleet")
        self._tasks: dict[Future[Any], Task] = {}

    def submit(self, task: Task) -> None:
        """Have a task begun as soon as there is room."""
        self._tasks[self._pool.submit(bring, task)] = task

    def ended(self, seconds: float) -> list[Ended]:
        """The tasks that have ended since they were asked for last; waits at most so long for the first."""
        if not self._tasks:
            sleep(seconds)
            return []
        done, _ = wait(self._tasks, seconds, FIRST_COMPLETED)
        return [Ended(self._tasks.pop(each), _error(each)) for each in done]

    def close(self) -> None:
        """Wait for what is under way; what has not begun is let go."""
        self._pool.shutdown(cancel_futures=True)


def _error(future: Future[Any]) -> str:
    error = future.exception()
    return f"{type(error).__name__}: {error}" if error else ""
