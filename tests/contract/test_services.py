"""One contract for every service manager, each of them real: supervisord, pm2, docker with either compose, and the twin."""

import json
import os
import re
import shutil
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache, partial
from pathlib import Path
from typing import Any

import pytest

from runbook_lib import target
from runbook_lib.adapters.processes import LocalProcesses, Processes, ScriptedProcesses
from runbook_lib.adapters.services import MemoryServices, Services, connect
from runbook_lib.adapters.services.rpc import call
from runbook_lib.adapters.services.steady import staying
from runbook_lib.errors import AdapterError

from .contract_docker import Docker, an_engine, compose_plugin, revision
from .contract_helpers import lives, until
from .contract_pm2 import CANARY, Pm2, a_pm2, pm2_command
from .contract_supervisor import Supervisord, supervising

TIMEOUT = 20
COMMON: dict[str, Any] = {"versions": {}, "built_from": {}}
OLDER = pytest.param("docker-compose", marks=pytest.mark.older)
MANAGERS = ["supervisor", "commands", "memory", "pm2", "docker compose", OLDER]


@dataclass
class Managed:
    """A manager, and what the tests do to it behind its back."""

    connect: Callable[..., Services]  # with `timeout` and `steady` in seconds
    without_manager: Callable[[], Services]
    deploy: Callable[[str], str]  # puts new code there; returns the version that a service started from then on tells
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


@pytest.fixture(scope="module")
def supervisord() -> Iterator[Supervisord]:
    with supervising() as made:
        yield made


@pytest.fixture(scope="module")
def pm2() -> Iterator[Pm2]:
    command = pm2_command()
    if command is None:
        pytest.skip("pm2 is not here; .ci/setup test installs it where npm is")
    with a_pm2(command) as made:
        yield made


@pytest.fixture(scope="module")
def docker() -> Iterator[Docker]:
    missing = [name for name in ("dockerd", "docker", "docker-compose", "busybox") if not shutil.which(name)]
    if missing or os.geteuid() != 0:
        pytest.skip(f"an engine needs root, and {', '.join(missing) or 'all else is here'}; .ci/setup test installs it")
    with an_engine() as made:
        yield made


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
    describe = _by_socket if manager == "supervisor" else _by_commands
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


def _by_socket(made: Supervisord, timeout: int = TIMEOUT) -> target.SupervisorServices:
    return target.SupervisorServices(manager="supervisor", socket=str(made.socket), timeout=timeout, **COMMON)


def _by_commands(made: Supervisord, timeout: int = TIMEOUT) -> target.CommandServices:
    control = f"{sys.executable} -m supervisor.supervisorctl -c {made.configuration}"
    status = [sys.executable, "-I", "-S", str(made.root / "status.py"), str(made.root)]
    return target.CommandServices(
        manager="commands",
        commands=target.Commands(
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


def _by_pm2(made: Pm2, processes: Processes | None = None, home: Path | None = None, **patience: Any) -> Services:
    settings = {"timeout": TIMEOUT, "steady": 0, **COMMON, **patience}
    described = target.Pm2Services(manager="pm2", home=str(home or made.home), command=[made.command], **settings)
    return connect(described, processes or LocalProcesses())


def _of_pm2(made: Pm2, closing: ExitStack) -> Managed:
    def deploy(build: str) -> str:
        made.deploy(build)
        return f"{build}.0.0"

    closing.callback(made.clear)
    return Managed(partial(_by_pm2, made), lambda: _by_pm2(made, home=made.root / "elsewhere"), deploy, made.pids)


def _by_docker(made: Docker, timeout: int = TIMEOUT, steady: float = 0, **more: Any) -> Services:
    settings = {"host": made.host, **COMMON, **more}
    described = target.DockerServices(
        manager="docker-compose", directory=str(made.project), project="contract", timeout=timeout, steady=steady, **settings
    )
    return connect(described, LocalProcesses())


@cache
def _of_a_run(made: Docker, compose: str, timeout: int = TIMEOUT, steady: float = 0) -> Services:
    """One for all the tests, as for all the steps of a run: what compose knows, it is asked once."""
    return _by_docker(made, timeout, steady)


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
    return Managed(partial(_of_a_run, made, compose), lambda: _by_docker(made, host=nobody), deploy, made.pids)


def _start_and_hear(services: Services, name: str) -> None:
    moment = datetime.now(UTC)
    services.start(name)
    until(lambda: any("second line" in line for line in services.logs(name, moment)), f"{name} says that it started")


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


@pytest.mark.parametrize("name", ["broken", "crashing", "flapping"])
def test_a_service_that_does_not_start_or_crashes_after_its_start_is_an_error(managed: Managed, name: str) -> None:
    with pytest.raises(AdapterError, match=name):
        managed.connect(timeout=managed.soon, steady=1.0).start(name)


def test_a_service_that_keeps_ending_and_restarting_is_not_up(managed: Managed) -> None:
    services = managed.connect(timeout=managed.soon, steady=1.0)
    with suppress(AdapterError):
        managed.connect(timeout=1).start("flapping")
    assert not services.up(["flapping"]) or managed.cannot_tell_restarts


def test_a_service_is_up_once_it_is_started_until_it_is_stopped(services: Services) -> None:
    services.start("web")
    services.start("worker")
    up = services.up(["web", "worker", "slow"])
    services.stop("web")
    assert (up, services.up(["web", "worker"])) == ({"web", "worker"}, {"worker"})


def test_a_service_that_keeps_ending_and_restarting_is_stopped_for_good(managed: Managed) -> None:
    services = managed.connect(timeout=managed.soon)
    with suppress(AdapterError):
        services.start("flapping")
    services.stop("flapping")
    assert staying(lambda: {"flapping": not services.is_running("flapping")}, 0.6)


def test_a_service_that_its_manager_brings_back_is_stopped_for_good(managed: Managed, services: Services) -> None:
    services.start("restless")
    before = managed.pids("restless")
    managed.kill("restless")
    until(lambda: not before or managed.pids("restless") not in (before, []), "it is brought back")
    services.stop("restless")
    assert staying(lambda: {"restless": not services.is_running("restless")}, 0.6)


def test_a_service_that_ignores_the_request_to_end_is_stopped_all_the_same(services: Services) -> None:
    _start_and_hear(services, "stubborn")
    services.stop("stubborn")
    assert not services.is_running("stubborn")


def test_a_service_that_does_not_stop_is_an_error_and_runs_on(managed: Managed, services: Services) -> None:
    _start_and_hear(services, "immortal")
    with pytest.raises(AdapterError, match="immortal"):
        managed.connect(timeout=min(managed.soon, 3)).stop("immortal")
    assert services.is_running("immortal")


def test_a_stopped_service_leaves_no_process(managed: Managed, services: Services) -> None:
    services.start("web")
    pids = managed.pids("web")
    services.stop("web")
    assert not any(map(lives, pids))


def test_a_worker_that_nobody_named_is_seen(services: Services) -> None:
    services.start("web")
    services.start("worker")
    services.stop("web")
    assert services.all_running() == {"worker"}


def test_without_its_manager_nothing_is_taken_for_all_stopped(managed: Managed) -> None:
    with pytest.raises(AdapterError, match=r"(?s)did not answer.*unknown"):
        managed.without_manager().all_running()


def test_the_version_told_is_the_one_that_runs_and_not_the_one_that_lies_there(managed: Managed, services: Services) -> None:
    before = managed.deploy("1")
    _start_and_hear(services, "web")
    managed.deploy("2")
    assert managed.version(services, "web") == before


def test_a_service_started_again_runs_the_version_that_lies_there_now(managed: Managed, services: Services) -> None:
    managed.deploy("1")
    _start_and_hear(services, "web")
    after = managed.deploy("2")
    services.stop("web")
    _start_and_hear(services, "web")
    assert managed.version(services, "web") == after


def test_a_stopped_service_tells_no_version(services: Services) -> None:
    with pytest.raises(AdapterError, match="which version of web runs"):
        services.version("web")


def test_the_log_holds_what_was_said_since_the_moment_and_nothing_before(services: Services) -> None:
    _start_and_hear(services, "web")
    services.stop("web")
    moment = datetime.now(UTC)
    until(lambda: (datetime.now(UTC) - moment).total_seconds() > 0.002, "the next millisecond")
    moment = datetime.now(UTC)
    _start_and_hear(services, "web")
    assert sum("web started" in line for line in services.logs("web", moment)) == 1


def test_docker_takes_a_container_that_no_compose_file_names_for_a_forgotten_worker(docker: Docker) -> None:
    services = _by_docker(docker)
    labels = ["--label", "com.docker.compose.project=contract", "--label", "com.docker.compose.service=old-worker"]
    for _ in range(2):
        docker("run", "--detach", "--network", "none", "--stop-timeout", "1", *labels, "contract/base", "/bin/sleep", "1000")
    try:
        assert services.all_running() == {"old-worker"}
        services.stop("old-worker")
        assert services.all_running() == set()
    finally:
        docker.clear()


def test_docker_stays_stopped_when_the_engine_starts_again(docker: Docker) -> None:
    services = _by_docker(docker)
    try:
        services.start("restless")
        services.stop("restless")
        docker.end()
        docker.boot()
        assert staying(lambda: {"restless": not services.is_running("restless")}, 0.6)
    finally:
        docker.clear()


def test_docker_starts_a_stopped_service_with_its_own_restart_policy(docker: Docker) -> None:
    services = _by_docker(docker)
    try:
        for _ in range(2):
            services.start("restless")
            (pid,) = docker.pids("restless")
            os.kill(pid, signal.SIGKILL)
            until(lambda gone=pid: docker.pids("restless") not in ([gone], [], [0]), "it is brought back")
            services.stop("restless")
    finally:
        docker.clear()


@pytest.mark.parametrize("plugin", [compose_plugin(), None], ids=["docker compose", "docker-compose"])
def test_docker_brings_the_pinned_image_up_whatever_the_compose_file_names_by_now(
    docker: Docker, plugin: Path | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", str(docker.configuration(plugin)))
    unpinned = _by_docker(docker)
    try:
        for build, tag in (("1", "old"), ("2", "newest")):
            docker.build(build, f"contract/pinned:{tag}")
        old = docker("image", "inspect", "--format", "{{.Id}}", "contract/pinned:old")
        unpinned.start("pinned")
        pinned = _by_docker(docker, pinned={"pinned": old})
        assert pinned.version("pinned") != old
        pinned.stop("pinned")
        pinned.start("pinned")
        assert pinned.version("pinned") == old
        assert unpinned.version("pinned") == revision("1")
        built = _by_docker(docker, pinned={"web": old})
        built.start("web")
        assert built.version("web") == old
    finally:
        docker.clear()


def test_docker_keeps_what_is_in_a_volume_through_stop_and_start(docker: Docker) -> None:
    services = _by_docker(docker)
    try:
        services.start("web")
        docker("exec", *docker("ps", "--quiet").split(), "/bin/sh", "-c", "echo precious > /kept/file")
        services.stop("web")
        docker.deploy("3")
        services.start("web")
        assert docker("exec", *docker("ps", "--quiet").split(), "/bin/cat", "/kept/file") == "precious"
    finally:
        docker.clear()


def test_docker_takes_the_restart_policy_off_a_container_that_had_just_ended(tmp_path: Path) -> None:
    ended = (1, "", "Error response from daemon: Cannot update container a: cannot update a stopped container: unknown")
    updates = iter([ended, (0, "a", "")])
    stopped: list[str] = []

    def answer(command: tuple[str, ...]) -> tuple[int, str, str]:
        match command[1]:
            case "ps":
                return 0, "" if stopped else "a", ""
            case "inspect":
                return 0, '["a","web","restarting",1,4,"now","sha256:1","1"]', ""
            case "update":
                return next(updates)
            case verb:
                stopped.append(verb)
                return 0, "web", ""

    described = target.DockerServices(
        manager="docker-compose", directory=str(tmp_path), project="contract", timeout=5, steady=0, **COMMON
    )
    connect(described, ScriptedProcesses(answer)).stop("web")
    assert (list(updates), stopped[0]) == ([], "stop")


@pytest.mark.parametrize("composed", [["docker", "compose"], ["docker-compose"]], ids=["plugin", "older"])
def test_docker_commands_never_remove_and_never_merely_restart(tmp_path: Path, composed: list[str]) -> None:
    asked: list[tuple[str, ...]] = []

    def answer(command: tuple[str, ...]) -> tuple[int, str, str]:
        asked.append(command)
        if command == ("docker", "compose", "version") and composed != ["docker", "compose"]:
            return 1, "", "unknown command"
        up = sum(words[0] in command and "up" in command for words in (composed,) for command in asked)
        if command[:2] == ("docker", "ps"):
            return 0, "a-container" if up else "", ""
        if command[:2] == ("docker", "inspect"):
            return 0, '["a-container","web","running",0,0,"now","sha256:1","1"]', ""
        return 0, "web", ""

    described = target.DockerServices(
        manager="docker-compose", directory=str(tmp_path), project="contract", timeout=1, steady=0, **COMMON
    )
    services = connect(described, ScriptedProcesses(answer))
    services.start("web")
    with suppress(AdapterError):
        services.stop("web")
    ups = [command for command in asked if "up" in command]
    assert [command[: len(composed)] for command in ups] == [tuple(composed)]
    assert {"--force-recreate", "--build", "--no-deps"} <= set(ups[0])
    assert not {word for command in asked for word in command} & {"down", "rm", "-v", "--volumes", "prune", "restart", "-V"}


def test_pm2_refuses_a_process_that_it_starts_by_the_clock_even_when_stopped(pm2: Pm2) -> None:
    pm2("start", "service.js", "--name", "by-the-clock", "--cron-restart", "* * * * * *", "--", "web")
    try:
        with pytest.raises(AdapterError, match="cron_restart"):
            _by_pm2(pm2).stop("by-the-clock")
    finally:
        pm2("delete", "by-the-clock")


def test_pm2_never_launches_a_file_or_all_by_the_name_of_a_service(pm2: Pm2) -> None:
    (pm2.root / "file").write_text("")
    services = _by_pm2(pm2)
    for name in ("file", "all", "0"):
        with pytest.raises(AdapterError, match="knows no service"):
            services.start(name)
    assert services.all_running() == set()


def test_pm2_stops_a_service_called_all_and_no_other(pm2: Pm2) -> None:
    pm2("start", "service.js", "--name", "all", "--", "web")
    number = str(pm2.entry("all")["pm_id"])
    services = _by_pm2(pm2)
    try:
        services.start("web")
        services.stop("all")
        assert services.all_running() == {"web"}
    finally:
        pm2("delete", number)
        pm2.clear()


def test_pm2_starts_with_the_environment_that_it_has_and_not_with_the_operators(
    pm2: Pm2, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OF_THE_OPERATOR", "hello")
    services = _by_pm2(pm2)
    services.start("web")
    try:
        environment = Path(f"/proc/{pm2.pids('web')[0]}/environ").read_text()
        assert ("SECRET_OF_SERVICE" in environment, "OF_THE_OPERATOR" in environment) == (True, False)
    finally:
        services.stop("web")


@pytest.mark.parametrize("output", ["as it is", "cut", "another shape", "a failure"])
def test_pm2_lets_no_secret_of_an_environment_out(pm2: Pm2, output: str, caplog: pytest.LogCaptureFixture) -> None:
    listed = pm2("jlist").splitlines()[-1]
    assert CANARY in listed
    shapes = {
        "as it is": (0, listed, listed),
        "cut": (0, listed[:-5], ""),
        "another shape": (0, json.dumps([{"name": CANARY, "pm2_env": {"env": CANARY}}]), CANARY),
        "a failure": (1, listed, listed),
    }
    services = _by_pm2(pm2, ScriptedProcesses(lambda command: shapes[output] if command[-1] == "jlist" else (1, "", CANARY)))
    said = [caplog.text]
    for ask in ("is_running", "stop", "start", "version", "all_running"):
        try:
            said.append(repr(getattr(services, ask)(*(["web"] if ask != "all_running" else []))))
        except AdapterError as error:
            said.append("".join(traceback.format_exception(error)))
    assert len(said) == 6
    assert CANARY not in "".join(said) + repr(vars(services))


def test_supervisor_starts_a_service_that_is_still_being_stopped_once_it_has_ended(supervisord: Supervisord) -> None:
    services = connect(_by_socket(supervisord), LocalProcesses())
    services.start("stubborn")
    before = supervisord.pids("stubborn")
    call(supervisord.socket, "stopProcess", "stubborn", False)
    try:
        services.start("stubborn")

        assert services.is_running("stubborn")
        assert supervisord.pids("stubborn") != before
    finally:
        services.stop("stubborn")


def test_a_log_of_errors_apart_is_read_too(supervisord: Supervisord) -> None:
    services = connect(_by_socket(supervisord), LocalProcesses())
    services.start("split")
    until(lambda: any("ERROR apart" in line for line in services.logs("split", None)), "the error is read")
    services.stop("split")


def test_lines_that_were_rotated_away_are_read_first(supervisord: Supervisord) -> None:
    services = connect(_by_socket(supervisord), LocalProcesses())
    _start_and_hear(services, "web")
    rotated = supervisord.root / "web.log.1"
    rotated.write_text("2026-01-01T00:00:00.000+00:00 INFO long ago\n")
    try:
        assert services.logs("web", None)[0].endswith("long ago")
    finally:
        rotated.unlink()
        services.stop("web")


def test_a_log_that_was_removed_is_an_error(supervisord: Supervisord) -> None:
    services = connect(_by_socket(supervisord), LocalProcesses())
    _start_and_hear(services, "stubborn")
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
        commands=target.Commands(list=["true"], running=["false"], stop=["true"], start=["true"], logs=["true"]),
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
        commands=target.Commands(list=["true"], running=["echo", "yes"], stop=["true"], start=["true"], logs=["true"]),
        directory=str(tmp_path),
        timeout=1,
        versions={},
        built_from={},
    )
    with pytest.raises(AdapterError, match="web did not stop within 1 s"):
        connect(described, LocalProcesses()).stop("web")
