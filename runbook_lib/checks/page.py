"""The page shows a user what it should, in a real browser."""

from collections.abc import Callable, Mapping
from typing import Literal
from urllib.parse import urljoin

from runbook_lib.browser import Visit
from runbook_lib.checks import BEFORE, CheckContext, api, check
from runbook_lib.config.plan import CheckSpec
from runbook_lib.context import Context, profiles
from runbook_lib.results import Result, Status

READY = ("", "true")


class PageMediaKeys(CheckSpec):
    """Whether the page shows the media that older clients read."""

    kind: Literal["page_media"]

    area = "Frontend"
    requires = ("page", "api", "database", "backfill")
    opens = "page"


@check(PageMediaKeys)
def shows_media(checked: CheckContext, name: str) -> Result:
    """Whether the page shows each picture that the database names, and never the forbidden text. Read-only."""

    def problems(sample: str, visit: Visit) -> list[str]:
        shown = {medium.url for medium in visit.media}
        _, media = checked.expected[sample]
        absent = [url for url in media if urljoin(visit.url, url) not in shown]
        found = [f"{len(absent)} of {len(media)} media are not shown, such as {absent[0]}"] if absent else []
        forbidden = checked.context.plan.page.forbidden_text
        if count := visit.text.count(forbidden):
            found.append(f"“{forbidden}” stands on it {count} times")
        return found

    return _judged(checked, name, problems, lambda s, v: f"all {len(checked.expected[s][1])} media are shown")


class PageServedKeys(CheckSpec):
    """Whether the page shows what the API serves."""

    kind: Literal["page_served"]

    area = "Frontend"
    requires = ("page", "api", "database", "backfill")
    opens = "page"


@check(PageServedKeys)
def shows_served(checked: CheckContext, name: str) -> Result:
    """Whether the page shows what the API serves it: each item, and each medium of one of the fields. Read-only.

    What the API lacks is not the page's fault: without any medium served, the forbidden text may stand for each item.
    """
    if (early := api.unusable(checked, name)) is not None:
        return early

    def problems(sample: str, visit: Visit) -> list[str]:
        rows = api.items(checked.answers[sample])
        found = [] if visit.ready_state in READY else [f"it did not get ready ({visit.ready_state or 'no sign of it'})"]
        if visit.items != len(rows):
            found.append(f"it shows {visit.items} items of {len(rows)}")
        shown = {medium.url for medium in visit.media}
        fields = [served for served in api.media_by_field(checked, rows).values() if served]
        absent = [[url for url in served if urljoin(visit.url, url) not in shown] for served in fields]
        if absent and all(absent):
            least = min(absent, key=len)
            found.append(f"{len(least)} media that the API serves are not shown, such as {least[0]}")
        return found

    return _judged(checked, name, problems, lambda _, visit: f"{visit.items} items and all media that the API serves")


class PageConsoleKeys(CheckSpec):
    """Whether the page causes no errors."""

    kind: Literal["page_console"]

    area = "Frontend"
    requires = ("page", "api", "database")
    opens = "page"


@check(PageConsoleKeys)
def no_errors(checked: CheckContext, name: str) -> Result:
    """Whether the browser's console and network stayed free of errors, on the plan's other pages too. Read-only."""
    return _judged(
        checked,
        name,
        lambda _, visit: [f"{error.text} ({error.url})" for error in visit.errors],
        lambda _, visit: "no error",
        checked.other_visits,
    )


class PageThreadKeys(CheckSpec):
    """Whether the page loads its items."""

    kind: Literal["page_thread"]

    area = "Frontend"
    requires = ("page", "api", "database", "backfill")
    opens = "page"


@check(PageThreadKeys)
def loads(checked: CheckContext, name: str) -> Result:
    """Whether the page got ready and shows as many items as the database holds; the plan's other pages get ready too.

    Read-only.
    """

    def problems(sample: str, visit: Visit) -> list[str]:
        found = [] if visit.ready_state in READY else [f"it did not get ready ({visit.ready_state or 'no sign of it'})"]
        if sample not in checked.visits:
            return found
        items, _ = checked.expected[sample]
        return found + ([f"it shows {visit.items} items of {items}"] if visit.items != items else [])

    return _judged(checked, name, problems, lambda _, visit: f"{visit.items} items shown", checked.other_visits)


class PageRenderKeys(CheckSpec):
    """Whether every picture and video renders."""

    kind: Literal["page_render"]

    area = "Frontend"
    requires = ("page", "api", "database")
    opens = "page"


@check(PageRenderKeys)
def renders(checked: CheckContext, name: str) -> Result:
    """Whether every picture and video was loaded and drawn, on the plan's other pages too. Read-only."""

    def problems(name: str, visit: Visit) -> list[str]:
        broken = [medium.url for medium in visit.media if not medium.rendered]
        if not visit.media and name in checked.visits:
            return ["no picture or video is on it"]
        return [f"{len(broken)} of {len(visit.media)} do not render, such as {broken[0]}"] if broken else []

    return _judged(checked, name, problems, lambda _, v: f"{len(v.media)} of {len(v.media)} rendered", checked.other_visits)


def _judged(
    checked: CheckContext,
    name: str,
    problems: Callable[[str, Visit], list[str]],
    good: Callable[[str, Visit], str],
    others: Mapping[str, Visit] | None = None,
) -> Result:
    visits = {**checked.visits, **(others or {})}
    found = {visit.url: problems(sample, visit) for sample, visit in visits.items()}
    bad = [f"{url}: {'; '.join(lines)}" for url, lines in found.items() if lines]
    fine = [f"{visit.url}: {good(sample, visit)}" for sample, visit in visits.items()]
    return checked.result(
        name,
        Status.FAIL if bad else Status.PASS,
        "; ".join(bad or fine),
        screenshots=[checked.screenshot(sample) for sample in visits],
    )


def is_final(context: Context, name: str) -> bool:
    """Whether the browser that visited the page before the rollback was removed when the run ended. Read-only."""
    folder = context.folder.path
    return not profiles.of(folder) and profiles.has_ended(folder)


class PageReturningKeys(CheckSpec):
    """Whether a returning user gets the new bundle."""

    kind: Literal["page_returning"]

    area = "Frontend"
    requires = ("page", "api", "database")
    opens = "page and returning page"


@check(PageReturningKeys, is_final=is_final)
def runs_the_new_bundle(checked: CheckContext, name: str) -> Result:
    """Whether a browser with a cache from before the rollback is given what a new visitor is given. Read-only.

    In the round before the first change, the browser's profile is made: the visit that fills its cache.
    """
    visit = checked.visit_again
    if visit is None:
        return checked.result(
            name, Status.UNKNOWN, "no browser visited the page before the rollback, so none has a cache of it"
        )
    returning = visit.assets
    if checked.name == BEFORE:
        return checked.result(name, Status.PASS, f"a browser was given {len(returning)} scripts and style sheets to keep")
    new = next(iter(checked.visits.values())).assets
    wrong = [url for url in {**new, **returning} if new.get(url) != returning.get(url)]
    if not new:
        return checked.result(name, Status.UNKNOWN, "the page loads no script or style sheet to tell its bundle by")
    if wrong:
        stale = "a browser with a cache from before is not given what a new visitor is given: "
        return checked.result(name, Status.FAIL, stale + ", ".join(sorted(wrong)), new=dict(new), returning=dict(returning))
    return checked.result(
        name, Status.PASS, f"a browser with a cache from before is given the same {len(new)} as a new visitor"
    )
