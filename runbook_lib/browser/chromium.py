"""Visits with a real Chromium."""

from __future__ import annotations

import asyncio
import atexit
import logging
import os
import shutil
import tempfile
import threading
from collections.abc import Awaitable, Coroutine, Sequence
from concurrent.futures import Future, wait
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from runbook_lib.browser import Destination, Look, Visit, unseen
from runbook_lib.errors import AdapterError, PreconditionError
from runbook_lib.system import temporary

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
        """Return what `coroutine` returns or raises; an interrupt of the wait cancels it."""
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


if TYPE_CHECKING:
    from playwright.async_api import BrowserContext, Playwright, ViewportSize

VIEWPORT: ViewportSize = {"width": 1280, "height": 800}
START_SECONDS = 30
CLOSE_SECONDS = 10
BEYOND = 15  # seconds that a visit may take beyond its timeout, for the screenshot and the like
QUIET = [
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--disable-quic",
]
NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")  # the first needs half the time
REMEDY = "Set RUNBOOK_CHROMIUM to a Chromium that runs here, or run `playwright install chromium`; then check again."


class ChromiumBrowser:
    """A Chromium that runs while pages are visited, by a driver that is started once and ended by `close` or at exit.

    The driver runs in a thread with an event loop of its own, so that it works in a kernel, whose main thread runs a loop
    already.
    """

    def __init__(self) -> None:
        self._worker: Worker | None = None
        self._playwright: Playwright | None = None
        self._ahead: tuple[str, asyncio.Task[BrowserContext]] | None = None  # a profile, and the Chromium that opens for it
        self._closing: asyncio.Task[None] | None = None  # of the latest visits' Chromium, which they do not wait for

    def warm(self, profile: Path | None = None) -> None:
        """See `Browser.warm`; the driver starts in the background, and Chromium with it for a profile.

        A failure shows in the visit.
        """
        self._working().begin(self._opened_ahead(str(profile)) if profile else self._driver())

    def visit(self, pages: Sequence[Destination], look: Look, profile: Path | None = None) -> list[Visit | AdapterError]:
        """See `Browser.visit`."""
        kept = str(profile or "") if any(page.returning for page in pages) else ""  # "": for this time only
        try:
            return self._working().run(self._visited(pages, look, kept))
        except AdapterError as error:
            return [unseen(page.url, error.what, REMEDY) for page in pages]

    def close(self) -> None:
        """End the driver; a later visit starts it again."""
        if self._worker is None:
            return
        atexit.unregister(self.close)
        worker, self._worker = self._worker, None
        try:
            worker.run(self._let_go())
        finally:
            worker.stop()

    def _working(self) -> Worker:
        if self._worker is None:
            self._worker = Worker("chromium")
            self._starting = asyncio.Lock()  # belongs to the worker's loop
            atexit.register(self.close)
        return self._worker

    async def _visited(self, pages: Sequence[Destination], look: Look, profile: str) -> list[Visit | AdapterError]:
        own = "" if profile else tempfile.mkdtemp(prefix="chromium-", dir=temporary.root())
        chromium = await self._taken(profile) or await self._launched(profile or own)
        try:
            return await asyncio.gather(*(_seen(chromium, page, look) for page in pages))
        finally:
            self._closing = asyncio.create_task(self._closed(chromium, own))

    async def _opened_ahead(self, profile: str) -> None:
        if self._ahead is None:
            self._ahead = profile, asyncio.create_task(self._launched(profile))

    async def _taken(self, profile: str) -> BrowserContext | None:
        """The Chromium that was opened ahead, where it is for that profile and still runs; one for another is closed."""
        if self._ahead is None:
            return None
        (opened_for, opening), self._ahead = self._ahead, None
        with suppress(AdapterError):
            chromium = await opening
            if opened_for == profile and chromium.browser and chromium.browser.is_connected():
                return chromium
            await self._closed(chromium, "")
        return None

    async def _launched(self, profile: str) -> BrowserContext:
        from playwright.async_api import Error

        await self._at_rest()
        known = self._playwright is not None
        try:
            async with asyncio.timeout(START_SECONDS):
                driver = await asyncio.shield(self._driver())
                return await driver.chromium.launch_persistent_context(profile, **launch_options(), viewport=VIEWPORT)
        except (Error, OSError) as error:  # TimeoutError is an OSError
            await self._ended()
            if known:  # the driver has ended since the last visit: an interrupt of a kernel reaches it
                return await self._launched(profile)
            raise AdapterError(f"the browser did not start: {_first_line(error)}") from None
        except asyncio.CancelledError:
            await self._ended()  # and a half-started Chromium with it
            raise

    async def _driver(self) -> Playwright:
        from playwright.async_api import async_playwright

        async with self._starting:
            if self._playwright is None:
                self._playwright = await async_playwright().start()
            return self._playwright

    async def _at_rest(self) -> None:
        """Wait until the latest Chromium is closed: until then the profile is its own."""
        if self._closing:
            await asyncio.shield(self._closing)
            self._closing = None

    async def _let_go(self) -> None:
        await self._taken("")
        await self._at_rest()
        await self._ended()

    async def _closed(self, chromium: BrowserContext, own_profile: str) -> None:
        if not await _finished(chromium.close()):
            await self._ended()  # whatever hangs goes with it
        if own_profile:
            shutil.rmtree(own_profile, ignore_errors=True)

    async def _ended(self) -> None:
        async with self._starting:
            playwright, self._playwright = self._playwright, None
            if playwright is not None:
                await _finished(playwright.stop())


@cache
def of_this_process() -> ChromiumBrowser:
    """Return the one browser of this process."""
    return ChromiumBrowser()


async def _seen(chromium: BrowserContext, page: Destination, look: Look) -> Visit | AdapterError:
    from playwright.async_api import Error

    from runbook_lib.browser.page import visited

    assert chromium.browser is not None
    try:
        async with asyncio.timeout(look.timeout + BEYOND):
            context = chromium if page.returning else await chromium.browser.new_context(viewport=VIEWPORT)
            return await visited(await context.new_page(), page, look)
    except TimeoutError:
        reason = f"the page blocked the browser for {look.timeout + BEYOND:g} s"
        return unseen(page.url, reason, "Look at it by hand.")
    except Error as error:
        return unseen(page.url, error.message.splitlines()[0], "Make sure that the service runs, then check again.")


async def _finished(closing: Awaitable[None]) -> bool:
    from playwright.async_api import Error

    with suppress(Error, OSError):
        async with asyncio.timeout(CLOSE_SECONDS):
            await closing
            return True
    return False


def launch_options() -> dict[str, Any]:
    """Return how Chromium is started here: the system's, quiet, in its sandbox unless for root. Read-only."""
    return {
        "executable_path": os.environ.get("RUNBOOK_CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None),
        "args": [*QUIET, *(["--no-sandbox"] if os.geteuid() == 0 else [])],
        "chromium_sandbox": os.geteuid() != 0,
        # The caller decides what an interrupt ends.
        "handle_sigint": False,
        "handle_sigterm": False,
        "handle_sighup": False,
    }


def require_chromium() -> None:
    """Make sure that there is a Chromium. Read-only.

    Raises:
        PreconditionError: There is none, neither the system's nor Playwright's own.
    """
    if launch_options()["executable_path"]:
        return
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        own = Path(playwright.chromium.executable_path)
    if not own.exists():
        raise PreconditionError(
            "There is no Chromium, which the checks of pages need.",
            where=f"the PATH, and {own}",
            state="Nothing was started.",
            safe_next=REMEDY,
        )


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
