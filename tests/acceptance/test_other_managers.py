"""A whole rollback of the sample application where pm2 or docker compose manages it, on the real tools."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from runbook_lib.config.plan.steps import StepSpec
from runbook_lib.context.old_code import live_commits
from runbook_lib.documents import load_target
from runbook_lib.rehearsal.stack import Stack
from runbook_lib.run import Run, cleanup, engine, lifecycle
from runbook_lib.services import HasImages, Services, connect
from runbook_lib.steps.services import StartKeys, StopKeys
from runbook_lib.system.processes import LocalProcesses

from ..support.docker import Docker, an_engine, compose_plugin
from ..support.places import PLAN, TARGET
from ..support.pm2 import Pm2, pm2_command
from ..support.sample import application_programs

SERVICES = ("backend", "worker", "frontend")
LABEL = "org.opencontainers.image.revision"
OF_INTERPRETER = ["/usr", *filter(os.path.exists, ("/lib", "/lib64")), sys.base_prefix, sys.prefix]  # mounted read-only
DOCKERFILE = f"""
FROM contract/base
ARG REVISION
LABEL {LABEL}=$REVISION
WORKDIR /app
COPY . /app
"""
# The image's label must be the commit that was built: compose takes it from a file that the build leaves next to its result.
BUILD = """
import json, pathlib, subprocess, sys
subprocess.run([sys.executable, "build.py"], check=True)
head = subprocess.check_output(["git", "rev-parse", "HEAD"], text=True).strip()
services = {name: {"build": {"args": {"REVISION": head}}} for name in sys.argv[1:]}
pathlib.Path("dist/compose.json").write_text(json.dumps({"version": "2.4", "services": services}))
"""


def handed_over(running: Stack, file: Path, services: dict[str, Any], **builds: list[str]) -> Path:
    """The stack's services stopped under supervisord, and a target file in which something else manages them."""
    running.supervisor.stop(*SERVICES)
    described = yaml.safe_load(TARGET.read_text())
    common = {key: described["services"][key] for key in ("listens", "versions", "built_from")}
    described["services"] = {**common, "timeout": 60, "steady": 0.5, **services}
    for repository, command in builds.items():
        described["repositories"][repository]["build"] = command
    file.write_text(yaml.safe_dump(described))
    return file


def rolled_back(target: Path, outputs: Path) -> Run:
    """The full rollback through the step loop, to its verdict."""
    run = lifecycle.open_new(PLAN, target, "backend-and-database", operator="tester", reason="a test", outputs=outputs)
    try:
        run.prerequisites()
        run.look_before()
        run.approve(run.previews()[0], "tester")
        for name in run.steps:
            engine.apply(run, name)
        assert {r.name: r.summary for r in lifecycle.verify(run) if r.status != "PASS"} == {}
        assert lifecycle.close(run).status == "verified"
        assert {step.status for step in run.state.steps.values()} == {"done"}
        assert [live_commits(run.context, name) for name in run.context.plan.repositories] == [[], []]
    finally:
        run.close_adapters()
    return run


@pytest.fixture
def pm2(broken: Stack) -> Iterator[Pm2]:
    command = pm2_command()
    if command is None:
        pytest.skip("pm2 is not here; .ci/setup test installs it where npm is")
    made = Pm2(broken.root / "p", command)
    made.root.mkdir()
    apps = [
        {
            "name": program.name,
            "script": program.command[1],
            "args": program.command[2:],
            "interpreter": program.command[0],
            "cwd": str(program.directory),
            "env": dict(program.environment),
        }
        for program in application_programs(broken)
    ]
    (made.root / "ecosystem.json").write_text(json.dumps({"apps": apps}))
    try:
        yield made
    finally:
        made.end()


@pytest.mark.slow
def test_a_full_rollback_under_pm2_ends_verified(broken: Stack, pm2: Pm2, tmp_path: Path) -> None:
    services = {"manager": "pm2", "home": str(pm2.home), "command": [pm2.command]}
    target = handed_over(broken, tmp_path / "target.yaml", services)
    pm2("start", "ecosystem.json")
    before = {name: pm2.pids(name) for name in SERVICES}

    rolled_back(target, tmp_path)

    assert all(pm2.pids(name) not in (before[name], []) for name in SERVICES)


@pytest.fixture
def docker(broken: Stack) -> Iterator[Docker]:
    missing = [name for name in ("dockerd", "docker", "docker-compose", "busybox") if not shutil.which(name)]
    if missing or os.geteuid() != 0:
        pytest.skip(f"an engine needs root, and {', '.join(missing) or 'all else is here'}; .ci/setup test installs it")
    with an_engine() as made:
        yield made


def compose_files(running: Stack, docker: Docker) -> list[str]:
    """A compose project in which each service is an image of what its repository has built."""
    dockerfile = docker.project / "Dockerfile"
    dockerfile.write_text(DOCKERFILE)
    services = {
        program.name: {
            "build": {"context": str(program.directory), "dockerfile": str(dockerfile)},
            "command": program.command,
            "environment": dict(program.environment),
            "network_mode": "host",
            "restart": "always",
            "stop_grace_period": "1s",  # a worker that is process 1 does not hear a request to end
            "volumes": [
                f"{os.path.realpath(path)}:{path}:ro" for path in dict.fromkeys([*OF_INTERPRETER, str(running.root)])
            ],
        }
        for program in application_programs(running)
    }
    (docker.project / "compose.json").write_text(json.dumps({"version": "2.4", "services": services}))
    return ["compose.json", *(str(running.root / name / "dist" / "compose.json") for name in ("backend", "frontend"))]


def started(run: Run, kind: type[StepSpec]) -> dict[str, str]:
    """The images that the run's steps of a kind started, by service."""
    of_kind = [name for name, spec in run.context.specs.items() if isinstance(spec, kind)]
    return {k: v for name in of_kind for k, v in run.state.step(name).outcome.get("images", {}).items()}


def assert_started_without_a_build(run: Run, manager: Services, names: Iterable[str]) -> None:
    assert isinstance(manager, HasImages)
    assert started(run, StartKeys) == {name: manager.images.running(name) for name in names}


def assert_goes_back_without_a_build(run: Run, manager: Services, before: dict[str, str]) -> None:
    """Undone from the end, each service runs the image that ran before."""
    assert isinstance(manager, HasImages)
    for name in reversed(run.steps):
        if run.state.step(name).begun_here:
            engine.undo(run, name)

    assert {name: manager.version(name) for name in before} == before
    assert started(run, StopKeys).keys() == before.keys()
    assert "images" in run.state.pending
    digest, _ = cleanup.preview(run, "images")
    cleanup.clean_up(run, digest, digest, "images")
    assert manager.images.tags(f"runbook-{run.folder.short}") == []


@pytest.mark.slow
def test_under_docker_compose_a_full_rollback_ends_on_the_old_image(
    broken: Stack, docker: Docker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", str(docker.configuration(compose_plugin())))
    services = {
        "manager": "docker-compose",
        "directory": str(docker.project),
        "project": "sample",
        "host": docker.host,
        "files": compose_files(broken, docker),
        "versions": {name: {"by": "manager"} for name in SERVICES},
    }
    builds = {
        "backend": [sys.executable, "-c", BUILD, "backend", "worker"],
        "frontend": [sys.executable, "-c", BUILD, "frontend"],
    }
    file = handed_over(broken, tmp_path / "target.yaml", services, **builds)
    for repository, command in builds.items():
        subprocess.run(command, cwd=broken.root / repository, check=True)
    target = load_target(file)
    manager = connect(target.services, LocalProcesses())
    for name in SERVICES:
        manager.start(name)
    before = {name: manager.version(name) for name in SERVICES}

    run = rolled_back(file, tmp_path)

    heads = {name: run.context.checkout(name).head() for name in ("backend", "frontend")}
    after = {name: manager.version(name) for name in SERVICES}
    assert after == {"backend": heads["backend"], "worker": heads["backend"], "frontend": heads["frontend"]}
    assert set(after.values()).isdisjoint(before.values())
    told = httpx.get(f"{broken.environment['REHEARSAL_BACKEND_URL']}/health", trust_env=False).json()["version"]
    assert heads["backend"].startswith(told)
    (docker.project / "Dockerfile").write_text("FROM no/such")  # nothing can be built any more
    assert_started_without_a_build(run, manager, SERVICES)
    assert_goes_back_without_a_build(run, manager, before)
