"""What carries the targets of a fleet to whoever acts on them: a narrow protocol, and a plain pool of threads.

An engine says only that a task has ended, with an error or without, or that whoever had it is gone. What was done is never
taken from it.
"""

from __future__ import annotations

from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from time import sleep
from typing import Any, Protocol

from runbook_lib.errors import AdapterError
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
            AdapterError: The engine itself is gone, or was closed.
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
        self._closed = False

    def submit(self, task: Task) -> None:
        """Have a task begun as soon as there is room.

        Raises:
            AdapterError: The pool was closed.
        """
        if self._closed:
            raise closed(task)
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
        self._closed = True
        self._pool.shutdown(cancel_futures=True)
        self._tasks = {future: task for future, task in self._tasks.items() if not future.cancelled()}


def closed(task: Task) -> AdapterError:
    """The error of an engine that was closed and is handed a task. Pure."""
    return AdapterError(
        "This engine was closed, so it begins nothing.",
        where=task.target,
        state="Nothing was begun on this target.",
        safe_next="Run the same command again: it looks at each target first.",
    )


def _error(future: Future[Any]) -> str:
    error = future.exception()
    return f"{type(error).__name__}: {error}" if error else ""
