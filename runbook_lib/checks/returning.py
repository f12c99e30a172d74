"""A user who was there before the rollback gets the new bundle too, whatever the browser has kept."""

from runbook_lib.checks.round import BEFORE, Round
from runbook_lib.results import Result, Status


def runs_the_new_bundle(around: Round, name: str) -> Result:
    """Whether a browser with a cache from before the rollback is given what a new visitor is given. Read-only.

    In the round before the first change, the browser's profile is made: the visit that fills its cache.
    """
    visit = around.visit_again
    if visit is None:
        return around.result(
            name, Status.UNKNOWN, "no browser visited the page before the rollback, so none has a cache of it"
        )
    returning = visit.assets
    if around.name == BEFORE:
        return around.result(name, Status.PASS, f"a browser was given {len(returning)} scripts and style sheets to keep")
    new = next(iter(around.visits.values())).assets
    wrong = [url for url in {**new, **returning} if new.get(url) != returning.get(url)]
    if not new:
        return around.result(name, Status.UNKNOWN, "the page loads no script or style sheet to tell its bundle by")
    if wrong:
        stale = "a browser with a cache from before is not given what a new visitor is given: "
        return around.result(name, Status.FAIL, stale + ", ".join(sorted(wrong)), new=dict(new), returning=dict(returning))
    return around.result(
        name, Status.PASS, f"a browser with a cache from before is given the same {len(new)} as a new visitor"
    )
