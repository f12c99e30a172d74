"""Checks of a plan's own in a whole rollback: in a type's checklist, as a symptom, and what they need, known beforehand."""

import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from runbook_lib.results import Status
from runbook_lib.run import lifecycle
from runbook_lib.triage.decision_matrix import checks_needed, recommend

from ..support import quick_site
from ..support.prometheus import Prometheus, Series, prometheus
from ..support.quick_site import Site
from ..support.web_site import Site as Web
from ..support.web_site import serving

OWN = {
    "shop-answers": {
        "kind": "http",
        "title": "The shop answers",
        "endpoint": "backend",
        "path": "/health",
        "json": {"up": True},
    },
    "smoke-test": {"kind": "command", "title": "The smoke test passes", "command": "smoke"},
    "few-errors": {"kind": "metric", "title": "Few requests fail", "query": "errors", "at_most": 1},
}


@pytest.fixture
def web() -> Iterator[Web]:
    with serving() as made:
        made.pages["/health"] = (200, "application/json", b'{"up": true}')
        yield made


@pytest.fixture
def metrics() -> Iterator[Prometheus]:
    with prometheus() as made:
        made.answers["errors"] = [Series("0")]
        yield made


@pytest.fixture
def site(tmp_path: Path, web: Web, metrics: Prometheus) -> Site:
    """A site whose quick rollback ends with the plan's own checks; the file `smoke` says how its smoke test exits."""
    made = quick_site.make(tmp_path / "site")
    (made.root / "smoke").write_text("0")
    made.environment["REHEARSAL_BACKEND_URL"] = web.url
    plan: dict[str, Any] = {f"checks__{name}": check for name, check in OWN.items()}
    made.change_plan(**plan, types__frontend__checks=list(OWN), decision_matrix=[ROW])
    command = {"command": [sys.executable, "-c", "exit(int(open('smoke').read()))"], "directory": str(made.root)}
    made.change_target(metrics={"url": metrics.url}, commands={"smoke": command})
    return made


ROW = {
    "symptom": "The shop is down",
    "severity": "critical",
    "action": "immediate",
    "type": "frontend",
    "failing": ["shop-answers"],
}


@pytest.mark.slow
def test_a_rollback_is_verified_where_all_of_them_pass(site: Site) -> None:
    run = site.plan()

    code, said = run.run()

    assert (code, run.state.outcome and run.state.outcome["status"]) == (0, "verified"), said
    assert [name for name in OWN if run.state.checks["after"][name]["status"] != "PASS"] == []
    assert run.state.checks["prerequisites"]["checks"]["status"] == "PASS"


@pytest.mark.slow
@pytest.mark.parametrize(("exits", "code", "outcome"), [("1", 3, "failed"), ("7", 4, "unknown")])
def test_a_rollback_is_not_verified_where_one_does_not(site: Site, exits: str, code: int, outcome: str) -> None:
    run = site.plan()
    (site.root / "smoke").write_text(exits)

    ended, said = run.run()

    assert (ended, run.state.outcome and run.state.outcome["status"]) == (code, outcome), said


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ({"commands": {"smoke": {"command": ["no-such-program"]}}}, "smoke-test: no-such-program cannot be run from here"),
        ({"metrics": {"url": "http://127.0.0.1:1"}}, "few-errors: could not be looked at"),
    ],
)
def test_what_they_need_and_is_absent_stops_before_anything_is_done(site: Site, target: dict[str, Any], said: str) -> None:
    site.change_target(**target)
    run = site.plan()

    assert said in str(run.error)
    assert "previewed" not in run.kinds


@pytest.mark.parametrize(
    ("key", "said"), [("commands", "commands.smoke"), ("metrics", "metrics"), ("endpoints", "endpoints.backend")]
)
def test_a_target_that_lacks_what_they_name_is_refused(site: Site, key: str, said: str) -> None:
    site.change_target(**{key: {} if key != "metrics" else None})

    run = site.plan()

    assert (f"needs of a target: {said}" in str(run.error) or f", {said}" in str(run.error)) is True, run.error
    assert run.folder is None


def test_one_of_them_as_a_symptom_recommends_a_type(
    site: Site, web: Web, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, value in site.environment.items():
        monkeypatch.setenv(name, value)
    run = lifecycle.open_new(site.plan_file, site.target_file, "", outputs=tmp_path / "triage")
    plan = run.context.plan
    calm = recommend(plan, run.observe("triage", checks_needed(plan)))
    web.pages["/health"] = (200, "application/json", b'{"up": false}')
    found = run.observe("triage", checks_needed(plan))
    run.close_adapters()

    assert (calm.type, recommend(plan, found).type) == ("", "frontend")
    assert [result.status for result in found] == [Status.FAIL]


LONG_AGO = "2025-11-01T09:00:00.000Z"  # the feature's first commit was written two days later


@pytest.mark.parametrize(
    ("now", "type_name", "said"),
    [
        ("ERROR order 8 is late", "", "no new kind of error"),
        (
            "ERROR column x does not exist",
            "frontend",
            "none is of a kind that was logged before the feature's first commit of 2025-",
        ),
    ],
)
def test_errors_from_before_the_first_commit_recommend_nothing(
    site: Site, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, now: str, type_name: str, said: str
) -> None:
    at = datetime.now(UTC).isoformat(timespec="milliseconds")
    (site.root / "frontend.log").write_text(f"{LONG_AGO} ERROR order 7 is late\n{at} {now}\n")
    site.change_target(services__commands__logs=["cat", "../{service}.log"])
    row = {"symptom": "Errors", "severity": "high", "action": "immediate", "type": "frontend", "failing": ["no-errors"]}
    check = {"kind": "logs", "title": "No errors", "services": ["frontend"]}
    site.change_plan(**{"checks__no-errors": check, "decision_matrix": [row]})
    for name, value in site.environment.items():
        monkeypatch.setenv(name, value)

    run = lifecycle.open_new(site.plan_file, site.target_file, "", outputs=tmp_path / "triage")
    found = run.observe("triage", ["no-errors"])
    run.close_adapters()

    assert (recommend(run.context.plan, found).type, said in found[0].summary) == (type_name, True), found[0].summary
