"""Whether a service of the feature's version still lives, told from services that exist in memory."""

from typing import Any

import pytest

from runbook_lib import oldcode
from runbook_lib.context import Context
from runbook_lib.results import Status
from runbook_lib.steps.interlock import no_feature_service

World = Any


@pytest.fixture(autouse=True)
def taken_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """No repository holds a commit of the feature."""
    monkeypatch.setattr(oldcode, "live_commits", lambda context, repository: [])


def test_services_that_are_stopped_stand_in_nobodys_way(context: Context) -> None:
    result = no_feature_service(context, "remove-columns")

    assert (result.status, result.summary) == (
        Status.PASS,
        "frontend is stopped; backend is stopped; worker is stopped",
    )


def test_services_in_the_version_without_the_feature_stand_in_nobodys_way(context: Context, world: World) -> None:
    world.start_all()

    assert no_feature_service(context, "remove-columns").status is Status.PASS


@pytest.mark.parametrize(
    ("version", "status", "said"),
    [
        ("0ddba11" * 5, Status.FAIL, "worker runs 0ddba110ddba110ddba110ddba110ddba11, not 5eed5eed5eed"),
        ("", Status.UNKNOWN, "worker runs, in a version that is not known"),
    ],
    ids=["the feature's", "none told"],
)
def test_a_service_in_another_version_is_named(
    context: Context, world: World, version: str, status: Status, said: str
) -> None:
    world.versions["worker"] = version
    world.services.start("worker")

    result = no_feature_service(context, "remove-columns")

    assert result.status is status
    assert said in result.summary


def test_a_service_is_of_the_feature_while_its_repository_holds_it(
    context: Context, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(oldcode, "live_commits", lambda context, repository: ["one"] if repository == "backend" else [])
    world.start_all()

    result = no_feature_service(context, "remove-columns")

    assert result.status is Status.FAIL
    assert "worker runs 5eed5eed" in result.summary
    assert result.summary.count("still holds the feature") == 2
