"""Services that are watched for a while, by a clock of the test's own."""

from collections.abc import Iterator

import pytest

from runbook_lib import services


class Clock:
    """Time passes only while somebody sleeps."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(services, "time", clock)
    return clock


def test_many_services_are_watched_in_the_time_of_one(clock: Clock) -> None:
    told = {"backend": [1], "worker": [2], "frontend": [3]}

    assert services.staying(lambda: told, 2) == told
    assert clock.now == pytest.approx(2)


def test_a_service_that_changes_for_a_moment_is_unsteady_others_are_not(clock: Clock) -> None:
    looks: Iterator[dict[str, list[int]]] = iter([{"backend": [1], "worker": [2]}, {"backend": [1], "worker": [3]}])

    def look() -> dict[str, list[int]]:
        return next(looks, {"backend": [1], "worker": [2]})

    assert services.staying(look, 2) == {"backend": [1]}


def test_a_service_of_which_nothing_is_told_is_not_waited_for(clock: Clock) -> None:
    assert (services.staying(lambda: {"backend": []}, 2), clock.now) == ({}, 0)
