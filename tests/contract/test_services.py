import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from runbook_lib import target
from runbook_lib.adapters.processes import LocalProcesses
from runbook_lib.adapters.services import MemoryServices, Services, connect
from runbook_lib.adapters.services.rpc import call
from runbook_lib.errors import AdapterError

from .contract_helpers import until
from .contract_supervisor import Supervisord, supervising

TIMEOUT = 20


@dataclass
class Managed:
    services: Services
    without_manager: Callable[[], Services]


@pytest.fixture(scope="module")
def supervisord() -> Iterator[Supervisord]:
    with supervising() as made:
        yield made


@pytest.fixture(params=["supervisor", "commands", "memory"])
def managed(request: pytest.FixtureRequest) -> Iterator[Managed]:
    if request.param == "memory":
        yield Managed(_memory(), lambda: _memory(reachable=False))
        return
    made: Supervisord = request.getfixturevalue("supervisord")
    describe = _by_socket if request.param == "supervisor" else _by_commands
    elsewhere = Supervisord(made.root / "elsewhere")
    elsewhere.root.mkdir(exist_ok=True)
    configuration = made.configuration.read_text().replace(str(made.socket), str(elsewhere.socket))
    elsewhere.configuration.write_text(configuration)
    yield Managed(connect(describe(made), LocalProcesses()), lambda: connect(describe(elsewhere), LocalProcesses()))
    call(made.socket, "stopAllProcesses")


@pytest.fixture
def services(managed: Managed) -> Services:
    return managed.services


def _memory(*, reachable: bool = True) -> MemoryServices:
    def launch(name: str) -> list[str]:
        if name == "broken":
            raise ChildProcessError("exit status 7")
        stamp = datetime.now(UTC).isoformat(timespec="milliseconds")
        return [f"{stamp} INFO {name} started", "  with a second line"]

    made = MemoryServices(["web", "worker", "slow", "stubborn", "broken"], launch)
    made.reachable = reachable
    return made


def _by_socket(made: Supervisord) -> target.SupervisorServices:
    return target.SupervisorServices(
        manager="supervisor", socket=str(made.socket), timeout=TIMEOUT, versions={}, built_from={}
    )


def _by_commands(made: Supervisord) -> target.CommandServices:
    control = f"{sys.executable} -m supervisor.supervisorctl -c {made.configuration}"
    running = f'said=$({control} status "$0"); case $? in 0|3) echo "$said" | grep RUNNING || true;; *) exit 1;; esac'
    return target.CommandServices(
        manager="commands",
        commands=target.Commands(
            running=["sh", "-c", running, "{service}"],
            stop=[*control.split(), "stop", "{service}"],
            start=[*control.split(), "start", "{service}"],
            logs=["sh", "-c", f'said=$({control} tail -1000000 "$0") && echo "$said"', "{service}"],
        ),
        directory=str(made.root),
        timeout=TIMEOUT,
        versions={},
        built_from={},
    )


def _start_and_hear(services: Services, name: str, since: datetime | None = None) -> None:
    services.start(name)
    until(lambda: any("second line" in line for line in services.logs(name, since)), f"{name} says that it started")


def test_a_service_that_was_not_started_does_not_run(services: Services) -> None:
    assert not services.is_running("web")


def test_a_started_service_runs(services: Services) -> None:
    services.start("web")
    assert services.is_running("web")


def test_a_stopped_service_does_not_run(services: Services) -> None:
    services.start("web")
    services.stop("web")
    assert not services.is_running("web")


def test_stopping_a_stopped_service_is_no_error(services: Services) -> None:
    services.stop("web")
    assert not services.is_running("web")


def test_starting_a_running_service_leaves_it_alone(services: Services) -> None:
    _start_and_hear(services, "web")
    before = services.logs("web", None)
    services.start("web")
    assert services.logs("web", None) == before


def test_stopping_one_service_leaves_another_alone(services: Services) -> None:
    services.start("web")
    services.start("worker")
    services.stop("web")
    assert services.is_running("worker")


@pytest.mark.parametrize("ask", ["is_running", "stop", "start"])
def test_an_unknown_service_is_an_error(services: Services, ask: str) -> None:
    with pytest.raises(AdapterError, match="nobody"):
        getattr(services, ask)("nobody")


def test_the_log_of_an_unknown_service_is_an_error(services: Services) -> None:
    with pytest.raises(AdapterError):
        services.logs("nobody", None)


@pytest.mark.parametrize("ask", ["is_running", "stop", "start"])
def test_without_its_manager_a_service_is_neither_running_nor_stopped(managed: Managed, ask: str) -> None:
    with pytest.raises(AdapterError, match=r"(?s)did not answer.*unknown"):
        getattr(managed.without_manager(), ask)("web")


def test_without_a_manager_there_is_no_log(managed: Managed) -> None:
    with pytest.raises(AdapterError):
        managed.without_manager().logs("web", None)


def test_a_service_that_takes_a_while_runs_once_it_is_started(services: Services) -> None:
    services.start("slow")
    assert services.is_running("slow")


def test_a_service_that_does_not_start_is_an_error(services: Services) -> None:
    with pytest.raises(AdapterError, match="broken"):
        services.start("broken")


def test_a_service_that_ignores_the_request_to_end_is_stopped_all_the_same(services: Services) -> None:
    _start_and_hear(services, "stubborn", datetime.now(UTC))
    services.stop("stubborn")
    assert not services.is_running("stubborn")


def test_the_log_holds_what_was_said_since_the_moment_and_nothing_before(services: Services) -> None:
    _start_and_hear(services, "web", datetime.now(UTC))
    services.stop("web")
    before = services.logs("web", None)
    last_stamp = datetime.fromisoformat(before[-2].split()[0])
    until(lambda: (datetime.now(UTC) - last_stamp).total_seconds() > 0.002, "the next millisecond")
    moment = datetime.now(UTC)
    _start_and_hear(services, "web", moment)
    assert services.logs("web", moment) == services.logs("web", None)[len(before) :]


def test_a_service_that_keeps_ending_and_restarting_is_stopped_for_good(supervisord: Supervisord) -> None:
    services = connect(_by_socket(supervisord), LocalProcesses())
    with suppress(AdapterError):
        services.start("flapping")
    services.stop("flapping")
    assert call(supervisord.socket, "getProcessInfo", "flapping")["statename"] == "STOPPED"


def test_a_log_of_errors_apart_is_read_too(supervisord: Supervisord) -> None:
    services = connect(_by_socket(supervisord), LocalProcesses())
    services.start("split")
    until(lambda: any("ERROR apart" in line for line in services.logs("split", None)), "the error is read")
    services.stop("split")


def test_lines_that_were_rotated_away_are_read_first(supervisord: Supervisord) -> None:
    services = connect(_by_socket(supervisord), LocalProcesses())
    _start_and_hear(services, "web", datetime.now(UTC))
    rotated = supervisord.root / "web.log.1"
    rotated.write_text("2026-01-01T00:00:00.000+00:00 INFO long ago\n")
    try:
        assert services.logs("web", None)[0].endswith("long ago")
    finally:
        rotated.unlink()
        services.stop("web")


def test_a_log_that_was_removed_is_an_error(supervisord: Supervisord) -> None:
    services = connect(_by_socket(supervisord), LocalProcesses())
    _start_and_hear(services, "stubborn", datetime.now(UTC))
    services.stop("stubborn")
    log, aside = supervisord.root / "stubborn.log", supervisord.root / "aside"
    log.rename(aside)
    try:
        with pytest.raises(AdapterError, match=r"stubborn cannot be read"):
            services.logs("stubborn", None)
    finally:
        aside.rename(log)


def test_a_command_that_cannot_tell_is_told_apart_from_a_stopped_service(tmp_path: Path) -> None:
    described = target.CommandServices(
        manager="commands",
        commands=target.Commands(running=["false"], stop=["true"], start=["true"], logs=["true"]),
        directory=str(tmp_path),
        timeout=1,
        versions={},
        built_from={},
    )
    with pytest.raises(AdapterError, match="unknown"):
        connect(described, LocalProcesses()).is_running("web")


def test_a_service_that_runs_on_after_its_stop_command_is_an_error(tmp_path: Path) -> None:
    described = target.CommandServices(
        manager="commands",
        commands=target.Commands(running=["echo", "yes"], stop=["true"], start=["true"], logs=["true"]),
        directory=str(tmp_path),
        timeout=1,
        versions={},
        built_from={},
    )
    with pytest.raises(AdapterError, match="web did not stop within 1 s"):
        connect(described, LocalProcesses()).stop("web")
