"""What holds for docker alone."""

import os
import signal
from contextlib import suppress
from pathlib import Path

import pytest

from runbook_lib.errors import AdapterError
from runbook_lib.services import Steady, connect
from runbook_lib.services.docker import DockerTarget
from runbook_lib.system.processes import ScriptedProcesses

from ..support.docker import Docker, compose_plugin, revision
from ..support.managers import COMMON, by_docker
from ..support.waiting import until


def test_docker_calls_a_container_of_no_compose_file_a_forgotten_worker(docker: Docker) -> None:
    services = by_docker(docker)
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
    services = by_docker(docker)
    try:
        services.start("restless")
        services.stop("restless")
        docker.end()
        docker.boot()
        assert Steady(0.6).staying(lambda: {"restless": not services.is_running("restless")})
    finally:
        docker.clear()


def test_docker_starts_a_stopped_service_with_its_own_restart_policy(docker: Docker) -> None:
    services = by_docker(docker)
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
def test_docker_starts_the_pinned_image_whatever_the_compose_file_names(
    docker: Docker, plugin: Path | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", str(docker.configuration(plugin)))
    unpinned = by_docker(docker)
    try:
        for build, tag in (("1", "old"), ("2", "newest")):
            docker.build(build, f"contract/pinned:{tag}")
        old = docker("image", "inspect", "--format", "{{.Id}}", "contract/pinned:old")
        unpinned.start("pinned")
        pinned = by_docker(docker, pinned={"pinned": old})
        assert pinned.version("pinned") != old
        pinned.stop("pinned")
        pinned.start("pinned")
        assert pinned.version("pinned") == old
        assert unpinned.version("pinned") == revision("1")
        built = by_docker(docker, pinned={"web": old})
        built.start("web")
        assert built.version("web") == old
    finally:
        docker.clear()


def test_docker_keeps_what_is_in_a_volume_through_stop_and_start(docker: Docker) -> None:
    services = by_docker(docker)
    try:
        services.start("web")
        docker("exec", *docker("ps", "--quiet").split(), "/bin/sh", "-c", "echo precious > /kept/file")
        services.stop("web")
        docker.deploy("3")
        services.start("web")
        assert docker("exec", *docker("ps", "--quiet").split(), "/bin/cat", "/kept/file") == "precious"
    finally:
        docker.clear()


def test_docker_removes_the_restart_policy_of_a_container_just_ended(tmp_path: Path) -> None:
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

    described = DockerTarget(
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

    described = DockerTarget(
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
