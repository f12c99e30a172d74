"""The page shows a user what it should, in a real browser."""

from collections.abc import Callable, Mapping
from urllib.parse import urljoin

from runbook_lib.adapters.browser import Visit
from runbook_lib.checks import api
from runbook_lib.checks.round import Round
from runbook_lib.results import Result, Status

READY = ("", "true")


def shows_media(around: Round, name: str) -> Result:
    """Whether the page shows each picture that the database names, and never the forbidden text. Read-only."""

    def problems(sample: str, visit: Visit) -> list[str]:
        shown = {medium.url for medium in visit.media}
        _, media = around.expected[sample]
        absent = [url for url in media if urljoin(visit.url, url) not in shown]
        found = [f"{len(absent)} of {len(media)} media are not shown, such as {absent[0]}"] if absent else []
        forbidden = around.context.plan.page.forbidden_text
        if count := visit.text.count(forbidden):
            found.append(f"“{forbidden}” stands on it {count} times")
        return found

    return _judged(around, name, problems, lambda s, v: f"all {len(around.expected[s][1])} media are shown")


def shows_served(around: Round, name: str) -> Result:
    """Whether the page shows what the API serves it: each item, and each medium of one of the fields. Read-only.

    What the API lacks is not the page's fault: without any medium served, the forbidden text may stand for each item.
    """
    if (early := api.unusable(around, name)) is not None:
        return early

    def problems(sample: str, visit: Visit) -> list[str]:
        rows = api.items(around.answers[sample])
        found = [] if visit.ready_state in READY else [f"it did not get ready ({visit.ready_state or 'no sign of it'})"]
        if visit.items != len(rows):
            found.append(f"it shows {visit.items} items of {len(rows)}")
        shown = {medium.url for medium in visit.media}
        fields = [served for served in api.media_by_field(around, rows).values() if served]
        absent = [[url for url in served if urljoin(visit.url, url) not in shown] for served in fields]
        if absent and all(absent):
            least = min(absent, key=len)
            found.append(f"{len(least)} media that the API serves are not shown, such as {least[0]}")
        return found

    return _judged(around, name, problems, lambda _, visit: f"{visit.items} items and all media that the API serves")


def no_errors(around: Round, name: str) -> Result:
    """Whether the browser's console and network stayed free of errors, on the plan's other pages too. Read-only."""
    return _judged(
        around,
        name,
        lambda _, visit: [f"{error.text} ({error.url})" for error in visit.errors],
        lambda _, visit: "no error",
        around.other_visits,
    )


def loads(around: Round, name: str) -> Result:
    """Whether the page got ready and shows as many items as the database holds; the plan's other pages get ready too.

    Read-only.
    """

    def problems(sample: str, visit: Visit) -> list[str]:
        found = [] if visit.ready_state in READY else [f"it did not get ready ({visit.ready_state or 'no sign of it'})"]
        if sample not in around.visits:
            return found
        items, _ = around.expected[sample]
        return found + ([f"it shows {visit.items} items of {items}"] if visit.items != items else [])

    return _judged(around, name, problems, lambda _, visit: f"{visit.items} items shown", around.other_visits)


def renders(around: Round, name: str) -> Result:
    """Whether every picture and video was loaded and drawn, on the plan's other pages too. Read-only."""

    def problems(name: str, visit: Visit) -> list[str]:
        broken = [medium.url for medium in visit.media if not medium.rendered]
        if not visit.media and name in around.visits:
            return ["no picture or video is on it"]
        return [f"{len(broken)} of {len(visit.media)} do not render, such as {broken[0]}"] if broken else []

    return _judged(around, name, problems, lambda _, v: f"{len(v.media)} of {len(v.media)} rendered", around.other_visits)


def _judged(
    around: Round,
    name: str,
    problems: Callable[[str, Visit], list[str]],
    good: Callable[[str, Visit], str],
    others: Mapping[str, Visit] | None = None,
) -> Result:
    visits = {**around.visits, **(others or {})}
    found = {visit.url: problems(sample, visit) for sample, visit in visits.items()}
    bad = [f"{url}: {'; '.join(lines)}" for url, lines in found.items() if lines]
    fine = [f"{visit.url}: {good(sample, visit)}" for sample, visit in visits.items()]
    return around.result(
        name,
        Status.FAIL if bad else Status.PASS,
        "; ".join(bad or fine),
        screenshots=[around.screenshot(sample) for sample in visits],
    )
