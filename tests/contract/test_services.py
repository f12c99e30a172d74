"""One contract for every service manager, each of them real: supervisord, pm2, docker with either compose, and the twin."""

import os
import re
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache, partial

import pytest

from runbook_lib.errors import AdapterError
from runbook_lib.services import MemoryServices, Services, Steady, connect
from runbook_lib.services.commands import Commands, CommandsTarget
from runbook_lib.services.supervisor import call
from runbook_lib.system.processes import LocalProcesses

from ..support.docker import Docker, compose_plugin, revision
from ..support.managers import COMMON, TIMEOUT, by_docker, by_pm2, by_socket, start_and_hear
from ..support.pm2 import Pm2
from ..support.sheets import in_shell
from ..support.supervisor import Supervisord
from ..support.waiting import lives, until

STEADY = 10.0  # seconds in which even a slow machine gets as far as the crash, which is seen at once
OLDER = pytest.param("docker-compose", marks=pytest.mark.older)
MANAGERS = ["supervisor", "commands", "memory", "pm2", "docker compose", OLDER]


@dataclass
class Managed:
    """A manager, and what the tests do to it behind its back."""

    connect: Callable[..., Services]  # with `timeout` and `steady` in seconds
    without_manager: Callable[[], Services]
    deploy: Callable[[str], str]  # puts new code there; returns the version that a service started afterwards reports
    pids: Callable[[str], list[int]]
    tells_by_log: bool = False
    cannot_tell_restarts: bool = False  # a command line says that it runs, and no more
    soon: int = 5  # seconds after which a start or a stop that does not come about is given up

    def version(self, services: Services, name: str) -> str:
        if self.tells_by_log:
            found: list[str] = re.findall(r"in build (\w+)", "\n".join(services.logs(name, None)))
            return found[-1] if found else ""
        return services.version(name)

    def kill(self, name: str) -> None:
        """End its processes without the manager."""
        for pid in self.pids(name):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


@pytest.fixture(params=MANAGERS)
def managed(request: pytest.FixtureRequest) -> Iterator[Managed]:
    with ExitStack() as closing:
        match request.param:
            case "memory":
                yield _memory()
            case "pm2":
                yield _of_pm2(request.getfixturevalue("pm2"), closing)
            case "docker compose" | "docker-compose":
                yield _of_docker(request.getfixturevalue("docker"), request.param, closing)
            case _:
                yield _of_supervisord(request.getfixturevalue("supervisord"), request.param, closing)


@pytest.fixture
def services(managed: Managed) -> Services:
    return managed.connect()


def _memory() -> Managed:
    made = MemoryServices(
        ["web", "worker", "slow", "stubborn", "immortal", "broken", "crashing", "flapping", "restless"], _launched
    )
    made.immortal = {"immortal"}
    away = MemoryServices(made.lines)
    away.reachable = False

    def deploy(build: str) -> str:
        made.releases = dict.fromkeys(made.lines, build)
        return build

    return Managed(lambda **_: made, lambda: away, deploy, lambda name: [])


def _launched(name: str) -> list[str]:
    if name in ("broken", "crashing", "flapping"):
        raise ChildProcessError("exit status 7")
    stamp = datetime.now(UTC).isoformat(timespec="milliseconds")
    return [f"{stamp} INFO {name} started", "  with a second line"]


def _of_supervisord(made: Supervisord, manager: str, closing: ExitStack) -> Managed:
    describe = by_socket if manager == "supervisor" else _by_commands
    elsewhere = Supervisord(made.root / "elsewhere")
    elsewhere.root.mkdir(exist_ok=True)
    configuration = made.configuration.read_text().replace(str(made.socket), str(elsewhere.socket))
    elsewhere.configuration.write_text(configuration)

    def clear() -> None:
        for pid in made.pids("immortal"):
            os.kill(pid, signal.SIGKILL)
        until(lambda: not made.pids("immortal"), "supervisord notices that it ended")
        call(made.socket, "stopAllProcesses")

    def deploy(build: str) -> str:
        made.deploy(build)
        return build

    closing.callback(clear)
    return Managed(
        lambda timeout=TIMEOUT, steady=0: connect(describe(made, timeout), LocalProcesses()),
        lambda: connect(describe(elsewhere), LocalProcesses()),
        deploy,
        made.pids,
        tells_by_log=manager == "supervisor",
        cannot_tell_restarts=manager == "commands",
        soon=2,
    )


def _by_commands(made: Supervisord, timeout: int = TIMEOUT) -> CommandsTarget:
    control = f"{sys.executable} -m supervisor.supervisorctl -c {made.configuration}"
    status = [sys.executable, "-I", "-S", str(made.root / "status.py"), str(made.root)]
    return CommandsTarget(
        manager="commands",
        commands=Commands(
            list=status,
            running=[*status, "{service}"],
            stop=[*control.split(), "stop", "{service}"],
            start=[*control.split(), "start", "{service}"],
            logs=["cat", f"{made.root}/{{service}}.log"],
            version=["sed", "-n", "s/.* in build //p", f"{made.root}/{{service}}.log"],
        ),
        directory=str(made.root),
        timeout=timeout,
        **COMMON,
    )


def _of_pm2(made: Pm2, closing: ExitStack) -> Managed:
    def deploy(build: str) -> str:
        made.deploy(build)
        return f"{build}.0.0"

    closing.callback(made.clear)
    return Managed(partial(by_pm2, made), lambda: by_pm2(made, home=made.root / "elsewhere"), deploy, made.pids)


@cache
def _of_a_run(made: Docker, compose: str, timeout: int = TIMEOUT, steady: float = 0) -> Services:
    """One for all the tests, as for all the steps of a run: what compose knows, it is asked once."""
    return by_docker(made, timeout, steady)


def _of_docker(made: Docker, compose: str, closing: ExitStack) -> Managed:
    plugin = compose_plugin() if compose == "docker compose" else None
    if compose == "docker compose" and not plugin:
        pytest.skip("the newer compose is not here; .ci/setup test installs it")
    patched = closing.enter_context(pytest.MonkeyPatch.context())
    patched.setenv("DOCKER_CONFIG", str(made.configuration(plugin)))
    closing.callback(made.clear)

    def deploy(build: str) -> str:
        made.deploy(build)
        return revision(build)

    nobody = f"unix://{made.root}/nobody"
    return Managed(partial(_of_a_run, made, compose), lambda: by_docker(made, host=nobody), deploy, made.pids)


@pytest.mark.parametrize("managed", [each for each in MANAGERS if each != "memory"], indirect=True)
def test_what_a_person_types_stops_and_starts_it(managed: Managed, services: Services) -> None:
    services.start("web", "worker")
    restore = services.to_restore(["web", "worker"])
    for lines, running in (
        (services.stop_by_hand(["web", "worker"]), set()),
        (services.start_by_hand(["web"], restore), {"web"}),
    ):
        code, said = in_shell("set -e\n" + "\n".join(lines))
        assert code == 0, said
        assert services.running_of(["web", "worker"]) == running


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
    start_and_hear(services, "web")
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


@pytest.mark.parametrize("name", ["broken", "crashing", "flapping"])
def test_a_service_that_does_not_start_or_crashes_soon_is_an_error(managed: Managed, name: str) -> None:
    with pytest.raises(AdapterError, match=name):
        managed.connect(timeout=managed.soon, steady=STEADY).start(name)


@pytest.mark.newest
def test_a_service_that_keeps_ending_and_restarting_is_not_up(managed: Managed) -> None:
    services = managed.connect(steady=STEADY)
    with suppress(AdapterError):
        managed.connect(timeout=managed.soon).start("flapping")
    assert not services.up(["flapping"]) or managed.cannot_tell_restarts


def test_a_service_is_up_once_it_is_started_until_it_is_stopped(services: Services) -> None:
    services.start("web")
    services.start("worker")
    up = services.up(["web", "worker", "slow"])
    services.stop("web")
    assert (up, services.up(["web", "worker"])) == ({"web", "worker"}, {"worker"})


@pytest.mark.newest
def test_a_service_that_keeps_ending_and_restarting_is_stopped_for_good(managed: Managed) -> None:
    services = managed.connect()
    with suppress(AdapterError):
        managed.connect(timeout=managed.soon).start("flapping")
    services.stop("flapping")
    assert Steady(0.6).staying(lambda: {"flapping": not services.is_running("flapping")})


@pytest.mark.newest
def test_a_service_that_its_manager_brings_back_is_stopped_for_good(managed: Managed, services: Services) -> None:
    services.start("restless")
    before = managed.pids("restless")
    managed.kill("restless")
    until(lambda: not before or managed.pids("restless") not in (before, []), "it is brought back")
    services.stop("restless")
    assert Steady(0.6).staying(lambda: {"restless": not services.is_running("restless")})


@pytest.mark.newest
def test_a_service_that_ignores_the_request_to_end_is_stopped_all_the_same(services: Services) -> None:
    start_and_hear(services, "stubborn")
    services.stop("stubborn")
    assert not services.is_running("stubborn")


def test_a_service_that_does_not_stop_is_an_error_and_runs_on(managed: Managed, services: Services) -> None:
    start_and_hear(services, "immortal")
    with pytest.raises(AdapterError, match="immortal"):
        managed.connect(timeout=min(managed.soon, 3)).stop("immortal")
    assert services.is_running("immortal")


def test_a_stopped_service_leaves_no_process(managed: Managed, services: Services) -> None:
    services.start("web")
    pids = managed.pids("web")
    services.stop("web")
    assert not any(map(lives, pids))


@pytest.mark.newest
def test_several_services_are_stopped_at_once_and_others_run_on(services: Services) -> None:
    services.start("web", "worker", "slow")

    services.stop("web", "worker")

    assert services.running_of(["web", "worker", "slow"]) == {"slow"}
    services.stop("slow")


def test_where_one_of_several_services_is_unknown_none_is_stopped(services: Services) -> None:
    services.start("web")
    with pytest.raises(AdapterError, match="unheard-of"):
        services.stop("web", "unheard-of")
    assert services.is_running("web")
    services.stop("web")


def test_a_worker_that_nobody_named_is_seen(services: Services) -> None:
    services.start("web")
    services.start("worker")
    services.stop("web")
    assert services.all_running() == {"worker"}


def test_without_its_manager_nothing_is_taken_for_all_stopped(managed: Managed) -> None:
    with pytest.raises(AdapterError, match=r"(?s)did not answer.*unknown"):
        managed.without_manager().all_running()


def test_the_version_reported_is_the_one_that_runs_not_the_one_on_disk(managed: Managed, services: Services) -> None:
    before = managed.deploy("1")
    start_and_hear(services, "web")
    managed.deploy("2")
    assert managed.version(services, "web") == before


def test_a_restarted_service_runs_the_version_on_disk(managed: Managed, services: Services) -> None:
    managed.deploy("1")
    start_and_hear(services, "web")
    after = managed.deploy("2")
    services.stop("web")
    start_and_hear(services, "web")
    assert managed.version(services, "web") == after


def test_a_stopped_service_has_no_version(services: Services) -> None:
    with pytest.raises(AdapterError, match="does not report the running version of web"):
        services.version("web")


def test_the_log_holds_the_lines_since_the_moment_and_none_before(services: Services) -> None:
    start_and_hear(services, "web")
    services.stop("web")
    moment = datetime.now(UTC)
    until(lambda: (datetime.now(UTC) - moment).total_seconds() > 0.002, "the next millisecond")
    moment = datetime.now(UTC)
    start_and_hear(services, "web")
    assert sum("web started" in line for line in services.logs("web", moment)) == 1
