"""Whether a user who was there before the rollback is given the new bundle."""

import pytest

from runbook_lib import checks
from runbook_lib.adapters.browser import MemoryBrowser, Visit
from runbook_lib.checks.round import Round
from runbook_lib.context import Context
from runbook_lib.plan import SimpleCheck
from runbook_lib.results import Result, Status

from .test_checks import SINCE

NAME = "returning-users"
OLD, NEW = {"/app.1.js": "0ld"}, {"/app.2.js": "new"}


class Sampled(Round):
    """A round whose samples need no database."""

    samples = ["7", "8"]  # type: ignore[assignment]


class Site:
    """A page whose bundle the test changes, in a browser that keeps what it was told to."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.bundle = OLD
        self.browser = MemoryBrowser(lambda url: Visit(url, "true", "", 2, [], [], b"png", assets=self.bundle))
        context.__dict__["browser"] = self.browser
        spec = SimpleCheck(kind="page_returning", title="Returning users get the new bundle")
        context.plan = context.plan.model_copy(update={"checks": {**context.plan.checks, NAME: spec}})

    def looked_at(self, round_name: str) -> Result:
        (found,) = checks.run([NAME], Sampled(self.context, round_name, SINCE))
        return found


@pytest.fixture
def site(context: Context) -> Site:
    return Site(context)


def test_a_browser_that_keeps_the_old_bundle_fails_by_its_name(site: Site) -> None:
    site.browser.keeps = True
    site.looked_at("before")
    site.bundle = NEW

    found = site.looked_at("after")

    assert (found.status, "/app.1.js, /app.2.js" in found.summary) == (Status.FAIL, True)


@pytest.mark.parametrize("bundle", [NEW, {"/app.1.js": "new"}], ids=["another name", "the same name"])
def test_a_browser_that_asks_again_passes(site: Site, bundle: dict[str, str]) -> None:
    site.looked_at("before")
    site.bundle = bundle

    assert site.looked_at("after").status is Status.PASS


def test_the_same_name_with_old_content_fails(site: Site) -> None:
    site.browser.keeps = True
    site.looked_at("before")
    site.bundle = {"/app.1.js": "new"}

    assert site.looked_at("after").status is Status.FAIL


def test_without_a_visit_from_before_it_is_unknown(site: Site) -> None:
    assert site.looked_at("after").status is Status.UNKNOWN


def test_a_page_without_scripts_tells_nothing(site: Site) -> None:
    site.bundle = {}
    site.looked_at("before")

    assert site.looked_at("after").status is Status.UNKNOWN
