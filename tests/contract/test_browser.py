import asyncio
import base64
import dataclasses
import hashlib
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from runbook_lib.browser import Browser, ConsoleError, Destination, Look, Media, MemoryBrowser, Visit
from runbook_lib.browser.chromium import ChromiumBrowser
from runbook_lib.errors import AdapterError
from runbook_lib.system import temporary

from ..support.waiting import lives, until
from ..support.web_site import Page, Site, serving

PNG = base64.b64decode(  # 2 x 1 pixels
    "iVBORw0KGgoAAAANSUhEUgAAAAIAAAABCAYAAAD0In+KAAAAEUlEQVR4nGP4z8DwH4QZYAwAR8oH+Rq28akAAAAASUVORK5CYII="
)
WEBM = base64.b64decode(  # 16 x 16 pixels, VP8
    "GkXfo59ChoEBQveBAULygQRC84EIQoKEd2VibUKHgQRChYECGFOAZwEAAAAAAAICEU2bdLlNu4tTq4QVSalmU6yBbk27i1OrhBZUrmtTrIGTTbuL"
    "U6uEH0O2dVOsgdRNu4xTq4QcU7trU6yCAfDsrgAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAVSalmoCrXsYMP"
    "QkBEiYRDSYTdTYCGQ2hyb21lV0GGQ2hyb21lFlSua7yuuteBAXPFh+0HQ13IFJCDgQFV7oEBhoVWX1ZQOOCdsIEQuoEQU8CBAVWwkFWxgQFVuYEC"
    "VbqBDVW7gQEfQ7Z1AQAAAAAAARDngQCg6KG9gQAAALACAJ0BKhAAEAAABwiFhYiZhIgBJBATrVAfwBBn79j+/6d5P//J7v/J7v/J7v/8nu//OwbE"
    "u14AAHWhpqak7oEBpZ8QAgCdASoQABAAAAcIhYWImYSIASQQAGBrAP7/uoMAoNChr4EAZQDxAQAAEAkgAMA5wEGp/5ZqCHj+/uu8v/lPY4r6P/Kf"
    "v/+T3Z40pol/+TgAdaGZppfugQGlktEBAAAQCSAAwADCwX+gAEAAAPuBAKDPoa6BAMkAsQEAABAJIADAAYH/oGAHeP7/p3k//8nuzxpTRL/8nu//"
    "Ovmuo4upvUQAdaGZppfugQGlktEBAAAQCSAAwADCwX+gAEAAAPuBZRxTu2uNu4uzgQC3hveBAfGB1A=="
)
LOOK = Look(ready="body[data-ready]", items="#list .item", media="#list img, #list video")
LIST = '<body data-ready="yes"><ul id="list"><li class="item">One</li><li class="item">Two</li></ul></body>'
UNREADY = "<body>Loading</body>"


def page(html: str) -> Page:
    return 200, "text/html; charset=utf-8", f"<!doctype html><title>Page</title>{html}".encode()


@pytest.fixture(scope="module")
def chromium() -> Iterator[ChromiumBrowser]:
    browser = ChromiumBrowser()
    browser.warm()
    yield browser
    browser.close()


@pytest.fixture(params=["chromium", "memory"])
def browser(request: pytest.FixtureRequest, site: Site, gone: str) -> Browser:
    site.pages |= {"/list": page(LIST), "/unready": page(UNREADY)}
    return request.getfixturevalue("chromium") if request.param == "chromium" else MemoryBrowser(_memory(gone))


def _memory(gone: str):
    def visit(url: str) -> Visit:
        if url.startswith(gone):
            raise ConnectionRefusedError("refused")
        if url.endswith("/list"):
            return Visit(url, "yes", "One\nTwo", 2, [], [], PNG)
        return Visit(url, None, "Loading", 0, [], [], PNG)

    return visit


def visited(browser: Browser, url: str, timeout: float = 20) -> Visit:
    (seen,) = browser.visit([Destination(url)], dataclasses.replace(LOOK, timeout=timeout))
    if isinstance(seen, AdapterError):
        raise seen
    return seen


def test_a_page_is_reported_as_it_is(browser: Browser, site: Site) -> None:
    visit = visited(browser, f"{site.url}/list")
    facts = (visit.url, visit.ready_state, visit.text.split(), visit.items, visit.media, visit.errors)
    assert facts == (f"{site.url}/list", "yes", ["One", "Two"], 2, [], [])


def test_the_screenshot_is_a_png(browser: Browser, site: Site) -> None:
    assert visited(browser, f"{site.url}/list").screenshot.startswith(b"\x89PNG")


def test_a_page_is_reported_without_a_picture_where_none_is_requested(browser: Browser, site: Site) -> None:
    (seen,) = browser.visit([Destination(f"{site.url}/list", pictured=False)], LOOK)
    assert isinstance(seen, Visit) and (seen.items, seen.screenshot) == (2, b"")


def test_a_page_that_never_becomes_ready_is_reported(browser: Browser, site: Site) -> None:
    visit = visited(browser, f"{site.url}/unready", timeout=2)
    assert (visit.ready_state, visit.text) == (None, "Loading")


def test_a_server_that_is_gone_leaves_only_its_own_page_unknown(browser: Browser, site: Site, gone: str) -> None:
    seen, unseen = browser.visit([Destination(f"{site.url}/list"), Destination(f"{gone}/")], LOOK)
    assert (isinstance(seen, Visit) and seen.items, isinstance(unseen, AdapterError)) == (2, True)
    assert re.search(rf"(?s){gone}/ could not be looked at.*unknown", str(unseen))


def look(chromium: ChromiumBrowser, site: Site, html: str, *, timeout: float = 20) -> Visit:
    site.pages["/picture.png"] = (200, "image/png", PNG)
    site.pages["/"] = page(html)
    return visited(chromium, site.url, timeout)


def test_a_picture_that_loads_is_rendered(chromium: ChromiumBrowser, site: Site) -> None:
    visit = look(chromium, site, '<body data-ready><div id="list"><img src="/picture.png"></div>')
    assert visit.media == [Media(f"{site.url}/picture.png", rendered=True, natural_width=2)]


def test_a_lazy_picture_far_below_is_rendered(chromium: ChromiumBrowser, site: Site) -> None:
    far = '<div style="height: 20000px"></div><img loading="lazy" src="/picture.png">'
    visit = look(chromium, site, f'<body data-ready><div id="list">{far}</div>')
    assert [media.rendered for media in visit.media] == [True]


def test_a_picture_whose_file_is_no_picture_is_not_rendered(chromium: ChromiumBrowser, site: Site) -> None:
    site.pages["/broken.png"] = (200, "image/png", b"no picture")
    visit = look(chromium, site, '<body data-ready><div id="list"><img src="/broken.png"><img src="/picture.png"></div>')
    assert [media.rendered for media in visit.media] == [False, True]


def test_a_picture_that_never_arrives_is_not_waited_for_beyond_the_timeout(chromium: ChromiumBrowser, site: Site) -> None:
    visit = look(chromium, site, '<body data-ready><div id="list"><img src="/hangs"></div>', timeout=2)
    assert (visit.ready_state, [media.rendered for media in visit.media]) == ("", [False])


def test_the_texts_of_the_items_are_reported_in_their_order(chromium: ChromiumBrowser, site: Site) -> None:
    assert list(look(chromium, site, LIST).texts) == ["One", "Two"]


def test_an_exception_of_a_script_is_reported_with_its_address(chromium: ChromiumBrowser, site: Site) -> None:
    site.pages["/code.js?v=1"] = (200, "text/javascript", b"function broken() { throw new Error('thrown') }; broken()")
    visit = look(chromium, site, '<body data-ready><script src="/code.js?v=1"></script>')
    assert visit.errors == [ConsoleError("thrown", f"{site.url}/code.js?v=1")]


def test_a_video_that_waits_to_be_played_is_rendered(chromium: ChromiumBrowser, site: Site) -> None:
    site.pages["/film.webm"] = (200, "video/webm", WEBM)
    visit = look(chromium, site, '<body data-ready><div id="list"><video preload="none" src="/film.webm"></video></div>')
    assert visit.media == [Media(f"{site.url}/film.webm", rendered=True, natural_width=16)]


def test_a_video_that_is_missing_is_not_rendered(chromium: ChromiumBrowser, site: Site) -> None:
    visit = look(chromium, site, '<body data-ready><div id="list"><video preload="none" src="/gone.webm"></video></div>')
    assert visit.media == [Media(f"{site.url}/gone.webm", rendered=False, natural_width=0)]


def test_an_error_of_the_console_is_reported_with_its_url(chromium: ChromiumBrowser, site: Site) -> None:
    site.pages["/code.js"] = (200, "text/javascript", b"console.error('it broke')")
    visit = look(chromium, site, '<body data-ready><script src="/code.js"></script>')
    assert visit.errors == [ConsoleError("it broke", f"{site.url}/code.js")]


def test_an_exception_of_the_page_is_reported_with_its_url(chromium: ChromiumBrowser, site: Site) -> None:
    visit = look(chromium, site, "<body data-ready><script>throw new Error('thrown')</script>")
    assert visit.errors == [ConsoleError("thrown", f"{site.url}/")]


def test_a_refused_request_is_reported_once_with_its_url(chromium: ChromiumBrowser, site: Site) -> None:
    visit = look(chromium, site, '<body data-ready><img src="/missing.png">')
    assert visit.errors == [ConsoleError("HTTP 404 Not Found", f"{site.url}/missing.png")]


def test_a_failed_request_is_reported_once_with_its_url(chromium: ChromiumBrowser, site: Site, gone: str) -> None:
    visit = look(chromium, site, f'<body data-ready><img src="{gone}/x.png">')
    assert visit.errors == [ConsoleError("net::ERR_CONNECTION_REFUSED", f"{gone}/x.png")]


@pytest.mark.parametrize("named", ["", '<link rel="shortcut icon" href="/none.svg">'], ids=["by default", "by the page"])
def test_a_missing_icon_is_no_error_whichever_browser_looks(chromium: ChromiumBrowser, site: Site, named: str) -> None:
    del site.pages["/favicon.ico"]
    assert look(chromium, site, named + LIST).errors == []


def test_a_page_that_the_server_refuses_is_not_waited_for(chromium: ChromiumBrowser, site: Site) -> None:
    visit = visited(chromium, f"{site.url}/nowhere", timeout=600)
    assert (visit.ready_state, visit.errors[0].text) == (None, "HTTP 404 Not Found")


def test_each_visit_is_the_first(chromium: ChromiumBrowser, site: Site) -> None:
    remember = "<body data-ready><script>document.write(localStorage.seen || 'new'); localStorage.seen = 'known'</script>"
    look(chromium, site, remember)
    assert look(chromium, site, remember).text == "new"


def test_a_visit_works_while_the_caller_runs_a_loop(chromium: ChromiumBrowser, site: Site) -> None:
    site.pages["/list"] = page(LIST)

    async def cell() -> Visit:
        return visited(chromium, f"{site.url}/list")

    assert asyncio.run(cell()).items == 2


def test_a_browser_that_cannot_start_leaves_it_unknown_what_a_user_sees(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNBOOK_CHROMIUM", "/bin/false")
    browser = ChromiumBrowser()
    try:
        with pytest.raises(AdapterError, match=r"(?s)did not start.*unknown.*RUNBOOK_CHROMIUM"):
            visited(browser, site.url)
    finally:
        browser.close()


VISITOR = """
import os, signal, sys
from runbook_lib.browser import Destination, Look
from runbook_lib.browser.chromium import ChromiumBrowser
browser = ChromiumBrowser()
def look(ready):
    (seen,) = browser.visit([Destination(sys.argv[1])], Look(ready=ready, items="li", media="img"))
    return seen
def visit():
    print(look("body").items, flush=True)
def interrupted_visit():
    signal.signal(signal.SIGALRM, signal.default_int_handler)
    signal.setitimer(signal.ITIMER_REAL, 0.5)
    try:
        look("never")
    except KeyboardInterrupt:
        print("interrupted", flush=True)
visit()
for line in sys.stdin:
    exec(line)
"""


class Visitor:
    """A process with a browser that has visited a page, and runs what it is told."""

    def __init__(self, site: Site, scratch: str) -> None:
        site.pages["/list"] = page(LIST)
        command = [sys.executable, "-c", VISITOR, f"{site.url}/list"]
        environment = {**os.environ, "TMPDIR": scratch}  # a browser that is killed leaves its profile there
        self.process = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout
        assert self.process.stdout.readline() == "2\n"

    def tell(self, statement: str) -> None:
        print(statement, file=self.process.stdin, flush=True)

    def answer(self, statement: str) -> str:
        self.tell(statement)
        assert self.process.stdout
        return self.process.stdout.readline().strip()

    def descendants(self) -> list[int]:
        """Its processes but for the watcher of its temporary files, which lives as long as it does."""
        parents = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdecimal() and lives(int(entry.name)):
                with suppress(OSError):
                    if temporary.__file__.encode() in (entry / "cmdline").read_bytes():
                        continue
                    stat = (entry / "stat").read_text()
                    parents[int(entry.name)] = int(stat.rpartition(")")[2].split()[1])
        found, edge = [], [self.process.pid]
        while edge:
            edge = [child for child, parent in parents.items() if parent in edge]
            found += edge
        return found


@contextmanager
def visiting() -> Iterator[Visitor]:
    with serving() as site, tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        visitor = Visitor(site, scratch)
        yield visitor
        visitor.process.kill()
        visitor.process.communicate()


@pytest.fixture(scope="module")
def visitor() -> Iterator[Visitor]:
    with visiting() as made:
        yield made


@pytest.mark.parametrize("end", ["sys.exit()", "os._exit(1)"])
def test_no_process_of_the_browser_outlives_the_interpreter(end: str) -> None:
    with visiting() as visitor:
        started = visitor.descendants()
        visitor.tell(end)
        until(lambda: not any(map(lives, started)), f"every process is gone after {end}")


def test_closing_leaves_no_process(visitor: Visitor) -> None:
    visitor.answer("visit()")
    assert visitor.answer("browser.close(); print('closed', flush=True)") == "closed"
    until(lambda: not visitor.descendants(), "every process is gone")


def test_closing_while_the_browser_starts_leaves_no_process(visitor: Visitor) -> None:
    again = "browser.close(); browser.warm(); browser.close(); print('closed', flush=True)"
    assert visitor.answer(again) == "closed"
    until(lambda: not visitor.descendants(), "every process is gone")


def test_an_interrupted_visit_can_be_made_again(visitor: Visitor) -> None:
    assert [visitor.answer("interrupted_visit()"), visitor.answer("visit()")] == ["interrupted", "2"]
    until(lambda: len(visitor.descendants()) <= 1, "no Chromium is left, only the driver")


def test_a_driver_that_died_is_started_again(visitor: Visitor) -> None:
    visitor.answer("visit()")
    driver, *_ = visitor.descendants()
    os.kill(driver, signal.SIGKILL)
    until(lambda: not lives(driver), "the driver is gone")
    assert visitor.answer("visit()") == "2"


BUNDLE = '<body data-ready="yes"><script src="{script}"></script></body>'


def bundled(site: Site, script: str, content: str, caching: str) -> None:
    """Have the site serve a page with one script."""
    body = f"document.title = {content!r};".encode()
    site.pages["/bundled"] = page(BUNDLE.format(script=script))
    site.pages[script] = (200, "text/javascript", body)
    site.headers[script] = {"Cache-Control": caching}


def ran(chromium: ChromiumBrowser, site: Site, profile: Path | None = None) -> dict[str, str]:
    (visit,) = chromium.visit([Destination(f"{site.url}/bundled", returning=profile is not None)], LOOK, profile)
    assert isinstance(visit, Visit)
    return {url.removeprefix(site.url): digest for url, digest in visit.assets.items()}


def digest(content: str) -> str:
    return hashlib.sha256(f"document.title = {content!r};".encode()).hexdigest()


def test_a_visit_reports_the_scripts_that_it_received(chromium: ChromiumBrowser, site: Site) -> None:
    bundled(site, "/app.js", "new", "no-cache")
    assert ran(chromium, site) == {"/app.js": digest("new")}


def test_scripts_that_a_page_asks_for_late_are_among_them(chromium: ChromiumBrowser, site: Site) -> None:
    bundled(site, "/app.js", "new", "no-cache")
    late = 'const late = () => document.body.append(Object.assign(document.createElement("script"), {src: "/late.js"}));'
    site.pages["/app.js"] = (200, "text/javascript", f"{late} onload = () => setTimeout(late, 150);".encode())
    site.pages["/late.js"] = (200, "text/javascript", b"")
    assert ran(chromium, site).keys() == {"/app.js", "/late.js"}


@pytest.mark.parametrize(
    ("caching", "again"), [("max-age=3600", "old"), ("no-cache", "new")], ids=["kept for an hour", "asked for again"]
)
def test_a_profile_that_was_there_before_is_given_what_its_cache_holds(
    chromium: ChromiumBrowser, site: Site, tmp_path: Path, caching: str, again: str
) -> None:
    bundled(site, "/app.js", "old", caching)
    first = ran(chromium, site, tmp_path / "profile")
    bundled(site, "/app.js", "new", caching)
    assert first == {"/app.js": digest("old")}
    assert ran(chromium, site) == {"/app.js": digest("new")}
    assert ran(chromium, site, tmp_path / "profile") == {"/app.js": digest(again)}


def test_an_asset_named_by_its_content_is_new_for_an_old_profile(
    chromium: ChromiumBrowser, site: Site, tmp_path: Path
) -> None:
    bundled(site, "/app.1.js", "old", "max-age=3600")
    ran(chromium, site, tmp_path / "profile")
    bundled(site, "/app.2.js", "new", "max-age=3600")
    assert ran(chromium, site, tmp_path / "profile") == {"/app.2.js": digest("new")}


@pytest.mark.parametrize("opened_for", ["profile", "another"])
def test_a_browser_that_was_opened_ahead_sees_the_same(
    chromium: ChromiumBrowser, site: Site, tmp_path: Path, opened_for: str
) -> None:
    site.pages["/list"] = page(LIST)
    chromium.warm(tmp_path / opened_for)

    (seen,) = chromium.visit([Destination(f"{site.url}/list", returning=True)], LOOK, tmp_path / "profile")

    assert isinstance(seen, Visit) and seen.items == 2
