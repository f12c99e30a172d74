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

    assert services.Steady(2).staying(lambda: told) == told
    assert clock.now == pytest.approx(2)


def test_a_service_that_changes_for_a_moment_is_unsteady_others_are_not(clock: Clock) -> None:
    looks: Iterator[dict[str, list[int]]] = iter([{"backend": [1], "worker": [2]}, {"backend": [1], "worker": [3]}])

    def look() -> dict[str, list[int]]:
        return next(looks, {"backend": [1], "worker": [2]})

    assert services.Steady(2).staying(look) == {"backend": [1]}


def test_a_service_without_any_report_is_not_waited_for(clock: Clock) -> None:
    assert (services.Steady(2).staying(lambda: {"backend": []}), clock.now) == ({}, 0)


def test_a_service_that_still_runs_as_it_was_seen_is_not_watched_again(clock: Clock) -> None:
    steady, told = services.Steady(2), {"backend": [1]}
    steady.staying(lambda: told)
    clock.now = 3

    assert (steady.staying(lambda: told), clock.now) == (told, 3)


@pytest.mark.parametrize("between", [{"backend": [2]}, {"backend": []}], ids=["restarted", "stopped"])
def test_a_service_that_was_otherwise_meanwhile_is_watched_again(clock: Clock, between: dict[str, list[int]]) -> None:
    steady, told = services.Steady(2), {"backend": [1]}
    steady.staying(lambda: told)
    steady.staying(lambda: between)
    before = clock.now

    assert (steady.staying(lambda: told), clock.now) == (told, pytest.approx(before + 2))


def test_a_service_that_changed_while_it_was_watched_is_watched_again(clock: Clock) -> None:
    steady, looks = services.Steady(2), iter([{"backend": [1]}, {"backend": [2]}])
    assert steady.staying(lambda: next(looks, {"backend": [1]})) == {}
    before = clock.now

    assert (steady.staying(lambda: {"backend": [1]}), clock.now) == ({"backend": [1]}, pytest.approx(before + 2))
