"""Whether a service of the feature's version still lives, told from services that exist in memory."""

from typing import Any

import pytest

from runbook_lib.context import Context, old_code
from runbook_lib.results import Status
from runbook_lib.steps.backfill_step import no_feature_service

World = Any


@pytest.fixture(autouse=True)
def taken_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """No repository holds a commit of the feature."""
    monkeypatch.setattr(old_code, "live_commits", lambda context, repository: [])


def test_stopped_services_block_nobody(context: Context) -> None:
    found, summary = no_feature_service(context)

    assert (found, summary) == (
        Status.PASS,
        "frontend is stopped; backend is stopped; worker is stopped",
    )


def test_services_in_the_version_without_the_feature_block_nobody(context: Context, world: World) -> None:
    world.start_all()

    assert no_feature_service(context)[0] is Status.PASS


@pytest.mark.parametrize(
    ("version", "status", "said"),
    [
        ("0ddba11" * 5, Status.FAIL, "worker runs 0ddba110ddba110ddba110ddba110ddba11, not 5eed5eed5eed"),
        ("", Status.UNKNOWN, "worker runs, in an unknown version"),
    ],
    ids=["the feature's", "none reported"],
)
def test_a_service_in_another_version_is_named(
    context: Context, world: World, version: str, status: Status, said: str
) -> None:
    world.versions["worker"] = version
    world.services.start("worker")

    found, summary = no_feature_service(context)

    assert found is status
    assert said in summary


def test_a_service_is_of_the_feature_while_its_repository_holds_it(
    context: Context, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(old_code, "live_commits", lambda context, repository: ["one"] if repository == "backend" else [])
    world.start_all()

    found, summary = no_feature_service(context)

    assert found is Status.FAIL
    assert "worker runs 5eed5eed" in summary
    assert summary.count("still has the feature") == 2
