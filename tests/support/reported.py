"""Reports and logs of runs whose events a test makes up, ten seconds apart."""

import re
from datetime import UTC, datetime, timedelta
from html import unescape
from typing import Any

from runbook_lib import report as archive
from runbook_lib.config.plan import Plan
from runbook_lib.journal.event import Event
from runbook_lib.journal.folder import RunFolder
from runbook_lib.journal.state import replay

START = datetime(2025, 11, 3, 12, 0, tzinfo=UTC)
Happened = tuple[str, dict[str, Any]]
OPENED: Happened = (
    "opened",
    {
        "plan": "P",
        "target": "staging-7",
        "environment": "staging",
        "type": "full",
        "option": "A",
        "operator": "Dana",
        "reason": "Media <b>gone</b>",
        "incident": "INC-1",
    },
)
VERIFIED: Happened = ("outcome", {"status": "verified", "exit_code": 0, "summary": "all passed"})


def done(plan: Plan) -> list[Happened]:
    """Every step of the full rollback done."""
    events: list[Happened] = []
    for name in plan.steps_of("full", "A"):
        events += [
            ("started", {"step": name, "title": plan.steps[name].title}),
            ("applied", {"step": name, "seconds": 2.0, "outcome": {"rows_cleared": 12}}),
        ]
    return events


def checked(plan: Plan, **other: str) -> list[Happened]:
    """Every check of the full rollback passed, but for `other`."""
    return [
        (
            "checked",
            {
                "name": name,
                "title": plan.checks[name].title,
                "status": other.get(name.replace("-", "_"), "PASS"),
                "summary": f"looked at {name}",
                "round": "after",
            },
        )
        for name in plan.types["full"].checks
    ]


def events(*happened: Happened) -> list[Event]:
    """The events, ten seconds apart."""
    return [
        Event(n, (START + timedelta(seconds=10 * n)).isoformat(), kind, data, "", "")
        for n, (kind, data) in enumerate([OPENED, *happened], 1)
    ]


def report(folder: RunFolder, plan: Plan, *happened: Happened) -> str:
    history = events(*happened)
    return archive.write_report(folder, plan, replay(history), history).read_text()


def log(folder: RunFolder, plan: Plan, *happened: Happened) -> str:
    history = events(*happened)
    return archive.write_log(folder, plan, replay(history), history).read_text()


def headline(page: str) -> str:
    found = re.search(r"<h1[^>]*>(.*?)</h1>", page, re.DOTALL)
    assert found
    return found[1]


def words(page: str) -> str:
    return unescape(" ".join(re.sub(r"<[^>]+>", " ", page.split("<body>")[1]).split()))
