"""Checks of what a page shows a user, in a real browser."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from runbook_lib.browser import Visit
from runbook_lib.checks import BEFORE, CheckContext, api, check
from runbook_lib.checks.media import Comparison, compared
from runbook_lib.checks.served import OK, holds
from runbook_lib.config.plan import CheckSpec, Rows
from runbook_lib.config.plan.answer_path import at
from runbook_lib.context import Context, profiles
from runbook_lib.errors import AdapterError
from runbook_lib.results import Found, Result, Status, worst

READY = ("", "true")
SAY_WHICH = "set page.rows to the rows that it must show"


class PageMediaKeys(CheckSpec):
    """Whether the page shows the media that older clients read."""

    kind: Literal["page_media"]

    area = "Frontend"
    requires = ("page", "api", "database", "backfill")
    opens = "page"


@check(PageMediaKeys)
def shows_media(checked: CheckContext, name: str) -> Result:
    """Check that the page shows each picture of the rows it must show, and never the forbidden text. Read-only."""
    if checked.context.plan.rows_shown == "served" and (early := api.unusable(checked, name)) is not None:
        return early
    page = checked.context.plan.page

    def found(sample: str, visit: Visit) -> list[Found]:
        rows = shown_rows(checked, sample)
        seen = [_unless_elsewhere(compared(rows.media, visit.media, visit.url, page.media_rules), rows.unshown(visit))]
        if not rows.media:
            seen = [(Status.UNKNOWN, "no row that it must show has a picture or video")]
        if count := visit.text.count(page.forbidden_text):
            seen.append((Status.FAIL, f"it has “{page.forbidden_text}” {count} times"))
        return seen

    return judged(checked, name, found)


class PageServedKeys(CheckSpec):
    """Whether the page shows what the API serves."""

    kind: Literal["page_served"]

    area = "Frontend"
    requires = ("page", "api", "database", "backfill")
    opens = "page"


@check(PageServedKeys)
def shows_served(checked: CheckContext, name: str) -> Result:
    """Check that the page shows each item that the API serves, and each medium of one of the fields. Read-only.

    If the API serves no medium at all, the page may show the forbidden text for each item.
    """
    if (early := api.unusable(checked, name)) is not None:
        return early
    plan = checked.context.plan

    def found(sample: str, visit: Visit) -> list[Found]:
        served = checked.served[sample]
        if served.unclear:
            return [(Status.UNKNOWN, served.unclear), *_readiness(visit)]
        of_page = isinstance(plan.page.rows, Rows) and plan.page.rows != plan.api.rows
        rows = shown_rows(checked, sample) if of_page else _served_rows(checked, sample)
        if plan.rows_shown is None and 0 < visit.items < rows.least:
            rows = replace(rows, doubt=SAY_WHICH)
        items = served.items[: served.first]
        fields = api.media_by_field(checked, items)
        known = [url for urls in fields.values() for url in urls]
        unshown = max(0, len(items) - visit.items) if of_page or rows.doubt else 0
        compares = [compared(urls, visit.media, visit.url, plan.page.media_rules, known) for urls in fields.values() if urls]
        count, said = rows.counted(visit)
        good = f"{visit.items} items and all media that the API serves"
        seen = [*_readiness(visit), (count, good if count is Status.PASS else said)]
        if not known and any(holds(at(item, plan.api.present)) for item in items):
            seen.append((Status.UNKNOWN, f"{plan.api.present} has no address; name the key that has it, such as media.url"))
        elif compares and not any(each.status is Status.PASS for each in compares):
            least = min(compares, key=lambda each: (each.status is Status.FAIL, len(each.missing)))
            status, text = _unless_elsewhere(least, unshown)
            lacking = f"{len(least.missing)} media that the API serves are not shown, such as {', '.join(least.missing[:1])}"
            seen.append((status, lacking if status is Status.FAIL else f"of the API's media, {text}"))
        return seen

    return judged(checked, name, found)


class PageThreadKeys(CheckSpec):
    """Whether the page loads its items."""

    kind: Literal["page_thread"]

    area = "Frontend"
    requires = ("page", "api", "database", "backfill")
    opens = "page"


@check(PageThreadKeys)
def loads(checked: CheckContext, name: str) -> Result:
    """Check that the page got ready and shows as many items as it must, and that the plan's other pages get ready.

    Read-only.
    """
    if checked.context.plan.rows_shown == "served" and (early := api.unusable(checked, name)) is not None:
        return early

    def found(sample: str, visit: Visit) -> list[Found]:
        if sample not in checked.visits:
            return _readiness(visit) or [(Status.PASS, f"{visit.items} items shown")]
        return [*_readiness(visit), shown_rows(checked, sample).counted(visit)]

    return judged(checked, name, found, checked.other_visits)


class PageRenderKeys(CheckSpec):
    """Whether every picture and video renders."""

    kind: Literal["page_render"]

    area = "Frontend"
    requires = ("page", "api", "database")
    opens = "page"


@check(PageRenderKeys)
def renders(checked: CheckContext, name: str) -> Result:
    """Check that every picture and video was loaded and drawn, on the plan's other pages too. Read-only."""

    def found(sample: str, visit: Visit) -> list[Found]:
        broken = [medium.url for medium in visit.media if not medium.rendered]
        if not visit.media and sample in checked.visits:
            return [_without_media(checked, sample, visit)]
        if broken:
            return [(Status.FAIL, f"{len(broken)} of {len(visit.media)} do not render, such as {broken[0]}")]
        return [(Status.PASS, f"{len(visit.media)} of {len(visit.media)} rendered")]

    return judged(checked, name, found, checked.other_visits)


def _without_media(checked: CheckContext, sample: str, visit: Visit) -> Found:
    """Judge a sample's page without any picture: some of its rows have one, but perhaps not the shown ones."""
    text = "it has no picture or video"
    if "backfill" not in checked.context.plan.parts:
        return Status.FAIL, text
    rows = shown_rows(checked, sample)
    if len(rows.media) > rows.unshown(visit):
        return Status.FAIL, text
    return Status.UNKNOWN, f"{text}, and it shows {visit.items} items of {rows.least}; {SAY_WHICH}"


@dataclass(frozen=True)
class ShownRows:
    """The rows of a sample that a page must show: the least and most, None for no limit, and their media."""

    least: int
    most: int | None
    media: list[str]
    doubt: str = ""  # why a page that shows another number may be right

    def unshown(self, visit: Visit) -> int:
        """Return how many of the rows the page may rightly not show. Pure."""
        return max(0, self.least - visit.items) if self.doubt else 0

    def counted(self, visit: Visit) -> Found:
        """Judge the number of the page's items. Pure."""
        if visit.items >= self.least and (self.most is None or visit.items <= self.most):
            return Status.PASS, f"{visit.items} items shown"
        text = f"it shows {visit.items} items of {self.least}"
        return (Status.UNKNOWN, f"{text}; {self.doubt}") if self.doubt else (Status.FAIL, text)


def shown_rows(checked: CheckContext, sample: str) -> ShownRows:
    """Return the rows of a sample that its page must show according to the plan. Read-only.

    Raises:
        AdapterError: They are unknown.
    """
    rows, visit = checked.context.plan.rows_shown, checked.visits[sample]
    if rows == "served":
        return _served_rows(checked, sample)
    count, media = checked.expected[sample]
    is_doubtful = rows is None and (visit.items > 0 or _serves_nothing(checked, sample))
    return ShownRows(count, count, media, SAY_WHICH if is_doubtful else "")


def _served_rows(checked: CheckContext, sample: str) -> ShownRows:
    """Return the rows that the API serves of a sample; a page may also load those after the first answer."""
    served = checked.served[sample]
    if served.unclear:
        raise AdapterError(served.unclear)
    older = api.media_by_field(checked, served.items[: served.first])[checked.context.plan.api.present]
    return ShownRows(served.first, None if served.more else len(served.items), older)


def _serves_nothing(checked: CheckContext, sample: str) -> bool:
    """Check whether the API certainly serves no item of a sample, so all its rows may be hidden from users."""
    try:
        answer, served = checked.answers[sample], checked.served[sample]
    except AdapterError:
        return False
    return answer.status == OK and not served.unclear and not served.items


def _readiness(visit: Visit) -> list[Found]:
    if visit.ready_state in READY:
        return []
    return [(Status.FAIL, f"it did not get ready ({visit.ready_state or 'no sign of readiness'})")]


def _unless_elsewhere(found: Comparison, unshown: int) -> Found:
    """Return a comparison; UNKNOWN if the missing media may belong to rows that the page rightly does not show."""
    if found.status is Status.FAIL and len(found.missing) <= unshown:
        return Status.UNKNOWN, f"{found.text}; whether the page must show their rows is unknown: {SAY_WHICH}"
    return found.status, found.text


def judged(
    checked: CheckContext,
    name: str,
    look: Callable[[str, Visit], list[Found]],
    others: Mapping[str, Visit] | None = None,
) -> Result:
    """Return the result of a check of each page: the worst finding, and its text. Read-only."""
    visits = {**checked.visits, **(others or {})}
    found = {visit.url: look(sample, visit) for sample, visit in visits.items()}
    status = worst(each for seen in found.values() for each, _ in seen)
    lines = {
        url: [text for each, text in seen if status is Status.PASS or each is not Status.PASS] for url, seen in found.items()
    }
    return checked.result(
        name,
        status,
        "; ".join(f"{url}: {'; '.join(texts)}" for url, texts in lines.items() if texts),
        screenshots=[checked.screenshot(sample) for sample in visits],
        findings=[text for seen in found.values() for each, text in seen if each is not Status.PASS],
    )


def is_final(context: Context, name: str) -> bool:
    """Check whether the browser that visited the page before the rollback was removed at the end of the run. Read-only."""
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
    """Check that a browser with a cache from before the rollback gets the same files as a new visitor. Read-only.

    The round before the first change creates the browser's profile and fills its cache with a visit.
    """
    visit = checked.visit_again
    if visit is None:
        return checked.result(
            name, Status.UNKNOWN, "no browser visited the page before the rollback, so no cache of it exists"
        )
    returning = visit.assets
    if checked.name == BEFORE:
        return checked.result(name, Status.PASS, f"a browser cached {len(returning)} scripts and style sheets")
    new = next(iter(checked.visits.values())).assets
    wrong = [url for url in {**new, **returning} if new.get(url) != returning.get(url)]
    if not new:
        return checked.result(name, Status.UNKNOWN, "the page loads no script or style sheet that identifies its bundle")
    if wrong:
        stale = "a browser with a cache from before gets other files than a new visitor: "
        return checked.result(name, Status.FAIL, stale + ", ".join(sorted(wrong)), new=dict(new), returning=dict(returning))
    return checked.result(
        name, Status.PASS, f"a browser with a cache from before gets the same {len(new)} files as a new visitor"
    )
