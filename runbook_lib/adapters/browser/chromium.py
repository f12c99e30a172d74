"""Visits with a real Chromium."""

from __future__ import annotations

import asyncio
import atexit
import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runbook_lib.adapters.browser.protocol import Visit, unseen
from runbook_lib.adapters.browser.worker import Worker

if TYPE_CHECKING:
    from playwright.async_api import Browser, BrowserContext, Playwright, ViewportSize

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
NAMES = ("chromium", "chromium-browser", "google-chrome")
MEND = "Set RUNBOOK_CHROMIUM to a Chromium that runs here, or run `playwright install chromium`; then look again."


class ChromiumBrowser:
    """A Chromium that is started by the first visit, kept for the next ones, and ended by `close` or at exit.

    It runs in a thread with an event loop of its own, so that it works in a kernel, whose main thread runs a loop already.
    """

    def __init__(self) -> None:
        self._worker: Worker | None = None
        self._playwright: Playwright | None = None
        self._browser: Browser | None = None

    def warm(self) -> None:
        """Start Chromium in the background, so that the first visit need not wait; a failure shows in the visit."""
        self._working().begin(self._warmed())

    def visit(
        self, url: str, *, ready: str, items: str, media: str, timeout: float = 20, profile: Path | None = None
    ) -> Visit:
        """See `Browser.visit`; with a profile, a Chromium of its own is started for the visit."""
        selectors = {"ready": ready, "items": items, "media": media}
        return self._working().run(self._visited(url, timeout, selectors, profile))

    def close(self) -> None:
        """End Chromium; a later visit starts it again."""
        if self._worker is None:
            return
        atexit.unregister(self.close)
        worker, self._worker = self._worker, None
        try:
            worker.run(self._closed())
        finally:
            worker.stop()

    def _working(self) -> Worker:
        if self._worker is None:
            self._worker = Worker("chromium")
            self._starting = asyncio.Lock()  # belongs to the worker's loop
            atexit.register(self.close)
        return self._worker

    async def _visited(self, url: str, timeout: float, selectors: dict[str, str], profile: Path | None) -> Visit:
        from playwright.async_api import Error

        from runbook_lib.adapters.browser.page import look

        try:
            context = await (self._context(url) if profile is None else self._returning(url, profile))
            async with asyncio.timeout(timeout + BEYOND):
                try:
                    return await look(await context.new_page(), url, timeout=timeout, **selectors)
                finally:
                    await context.close()
        except TimeoutError:
            await self._ended()  # whatever hangs goes with it
            raise unseen(url, f"the page blocked the browser for {timeout + BEYOND:g} s", "Look at it by hand.") from None
        except Error as error:
            raise unseen(url, error.message.splitlines()[0], "Make sure that the service runs, then look again.") from None

    async def _warmed(self) -> None:
        context = await (await self._started("a first page")).new_context(viewport=VIEWPORT)
        await context.new_page()
        await context.close()

    async def _context(self, url: str) -> BrowserContext:
        from playwright.async_api import Error

        browser = await asyncio.shield(self._started(url))  # an interrupted wait leaves no half-started browser
        try:
            return await browser.new_context(viewport=VIEWPORT)
        except Error:  # Chromium or its driver has ended since the last visit: an interrupt of a kernel reaches the driver
            await self._ended()
            return await (await asyncio.shield(self._started(url))).new_context(viewport=VIEWPORT)

    async def _returning(self, url: str, profile: Path) -> BrowserContext:
        await asyncio.shield(self._started(url))
        assert self._playwright
        return await self._playwright.chromium.launch_persistent_context(profile, **_options(), viewport=VIEWPORT)

    async def _started(self, url: str) -> Browser:
        from playwright.async_api import Error, async_playwright

        async with self._starting:
            if self._browser is not None:
                return self._browser
            try:
                async with asyncio.timeout(START_SECONDS):
                    self._playwright = await async_playwright().start()
                    self._browser = await self._playwright.chromium.launch(**_options())
            except (Error, OSError) as error:  # TimeoutError is an OSError
                await self._ended()
                raise unseen(url, f"the browser did not start: {_first_line(error)}", MEND) from None
            return self._browser

    async def _closed(self) -> None:
        async with self._starting:
            await self._ended()

    async def _ended(self) -> None:
        from playwright.async_api import Error

        browser, playwright = self._browser, self._playwright
        self._browser = self._playwright = None
        for close in [browser and browser.close, playwright and playwright.stop]:
            if close:
                with suppress(Error, OSError):
                    async with asyncio.timeout(CLOSE_SECONDS):
                        await close()


def _options() -> dict[str, Any]:
    return {
        "executable_path": os.environ.get("RUNBOOK_CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None),
        "args": [*QUIET, *(["--no-sandbox"] if os.geteuid() == 0 else [])],
        "chromium_sandbox": os.geteuid() != 0,
        # The caller decides what an interrupt ends.
        "handle_sigint": False,
        "handle_sigterm": False,
        "handle_sighup": False,
    }


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
