"""One visit to one page."""

from __future__ import annotations

import asyncio
import hashlib
import re
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from playwright.async_api import Error, TimeoutError

from runbook_lib.browser import ConsoleError, Destination, Look, Media, Visit

if TYPE_CHECKING:
    from playwright.async_api import ConsoleMessage, Page, Request, Response

# Scrolls to what is not there yet, because lazy pictures load only in view, and waits until each is there or has failed.
# What shows a picture as its background is a picture too. One in no view at all, as in a closed tab, is loaded all the same,
# and what a browser leaves out until it is in view has its text.
MEDIA = """
async ([selector, milliseconds]) => {
  const all = () => [...document.querySelectorAll(selector)].map(e => e.matches("picture") && e.querySelector("img") || e);
  const video = e => e instanceof HTMLMediaElement;
  const image = e => e instanceof HTMLImageElement;
  const absolute = url => { try { return new URL(url, document.baseURI).href } catch { return url } };
  const background = e => (getComputedStyle(e).backgroundImage.match(/url\\("(.*?)"\\)/) || [])[1]
    || e.matches("input, object, embed, image") && ["src", "data", "href"].map(key => e.getAttribute(key)).find(Boolean)
    || "";
  const pictures = new Map();
  const drawn = url => {
    if (!pictures.has(url)) pictures.set(url, Object.assign(new Image(), {src: url}));
    return pictures.get(url);
  };
  const subject = e => video(e) || image(e) ? e : background(e) ? drawn(background(e)) : null;
  const is = {
    rendered: e => video(e) ? e.videoWidth > 0 || e.readyState >= 2 : e !== null && e.complete && e.naturalWidth > 0,
    failed: e => e === null
      || (video(e) && (e.error !== null || e.networkState === HTMLMediaElement.NETWORK_NO_SOURCE)),
  };
  const rendered = e => is.rendered(subject(e));
  const settled = e => rendered(e) || is.failed(subject(e)) || (!video(subject(e)) && subject(e).complete);
  const candidates = set => (set || "").split(/\\s+[\\d.]+[wxh]\\s*(?:,\\s*|$)|,\\s+/).map(one => one.trim());
  const others = e => {
    if (video(e)) return [...e.querySelectorAll("source")].map(one => one.getAttribute("src"));
    if (!image(e)) return [];
    const sources = e.parentElement?.matches("picture") ? [...e.parentElement.querySelectorAll("source")] : [];
    return [e.getAttribute("src"), ...[e, ...sources].flatMap(one => candidates(one.getAttribute("srcset")))];
  };
  const is_placeholder = e => image(e) && (/^(data:|$)/.test(e.src)
    || Object.entries(e.dataset).some(([key, url]) => /src$/i.test(key) && absolute(url) !== e.src));
  for (const e of document.querySelectorAll("*")) {
    if (getComputedStyle(e).contentVisibility === "auto") e.style.contentVisibility = "visible";
  }
  let waits = 100;  // of 10 ms, for the script that puts the picture in; not again where none does
  const until = performance.now() + milliseconds;
  for (const e of all().filter(e => !rendered(e) || is_placeholder(e))) {
    if (video(e)) e.preload = "auto";
    e.scrollIntoView({block: "center", behavior: "instant"});
    await new Promise(requestAnimationFrame);
    let left = waits;
    for (; is_placeholder(e) && left; left--) await new Promise(done => setTimeout(done, 10));
    waits = left && waits;
    if (image(e) && e.loading === "lazy" && !e.checkVisibility()) e.loading = "eager";
  }
  while (!all().every(settled) && performance.now() < until) await new Promise(done => setTimeout(done, 25));
  window.scrollTo(0, 0);
  return all().map(e => {
    const url = video(e) || image(e) ? e.currentSrc || e.src || "" : background(e) && absolute(background(e));
    return {
      url,
      rendered: rendered(e),
      natural_width: (video(e) ? e.videoWidth : subject(e)?.naturalWidth) || 0,
      others: [...new Set(others(e).filter(Boolean).map(absolute))].filter(other => other !== url),
    };
  });
}
"""
# Whether a page's icon is asked for depends on the browser: a headless one has no tab to show it in.
ICONS = """
() => [...document.querySelectorAll("link[rel~=icon]")].map(e => e.href).concat(new URL("/favicon.ico", location).href)
"""
ASSETS = {"script", "stylesheet"}
QUIET, LATE, LOOK = 0.25, 2.0, 0.02  # seconds without a request until no script comes any more; at most; between two looks
FRAME = re.compile(r"(https?://[^\s()]+?)(?::\d+){1,2}(?=[\s)]|$)")  # the place that an error was thrown at
# What the browser itself says of an address, at the place of who asked for it.
CONCERNED = re.compile(
    r"(?:Access to .{1,40} at|(?:Load|Refused to load|Connect|Refused to connect)\S* (?:the \S+|to)|Fetch API cannot load"
    r"|WebSocket connection to|requested an insecure .{1,40}?|attribute for resource) '?((?:https?|wss?)://[^'\s]+)"
)
ITEMS_LATE = 5.0  # seconds at most in which items may still come once the page is ready
CANCELLED = "net::ERR_ABORTED"  # by the page itself; a video's first request often is
REPEATED = "Failed to load resource"  # the console's word for a request that failed


async def visited(page: Page, destination: Destination, look: Look) -> Visit:
    """Return what a destination shows in a fresh `page` once it is ready and its media have settled. Read-only.

    Raises:
        playwright.async_api.Error: The server did not answer, or the browser ended.
    """
    deadline = time.monotonic() + look.timeout

    def left() -> float:
        return max(1.0, (deadline - time.monotonic()) * 1000)

    errors, assets = _Errors(page), _Assets(page)
    response = await page.goto(destination.url, wait_until="commit", timeout=left())
    refused = response is not None and not response.ok
    ready_state = await _ready(page, look.ready, 1.0 if refused else left())
    with suppress(TimeoutError):
        await page.wait_for_load_state("load", timeout=left())
    if not await page.locator(look.items).count() and await page.evaluate("document.scripts.length"):
        with suppress(TimeoutError):
            await page.wait_for_load_state("networkidle", timeout=min(left(), ITEMS_LATE * 1000))
    found = await page.evaluate(MEDIA, [look.media, left()])
    return Visit(
        url=destination.url,
        ready_state=ready_state,
        text=await page.inner_text("body"),
        items=await page.locator(look.items).count(),
        texts=await page.locator(look.items).all_inner_texts(),
        media=[Media(**{**element, "others": tuple(element["others"])}) for element in found],
        errors=errors.of_all_but(await page.evaluate(ICONS)),
        screenshot=await page.screenshot(full_page=True) if destination.pictured else b"",
        assets=await assets.hashes(min(LATE, left() / 1000)),
    )


async def _ready(page: Page, selector: str, milliseconds: float) -> str | None:
    try:
        element = await page.wait_for_selector(selector, state="attached", timeout=milliseconds)
    except TimeoutError:
        return None
    return (element and await element.get_attribute("data-ready")) or ""


class _Assets:
    """The scripts and style sheets that a page was given, from the network or from a cache."""

    def __init__(self, page: Page) -> None:
        self._responses: list[Response] = []
        self._pending: set[Request] = set()
        self._last = time.monotonic()  # when a request began or ended
        page.on("response", self._given)
        page.on("request", self._began)
        page.on("requestfinished", self._ended)
        page.on("requestfailed", self._ended)

    async def hashes(self, seconds: float) -> dict[str, str]:
        """URL -> the SHA-256 of its content, or why there is none; waits for those that the page asks for late."""
        until = time.monotonic() + seconds
        while (now := time.monotonic()) < until and (self._pending or now < self._last + QUIET):
            await asyncio.sleep(LOOK)
        return {response.url: await self._hash(response) for response in self._responses}

    def _given(self, response: Response) -> None:
        if response.request.resource_type in ASSETS:
            self._responses.append(response)

    def _began(self, request: Request) -> None:
        self._last = time.monotonic()
        if request.resource_type in ASSETS:
            self._pending.add(request)

    def _ended(self, request: Request) -> None:
        self._last = time.monotonic()
        self._pending.discard(request)

    async def _hash(self, response: Response) -> str:
        if not response.ok:
            return f"HTTP {response.status}"
        try:
            return hashlib.sha256(await response.body()).hexdigest()
        except Error as error:
            return f"not kept by the browser: {error.message.splitlines()[0]}"


class _Errors:
    """The errors of a page from its first request on."""

    def __init__(self, page: Page) -> None:
        self._page = page
        self._console: list[ConsoleError] = []
        self._requests: list[ConsoleError] = []
        page.on("console", self._said)
        page.on("pageerror", self._raised)
        page.on("requestfailed", self._failed)
        page.on("response", self._answered)

    def of_all_but(self, urls: Sequence[str]) -> list[ConsoleError]:
        """Return each error once: the console repeats failed requests."""
        known = {error.url for error in self._requests}
        once = [e for e in self._console if not (e.text.startswith(REPEATED) and e.url in known)] + self._requests
        return [error for error in once if error.url not in urls]

    def _said(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "assert"):
            concerned = CONCERNED.search(message.text)
            self._console.append(ConsoleError(message.text, concerned[1] if concerned else message.location["url"]))

    def _raised(self, error: Error) -> None:
        thrown_at = FRAME.search(error.stack or "")
        self._console.append(ConsoleError(str(error), thrown_at[1] if thrown_at else self._page.url))

    def _failed(self, request: Request) -> None:
        if request.failure != CANCELLED:
            self._requests.append(ConsoleError(request.failure or "request failed", request.url))

    def _answered(self, response: Response) -> None:
        if response.status >= 400:
            self._requests.append(ConsoleError(f"HTTP {response.status} {response.status_text}".strip(), response.url))
