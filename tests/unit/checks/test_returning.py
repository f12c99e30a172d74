"""Whether a user who was there before the rollback is given the new bundle."""

import os
import tempfile
from pathlib import Path

import pytest

from runbook_lib import checks
from runbook_lib.browser import MemoryBrowser, Visit
from runbook_lib.checks import CheckContext
from runbook_lib.checks.page import PageReturningKeys
from runbook_lib.context import Context, profiles
from runbook_lib.journal import Journal
from runbook_lib.results import Result, Status

from ...support.checking import SINCE

NAME = "returning-users"
OLD, NEW = {"/app.1.js": "0ld"}, {"/app.2.js": "new"}


class Sampled(CheckContext):
    """A round whose samples need no database."""

    samples = ["7", "8"]  # type: ignore[assignment]


class Site:
    """A page whose bundle the test changes, in a browser that caches as instructed."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.bundle = OLD
        self.browser = MemoryBrowser(lambda url: Visit(url, "true", "", 2, [], [], b"png", assets=self.bundle))
        context.adapters = context.adapters.but(browser=self.browser)
        spec = PageReturningKeys(kind="page_returning", title="Returning users get the new bundle")
        context.plan = context.plan.model_copy(update={"checks": {**context.plan.checks, NAME: spec}})

    def visited(self, round_name: str) -> Result:
        (found,) = checks.run([NAME], Sampled(self.context, round_name, SINCE))
        return found


@pytest.fixture
def site(context: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    Journal(context.folder.journal_path).append("opened", type="full", option="A")
    return Site(context)


def test_a_browser_that_keeps_the_old_bundle_fails_by_its_name(site: Site) -> None:
    site.browser.keeps = True
    site.visited("before")
    site.bundle = NEW

    found = site.visited("after")

    assert (found.status, "/app.1.js, /app.2.js" in found.summary) == (Status.FAIL, True)


@pytest.mark.parametrize("bundle", [NEW, {"/app.1.js": "new"}], ids=["another name", "the same name"])
def test_a_browser_that_asks_again_passes(site: Site, bundle: dict[str, str]) -> None:
    site.visited("before")
    site.bundle = bundle

    assert site.visited("after").status is Status.PASS


def test_the_same_name_with_old_content_fails(site: Site) -> None:
    site.browser.keeps = True
    site.visited("before")
    site.bundle = {"/app.1.js": "new"}

    assert site.visited("after").status is Status.FAIL


def test_without_a_visit_from_before_it_is_unknown(site: Site) -> None:
    assert site.visited("after").status is Status.UNKNOWN


def test_a_page_without_scripts_shows_nothing(site: Site) -> None:
    site.bundle = {}
    site.visited("before")

    assert site.visited("after").status is Status.UNKNOWN


def test_the_profile_is_private_and_no_part_of_the_run_folder(site: Site, tmp_path: Path) -> None:
    site.visited("before")
    profile = profiles.of(site.context.folder.path)

    assert profile is not None
    assert profile.parent.stat().st_mode & 0o777 == 0o700
    assert not list(site.context.folder.path.rglob("*profile*"))


@pytest.mark.parametrize(("status", "is_kept"), [("failed", True), ("verified", False), ("ended", False)])
def test_the_next_start_removes_the_profile_of_a_run_that_has_ended(site: Site, status: str, is_kept: bool) -> None:
    site.visited("before")
    Journal(site.context.folder.journal_path).append("outcome", status=status, exit_code=0, summary="so")

    profiles.sweep()

    assert (profiles.of(site.context.folder.path) is not None) is is_kept
    assert checks.is_final(site.context, NAME) is not is_kept


def test_the_profile_of_a_run_whose_folder_is_gone_is_removed(site: Site) -> None:
    site.visited("before")
    os.rename(site.context.folder.path, site.context.folder.path.with_name("moved"))

    profiles.sweep()

    assert profiles.of(site.context.folder.path) is None
