"""What a manager knows beforehand of how services come up again, and what a start restores of them."""

from collections.abc import Collection
from dataclasses import replace
from typing import Any

import pytest

from runbook_lib.context import Context
from runbook_lib.journal.state import StepState
from runbook_lib.results import Found, Status, When, not_passed
from runbook_lib.services import NOTHING, Look, MemoryServices, Restore
from runbook_lib.services import Restart as Restarting
from runbook_lib.steps import Step
from runbook_lib.steps.services import Start, Stop

World = Any


@pytest.fixture
def stop(context: Context) -> Stop:
    return Stop("stop-services", context)


@pytest.fixture
def start(context: Context) -> Start:
    step = Start("start-services", context)
    step.spec = step.spec.model_copy(update={"services": ["backend", "worker"]})
    return step


class Scaled(MemoryServices):
    """Services with instances, of which a stop may lose count, and something that the manager can look at."""

    scale = 4
    found: Found = (Status.FAIL, "backend: its environment differs: URL")

    def looks(self, restart: Restarting) -> list[Look]:
        self.restarting = restart
        return [Look("configuration", "The same comes up", lambda: self.found)]

    def to_restore(self, names: Collection[str]) -> Restore:
        return {name: {"instances": self.scale} for name in names if name == "worker"}

    def start(self, *names: str, restore: Restore = NOTHING) -> None:
        super().start(*names)
        self.restored = restore

    def log_marks(self, names: Collection[str]) -> dict[str, dict[str, int]]:
        return {name: {"size": 7} for name in names}


def scale(step: Step, world: World) -> Scaled:
    world.services = Scaled(world.services.lines, world.services.launch)
    world.start_all()
    step.context.adapters = step.context.adapters.but(services=world.services)
    return world.services


def test_what_the_manager_finds_stops_in_the_preview_and_can_be_waived(stop: Stop, world: World) -> None:
    services = scale(stop, world)

    (found,) = not_passed(stop.preconditions(When.BEFOREHAND))

    assert (found.name, found.status, found.evidence["waivable"]) == ("stop-services: configuration", Status.FAIL, True)
    assert (services.restarting.code_changed, services.restarting.stopped_first) == (False, True)
    assert set(services.restarting.folders) == {"frontend", "backend", "worker"}


def test_a_stopped_service_is_checked_as_it_starts_unless_waived(start: Start, world: World) -> None:
    services, context = scale(start, world), start.context
    context.state = replace(context.state, steps={"revert-backend": StepState("revert-backend", "Revert", "done")})

    assert [need.when for need in start.needs()] == [When.BEFOREHAND, When.ONLY_BEFOREHAND, When.AT_THE_STEP]
    assert services.restarting.code_changed

    context.state = replace(context.state, waivers={"stop-services: configuration": {"reason": "known", "by": "Dana"}})
    assert [need.name for need in start.needs()] == ["start-services: versions", "start-services: images"]


def test_a_start_restores_what_was_approved_once_the_stop_has_begun(stop: Stop, start: Start, world: World) -> None:
    services, context = scale(stop, world), stop.context
    start.context.adapters = context.adapters
    approved = {"stop-services": {"facts": dict(stop.preview().facts)}}
    assert approved["stop-services"]["facts"]["restore"] == {"worker": {"instances": 4}}

    services.scale = 3
    known = replace(context.state, previews={"d": approved}, approved="d")
    start.context.state = known
    assert start._to_restore() == {"worker": {"instances": 3}}
    start.context.state = replace(known, steps={"stop-services": StepState("stop-services", "Stop", "started")})
    services.running.clear()

    assert start._restored() == ["start worker again with instances 4"]
    assert start.apply()["logs"] == {"backend": {"size": 7}, "worker": {"size": 7}}
    assert services.restored == {"worker": {"instances": 4}}


def test_a_version_that_is_no_commit_is_unknown_beforehand(start: Start, world: World) -> None:
    world.versions["backend"] = "1.4.0"
    world.start_all()

    (found,) = not_passed(start.preconditions(When.BEFOREHAND))

    assert (found.status, "backend reports 1.4.0, which is not a commit" in found.summary) == (Status.UNKNOWN, True)
