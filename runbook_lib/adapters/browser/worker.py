"""An event loop in a thread of its own, beside whatever loop the caller runs."""

import asyncio
import logging
import threading
from collections.abc import Coroutine
from concurrent.futures import Future, wait
from typing import Any, TypeVar

LOOK = 0.2  # seconds after which a wait looks whether it was interrupted

T = TypeVar("T")
log = logging.getLogger("runbook_lib")


class Worker:
    """A thread that runs coroutines and never keeps the interpreter alive."""

    def __init__(self, name: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._loop.set_exception_handler(lambda _, context: log.debug("%s: %s", name, context["message"]))
        self._thread = threading.Thread(target=self._loop.run_forever, name=name, daemon=True)
        self._thread.start()

    def begin(self, coroutine: Coroutine[Any, Any, T]) -> Future[T]:
        """Run `coroutine` in the thread without waiting for it."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop)

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """What `coroutine` returns or raises; an interrupt of the wait cancels it."""
        future = self.begin(coroutine)
        try:
            while not wait([future], LOOK).done:
                continue  # an interrupt of a thread other than the main one is seen only here
            return future.result()
        finally:
            future.cancel()

    def stop(self) -> None:
        """End the thread."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
