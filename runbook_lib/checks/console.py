"""The page causes no errors in the browser's console and network, except those that do not count."""

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal
from urllib.parse import urlsplit

from runbook_lib.browser import ConsoleError
from runbook_lib.checks import BEFORE, CheckContext, check
from runbook_lib.config.plan import CheckSpec
from runbook_lib.config.plan.shown import Errors, IgnoredError
from runbook_lib.redaction import redact
from runbook_lib.results import Found, Result, Status, worst

TRIAGE = "triage"
STATUS = re.compile(r"HTTP (\d{3})\b")
CHANGING = re.compile(r"[0-9a-f]{8,}|\d+")  # parts that differ in the same error: ids, times, places in a bundle


class PageConsoleKeys(CheckSpec):
    """Whether the page causes no errors."""

    kind: Literal["page_console"]

    area = "Frontend"
    requires = ("page", "api", "database")
    opens = "page"


@check(PageConsoleKeys)
def no_errors(checked: CheckContext, name: str) -> Result:
    """Check that console and network have no errors that count, on the plan's other pages too. Read-only.

    An error of the page itself counts; one of a third party is UNKNOWN. An error that the page also caused before the
    rollback is listed and does not count, unless it may be the symptom that the rollback cures: then it is UNKNOWN.
    """
    visits = {**checked.visits, **checked.other_visits}
    rules, endpoints = checked.context.plan.page.errors, checked.context.target.endpoints.values()
    before = _before(checked, name)
    found = {}
    for visit in visits.values():
        known = None if before is None else before.get(redact(visit.url), [])
        found[visit.url] = judged(
            visit.errors, known, [visit.url, *endpoints], rules, may_be_symptom=_may_be_symptom(checked, name)
        )
    bad = {url: each for url, each in found.items() if each[0] is not Status.PASS}
    return checked.result(
        name,
        worst(status for status, _ in found.values()),
        "; ".join(f"{url}: {text}" for url, (_, text) in (bad or found).items()),
        screenshots=[checked.screenshot(sample) for sample in visits],
        findings=[text for _, text in bad.values()],
        errors={visit.url: [[error.text, error.url] for error in visit.errors] for visit in visits.values()},
    )


def judged(
    errors: Sequence[ConsoleError],
    before: Sequence[ConsoleError] | None,
    own: Collection[str],
    rules: Errors,
    *,
    may_be_symptom: bool,
) -> Found:
    """Judge the errors of a page. Pure.

    Args:
        errors: The current errors.
        before: Those of the same page before the rollback; None if nobody looked, or the rollback has not begun.
        own: Addresses of the origins whose errors count, in addition to those in the plan.
        rules: The plan's rules for errors.
        may_be_symptom: Whether an earlier error may be the symptom that the rollback cures.
    """
    known, origins = {_identity(error) for error in before or ()}, {"", *map(origin, [*own, *rules.own])}
    counting, unclear, listed = [], [], []
    for error in errors:
        text = f"{error.text} ({error.url})"
        is_own = origin(error.url) in origins
        if because := next((each.because for each in rules.ignore if _matches(each, error)), ""):
            listed.append(f"{text}: {because}")
        elif not is_own and rules.third_parties == "ignore":
            listed.append(f"{text}: of a third party")
        elif _identity(error) in known and not (is_own and may_be_symptom):
            listed.append(f"{text}: also before the rollback")
        elif _identity(error) in known:
            unclear.append(f"{text}: also before the rollback, so it is older than the release, or not cured; {REMEDY}")
        elif is_own:
            counting.append(text)
        else:
            unclear.append(f"{text}: of a third party, which may or may not matter; {REMEDY}")
    if counting or unclear:
        return Status.FAIL if counting else Status.UNKNOWN, "; ".join([*counting, *unclear])
    return Status.PASS, f"no error that counts, and {len(listed)} that do not: {'; '.join(listed)}" if listed else "no error"


REMEDY = "if it does not count, list it under page.errors.ignore"


def origin(url: str) -> str:
    """Return the scheme, host and port of an address; "" if it has none. Pure."""
    try:
        parts = urlsplit(url)
        port = parts.port or {"http": 80, "ws": 80, "https": 443, "wss": 443}.get(parts.scheme)
    except ValueError:
        return ""
    scheme = {"ws": "http", "wss": "https"}.get(parts.scheme, parts.scheme)
    return f"{scheme}://{parts.hostname}:{port}" if parts.hostname else ""


def _matches(rule: IgnoredError, error: ConsoleError) -> bool:
    status = STATUS.match(error.text)
    return (
        (rule.url is None or re.search(rule.url, error.url) is not None)
        and (rule.text is None or re.search(rule.text, error.text) is not None)
        and (rule.status is None or (status is not None and int(status[1]) == rule.status))
    )


def _identity(error: ConsoleError) -> tuple[str, str]:
    """Return the part of an error that stays the same in another visit or build."""
    is_request = error.text.startswith(("HTTP ", "net::"))
    place = error.url.partition("?")[0] if is_request else origin(error.url)
    return CHANGING.sub("#", redact(error.text)), CHANGING.sub("#", redact(place))  # the journal has them redacted


def _before(checked: CheckContext, name: str) -> Mapping[str, list[ConsoleError]] | None:
    rounds = checked.context.state.checks
    if checked.name in (BEFORE, TRIAGE) or name not in rounds.get(BEFORE, {}):
        return None
    evidence: Mapping[str, Any] = rounds[BEFORE][name].get("evidence", {})
    return {url: [ConsoleError(*error) for error in errors] for url, errors in evidence.get("errors", {}).items()}


def _may_be_symptom(checked: CheckContext, name: str) -> bool:
    """Check whether the found symptom depends on this check, or nobody looked for symptoms."""
    seen = {check: found["status"] for check, found in checked.context.state.checks.get(TRIAGE, {}).items()}
    rows = [row for row in checked.context.plan.decision_matrix if all(seen.get(n) == Status.FAIL for n in row.failing)]
    return not rows or any(name in [*row.failing, *row.findings] for row in rows)
