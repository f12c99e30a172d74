"""A user who was there before the rollback gets the new bundle too, whatever the browser has kept."""

from pathlib import Path
from urllib.parse import urljoin

from runbook_lib.adapters.browser import Visit
from runbook_lib.checks.round import Round
from runbook_lib.results import Result, Status

BEFORE = "before"  # the round in which the profile visits the page for the first time


def runs_the_new_bundle(around: Round, name: str) -> Result:
    """Whether a browser with a cache from before the rollback is given what a new visitor is given. Read-only.

    In the round before the first change, the browser's profile is made: the visit that fills its cache.
    """
    profile = _profile(around)
    if around.name == BEFORE:
        kept = _visited(around, profile).assets
        return around.result(name, Status.PASS, f"a browser was given {len(kept)} scripts and style sheets to keep")
    if not profile.exists():
        return around.result(
            name, Status.UNKNOWN, "no browser visited the page before the rollback, so none has a cache of it"
        )
    new = next(iter(around.visits.values())).assets
    returning = _visited(around, profile).assets
    wrong = [url for url in {**new, **returning} if new.get(url) != returning.get(url)]
    if not new:
        return around.result(name, Status.UNKNOWN, "the page loads no script or style sheet to tell its bundle by")
    if wrong:
        stale = "a browser with a cache from before is not given what a new visitor is given: "
        return around.result(name, Status.FAIL, stale + ", ".join(sorted(wrong)), new=dict(new), returning=dict(returning))
    return around.result(
        name, Status.PASS, f"a browser with a cache from before is given the same {len(new)} as a new visitor"
    )


def _profile(around: Round) -> Path:
    return around.context.folder.path / ".profile"  # hidden, so no part of what is sealed


def _visited(around: Round, profile: Path) -> Visit:
    page, target = around.context.plan.page, around.context.target
    url = urljoin(target.endpoint(page.service), page.path.format(sample=around.samples[0]))
    return around.context.browser.visit(url, ready=page.ready, items=page.items, media=page.media, profile=profile)
