"""Pictures that a page shows in other ways than by one address of an image that is in view."""

import dataclasses
from collections.abc import Iterator

import pytest

from runbook_lib.browser import Destination, Visit
from runbook_lib.browser.chromium import ChromiumBrowser

from ..support.web_site import Site
from .test_browser import LOOK, PNG, WEBM, look, page


@pytest.fixture(scope="module")
def chromium() -> Iterator[ChromiumBrowser]:
    browser = ChromiumBrowser()
    browser.warm()
    yield browser
    browser.close()


SETS = """<img src="/picture.png" srcset="/small.png 1x, /large.png 2x">
<picture><source srcset="/wide.png 640w" type="image/png"><img src="/picture.png"></picture>"""


def test_a_picture_has_the_addresses_of_its_other_sizes_and_formats(chromium: ChromiumBrowser, site: Site) -> None:
    site.pages |= {f"/{name}.png": (200, "image/png", PNG) for name in ("small", "large", "wide")}
    visit = look(chromium, site, f'<body data-ready><div id="list">{SETS}</div>')

    found = [(media.url.rpartition("/")[2], {url.rpartition("/")[2] for url in media.others}) for media in visit.media]
    assert found == [("small.png", {"picture.png", "large.png"}), ("wide.png", {"picture.png"})]


def test_the_source_of_a_video_is_its_address(chromium: ChromiumBrowser, site: Site) -> None:
    site.pages["/film.webm"] = (200, "video/webm", WEBM)
    visit = look(chromium, site, '<body data-ready><div id="list"><video><source src="/film.webm"></video></div>')
    assert [(media.url, media.rendered) for media in visit.media] == [(f"{site.url}/film.webm", True)]


SWAPPED = """<body data-ready><div id="list"><div style="height: 20000px"></div>
<img src="data:image/gif;base64,R0lGODlhAQABAAAAACw=" data-src="/picture.png"></div>
<script>
const put = (entries, seen) => entries.filter(entry => entry.isIntersecting).forEach(({target}) => {
  target.src = target.dataset.src;
  seen.unobserve(target);
});
new IntersectionObserver(put).observe(document.querySelector("img"));
</script>"""


@pytest.mark.parametrize(
    "html",
    [
        pytest.param(SWAPPED, id="a script puts it in once it is in view"),
        pytest.param(
            '<body data-ready><div id="list" style="display: none"><img loading="lazy" src="/picture.png"></div>',
            id="in a closed tab",
        ),
    ],
)
def test_a_picture_that_loads_late_is_rendered(chromium: ChromiumBrowser, site: Site, html: str) -> None:
    visit = look(chromium, site, html)
    assert [(media.url, media.rendered) for media in visit.media] == [(f"{site.url}/picture.png", True)]


@pytest.mark.parametrize(("file", "rendered"), [("picture.png", True), ("broken.png", False)])
def test_a_background_is_a_picture(chromium: ChromiumBrowser, site: Site, file: str, rendered: bool) -> None:
    site.pages["/broken.png"] = (200, "image/png", b"no picture")
    site.pages["/picture.png"] = (200, "image/png", PNG)
    site.pages["/background"] = page(f'<body data-ready><p class="photo" style="background-image: url(/{file})">x</p>')
    (seen,) = chromium.visit([Destination(f"{site.url}/background")], dataclasses.replace(LOOK, media=".photo"))

    assert isinstance(seen, Visit)
    assert [(media.url, media.rendered) for media in seen.media] == [(f"{site.url}/{file}", rendered)]


LATE = """<body data-ready><div id="list"></div>
<script>
fetch("/picture.png").then(answer => answer.blob()).then(() => fetch("/picture.png")).then(() => {
  list.innerHTML = '<p class="item" style="content-visibility: auto">One</p><img src="/picture.png">';
});
</script>"""


def test_items_that_come_after_the_page_is_ready_are_seen(chromium: ChromiumBrowser, site: Site) -> None:
    visit = look(chromium, site, LATE)
    assert (visit.items, visit.texts, [media.rendered for media in visit.media]) == (1, ["One"], [True])


def test_what_the_browser_says_of_another_server_concerns_that_server(chromium: ChromiumBrowser, site: Site) -> None:
    policy = '<meta http-equiv="Content-Security-Policy" content="img-src \'self\'">'
    visit = look(chromium, site, f'{policy}<body data-ready><div id="list"><img src="http://127.0.0.1:9/x.png"></div>')
    assert {error.url for error in visit.errors} == {"http://127.0.0.1:9/x.png"}
