"""Stopping, starting and restarting services that exist in memory."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from runbook_lib.config.target import VersionByManager
from runbook_lib.context import Context
from runbook_lib.errors import AdapterError, StepFailed
from runbook_lib.journal.state import StepState
from runbook_lib.results import Status, not_passed
from runbook_lib.services import NOTHING, MemoryServices, Restore
from runbook_lib.steps import Effect, Step
from runbook_lib.steps import services as services_module
from runbook_lib.steps.services import Restart, Start, Stop

OLD = "0ddba11" * 5
LEFT = {"pid": 41, "started": "", "user": "app", "program": "worker", "state": "idle", "seconds": 0.0, "query": ""}

World = Any


@pytest.fixture
def stop(context: Context) -> Stop:
    return Stop("stop-services", context)


@pytest.fixture
def start(context: Context) -> Start:
    step = Start("start-services", context)
    step.spec = step.spec.model_copy(update={"services": ["backend", "worker"]})
    return step


@pytest.fixture
def restart(context: Context) -> Restart:
    return Restart("restart-frontend", context)


class Watched(MemoryServices):
    """Services that record the calls they receive; some never stop."""

    def __init__(self, world: World, stubborn: set[str] = frozenset()) -> None:  # type: ignore[assignment]
        super().__init__(world.services.lines, world.services.launch)
        self.running, self.lines = set(world.services.running), world.services.lines
        self.asked: list[str] = []
        self.stubborn = stubborn

    def stop(self, *names: str) -> None:
        self.asked.append(f"stop {' '.join(names)}")
        super().stop(*(name for name in names if name not in self.stubborn))

    def start(self, *names: str, restore: Restore = NOTHING) -> None:
        self.asked += [f"start {name}" for name in names]
        super().start(*names, restore=restore)


def watch(step: Step, world: World, stubborn: set[str] = frozenset()) -> Watched:  # type: ignore[assignment]
    world.services = Watched(world, stubborn)
    step.context.adapters = step.context.adapters.but(services=world.services)
    return world.services


# --- stop


@pytest.mark.parametrize(
    ("running", "connected", "effect", "said"),
    [
        ({"frontend", "backend", "worker"}, [], Effect.NOT_DONE, "running: frontend, worker, backend"),
        ({"worker"}, [], Effect.HALF_DONE, "running: worker"),
        (set(), [LEFT], Effect.HALF_DONE, "1 database connections"),
        (set(), [], Effect.DONE, "none runs"),
    ],
    ids=["all run", "a forgotten worker", "a connection is left", "none"],
)
def test_probe_of_stop(stop: Stop, world: World, running: set[str], connected: list[Any], effect: Effect, said: str) -> None:
    world.services.running, world.connections = running, connected

    probe = stop.probe()

    assert (probe.effect, said in probe.detail) == (effect, True)


def test_stop_stops_together_in_the_plan_s_order_what_needs_no_other(stop: Stop, world: World) -> None:
    world.start_all()
    watched = watch(stop, world)

    stop.apply()

    assert watched.asked == ["stop frontend worker", "stop backend"]  # by the plan's needs
    assert not_passed(stop.verify()) == []


def test_stop_waits_for_connections_to_close(stop: Stop, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(services_module, "POLL", 0)
    later: Iterator[list[Any]] = iter([[LEFT], [LEFT], []])
    monkeypatch.setattr(world, "fetchall", lambda: next(later, []))
    target = stop.context.target
    stop.context.target = target.model_copy(update={"services": target.services.model_copy(update={"timeout": 60})})

    stop.apply()

    assert next(later, "all asked for") == "all asked for"


def test_a_worker_that_still_runs_is_not_stopped(stop: Stop, world: World) -> None:
    world.start_all()
    watch(stop, world, stubborn={"worker"})

    stop.apply()

    assert [(r.status, r.summary) for r in not_passed(stop.verify())] == [(Status.FAIL, "still running: worker")]


def test_a_connection_that_is_left_is_not_stopped(stop: Stop, world: World) -> None:
    world.connections = [LEFT]

    stop.apply()

    assert [(r.status, r.summary) for r in not_passed(stop.verify())] == [(Status.FAIL, "still connected: pid 41 (worker)")]


def test_a_port_that_is_still_open_is_not_stopped(stop: Stop, world: World) -> None:
    (address,) = stop.context.target.services.listens["backend"]
    world.open_ports = [address]

    stop.apply()

    assert [(r.status, r.summary) for r in not_passed(stop.verify())] == [(Status.FAIL, f"still open: {address}")]


def test_a_port_that_cannot_be_checked_is_unknown(stop: Stop) -> None:
    def nobody(address: str) -> bool:
        raise AdapterError(f"{address} is nowhere")

    stop.context.adapters = stop.context.adapters.but(listens=nobody)

    assert [(r.name, r.status) for r in not_passed(stop.verify())] == [("stop-services: ports", Status.UNKNOWN)]


def test_a_forgotten_worker_is_in_the_preview_and_stops_the_step(stop: Stop, world: World) -> None:
    world.services.lines["mailer"] = []
    world.services.start("mailer")

    (result,) = stop.preconditions()

    assert (result.status, result.summary) == (Status.FAIL, "not named in plan or target: mailer")
    assert any("mailer" in line for line in stop.preview().would)


def test_what_the_target_leaves_alone_is_no_forgotten_worker(stop: Stop, world: World) -> None:
    world.services.lines["postgres"] = []
    world.services.start("postgres")

    assert not_passed(stop.preconditions()) == []


@pytest.mark.parametrize("ask", [Stop.preview, Stop.probe, Stop.apply, Stop.verify])
def test_a_manager_that_does_not_answer_is_never_taken_for_stopped(
    stop: Stop, world: World, ask: Callable[[Stop], Any]
) -> None:
    world.services.reachable = False

    with pytest.raises(AdapterError, match="did not answer"):
        ask(stop)


def test_whether_a_silent_manager_runs_a_forgotten_worker_is_unknown(stop: Stop, world: World) -> None:
    world.services.reachable = False

    assert [(r.name, r.status) for r in stop.preconditions()] == [("stop-services: forgotten", Status.UNKNOWN)]


def test_undo_of_stop_starts_what_is_checked_out(stop: Stop, world: World) -> None:
    left = stop.undo()

    assert left == {"running": dict.fromkeys(["frontend", "worker", "backend"], world.head)}
    assert world.services.running == {"frontend", "backend", "worker"}


def test_the_preview_of_stop_changes_nothing(stop: Stop, world: World) -> None:
    world.start_all()

    preview = stop.preview()

    assert (preview.facts, len(world.services.running)) == ({"services": ["frontend", "worker", "backend"]}, 3)


# --- start


@pytest.mark.parametrize(
    ("running", "versions", "effect"),
    [
        (set(), {}, Effect.NOT_DONE),
        ({"backend", "worker"}, {}, Effect.DONE),
        ({"backend"}, {}, Effect.HALF_DONE),
        ({"backend", "worker"}, {"backend": OLD}, Effect.HALF_DONE),
        ({"backend", "worker"}, {"backend": OLD, "worker": OLD}, Effect.NOT_DONE),
        ({"backend", "worker"}, {"backend": ""}, Effect.HALF_DONE),
    ],
    ids=["none", "all", "one is missing", "one is back in the old version", "both are", "one does not tell"],
)
def test_probe_of_start(start: Start, world: World, running: set[str], versions: dict[str, str], effect: Effect) -> None:
    world.versions = versions
    for name in running:
        world.services.start(name)

    assert start.probe().effect is effect


def test_a_service_in_the_right_version_that_keeps_restarting_is_not_done(start: Start, world: World) -> None:
    world.start_all()
    watched = watch(start, world)
    watched.up = lambda names: set(names) - {"worker"}  # type: ignore[method-assign]

    assert start.probe().effect is Effect.HALF_DONE
    assert [r.summary for r in not_passed(start.verify())] == ["not in the expected version: worker"]


def test_start_starts_in_the_order_of_the_plan(start: Start, world: World) -> None:
    watched = watch(start, world)

    assert start.apply() == {"running": {"backend": world.head, "worker": world.head}}
    assert watched.asked == ["start backend", "start worker"]
    assert not_passed(start.verify()) == []


def test_a_service_in_another_version_is_stopped_before_it_is_started(start: Start, world: World) -> None:
    world.versions["worker"] = OLD
    world.start_all()
    world.versions.clear()
    watched = watch(start, world)

    start.apply()

    assert "stop worker" in watched.asked
    assert "stop backend" not in watched.asked
    assert not_passed(start.verify()) == []


@pytest.mark.parametrize(
    ("version", "said"),
    [(OLD, f"it runs {OLD}, not 5eed5eed5eed"), ("", "does not report its version")],
    ids=["the old one", "none told"],
)
def test_a_service_that_never_comes_up_in_the_expected_version_fails(
    start: Start, world: World, version: str, said: str
) -> None:
    world.versions["backend"] = version

    with pytest.raises(StepFailed, match="backend did not start in the expected version") as error:
        start.apply()

    assert said in error.value.what
    assert (error.value.where, bool(error.value.state), bool(error.value.safe_next)) == ("service backend", True, True)


def test_a_service_that_does_not_start_is_an_error(start: Start, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name: str) -> list[str]:
        raise OSError("exit status 1")

    monkeypatch.setattr(world.services, "launch", fail)

    with pytest.raises(AdapterError, match="backend did not start"):
        start.apply()


@pytest.mark.parametrize(
    ("change", "wrong"),
    [
        (lambda w: w.versions.update(backend=OLD), "backend"),
        (lambda w: w.versions.update(backend=""), "backend"),
        (lambda w: w.services.stop("worker"), "worker"),
    ],
    ids=["the old version is back", "no version reported", "one is stopped"],
)
def test_start_is_not_verified(start: Start, world: World, change: Callable[[World], None], wrong: str) -> None:
    world.start_all()
    change(world)

    (result,) = start.verify()

    assert (result.status, result.summary) == (Status.FAIL, f"not in the expected version: {wrong}")


def test_undo_of_start_stops(start: Start, world: World) -> None:
    world.start_all()

    start.undo()

    assert world.services.running == {"frontend"}


@pytest.mark.parametrize(
    ("running", "effect"),
    [("sha256:0ld", Effect.DONE), ("sha256:0", Effect.NOT_DONE), ("sha256:new", Effect.NOT_DONE), ("", Effect.NOT_DONE)],
    ids=["the pinned image", "a part of its name", "another one", "none reported"],
)
def test_a_pinned_service_must_run_its_image_and_not_what_is_checked_out(
    start: Start, world: World, running: str, effect: Effect
) -> None:
    services = start.context.target.services
    pins = dict.fromkeys(["backend", "worker"], "sha256:0ld")
    told = {**services.versions, **dict.fromkeys(pins, VersionByManager(by="manager"))}
    changed = services.model_copy(update={"pinned": pins, "versions": told})
    start.context.target = start.context.target.model_copy(update={"services": changed})
    world.services.releases = dict.fromkeys(pins, running)
    world.start_all()

    assert start.probe().effect is effect
    assert start.preview().facts == {"versions": pins}


# --- restart


def test_restart_ends_in_the_expected_version(restart: Restart, world: World) -> None:
    world.versions["frontend"] = OLD
    world.start_all()
    world.versions.clear()
    watched = watch(restart, world)

    assert restart.apply() == {"running": {"frontend": world.head}}
    assert watched.asked == ["stop frontend", "start frontend"]
    assert not_passed(restart.verify()) == []


def test_restart_starts_what_is_stopped(restart: Restart, world: World) -> None:
    assert restart.apply() == {"running": {"frontend": world.head}}


def test_restart_stops_a_service_that_reports_the_expected_version(restart: Restart, world: World) -> None:
    world.start_all()
    watched = watch(restart, world)

    assert restart.probe().effect is Effect.NOT_DONE
    restart.apply()

    assert watched.asked == ["stop frontend", "start frontend"]


def test_a_restart_on_record_is_probed_by_the_version(restart: Restart, world: World) -> None:
    done = {"restart-frontend": StepState("restart-frontend", "Restart", "done")}
    restart.context.state = replace(restart.context.state, steps=done)
    world.start_all()
    assert restart.probe().effect is Effect.DONE

    world.versions["frontend"] = OLD
    assert restart.probe().effect is Effect.NOT_DONE


def test_undo_of_restart_restarts(restart: Restart, world: World) -> None:
    world.start_all()
    watched = watch(restart, world)

    assert restart.undo() == {"running": {"frontend": world.head}}
    assert watched.asked == ["stop frontend", "start frontend"]
