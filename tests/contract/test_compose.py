"""Compose as it is deployed: variables of the deployer's shell, several files, instances by --scale, networks."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import yaml

from runbook_lib.errors import AdapterError
from runbook_lib.results import Found, Status
from runbook_lib.services import Restart, Services
from runbook_lib.services.docker import DockerServices

from ..support.docker import Docker, compose_plugin
from ..support.managers import TIMEOUT, by_docker

LOOP = ["/bin/sh", "-c", "trap 'exit 0' TERM; while :; do sleep 1000 & wait $$!; done"]
SECRET = "canary-s3cret"


def service(**more: object) -> dict[str, object]:
    return {"image": "contract/base", "network_mode": "none", "command": LOOP, "stop_grace_period": "1s", **more}


SERVICES = {
    "backend": service(
        environment={"DATABASE_URL": "postgres://shop:${DB_PASSWORD}@db/shop", "MODE": "${MODE:-plain}"},
        env_file=["backend.env"],
    ),
    "worker": service(),
    "side": service(network_mode="service:backend"),
    "extra": service(profiles=["more"]),
    "built": service(image="contract/field", build={"context": ".", "args": {"REVISION": "${REVISION}"}}),
}
DEPLOYED = {"DB_PASSWORD": SECRET, "REVISION": "one"}


class Field:
    """A project as its pipeline deploys it, and the manager that the runbook has for it."""

    def __init__(self, docker: Docker, older: bool, monkeypatch: pytest.MonkeyPatch) -> None:
        self.docker, self.older, self.monkeypatch = docker, older, monkeypatch
        self.folder = docker.root / "field"
        self.folder.mkdir(exist_ok=True)
        (self.folder / "backend.env").write_text("TOKEN=$$canary\nPLAIN=one\n")
        (self.folder / "Dockerfile").write_text("FROM contract/base\nARG REVISION\nLABEL of=$REVISION\n")
        self.write("docker-compose.yml", SERVICES)
        self.set(DEPLOYED)

    def write(self, name: str, services: dict[str, object], **more: object) -> None:
        (self.folder / name).write_text(yaml.safe_dump({"version": "2.4", "services": services, **more}))

    def set(self, variables: dict[str, str]) -> None:
        for name in ("DB_PASSWORD", "MODE", "REVISION"):
            self.monkeypatch.delenv(name, raising=False)
        for name, value in variables.items():
            self.monkeypatch.setenv(name, value)

    def deploy(self, *words: str, files: tuple[str, ...] = ("docker-compose.yml",)) -> None:
        manager = self.manager(files=list(files))
        assert isinstance(manager, DockerServices)
        manager._compose(files, "up", *words).require()

    def manager(self, **more: object) -> Services:
        return by_docker(self.docker, TIMEOUT, directory=str(self.folder), project="field", **more)

    def found(self, names: list[str], suffix: str = "configuration", *, code_changed: bool = False, **more: object) -> Found:
        looks = self.manager(**more).looks(Restart(names, code_changed=code_changed))
        return next(look.find() for look in looks if look.suffix == suffix)

    def running(self, name: str) -> int:
        return len(self.docker.pids(name))


@pytest.fixture(params=["docker compose", pytest.param("docker-compose", marks=pytest.mark.older)])
def field(request: pytest.FixtureRequest, docker: Docker, monkeypatch: pytest.MonkeyPatch) -> Iterator[Field]:
    older = request.param == "docker-compose"
    plugin = None if older else compose_plugin()
    if not older and not plugin:
        pytest.skip("the newer compose is not here; .ci/setup test installs it")
    monkeypatch.setenv("DOCKER_CONFIG", str(docker.configuration(plugin)))
    try:
        yield Field(docker, older, monkeypatch)
    finally:
        docker.clear()
        for network in docker("network", "ls", "--quiet", "--filter", "name=field_").split():
            docker("network", "rm", network)


def test_a_difference_is_named_by_service_and_variable_without_its_value(field: Field) -> None:
    field.deploy("--detach", "backend", "worker", "side", "built")
    field.deploy("--detach", "extra")
    everything = ["backend", "worker", "side", "built", "extra"]
    assert field.found(everything) == (Status.PASS, "the same: backend, built, extra, side, worker")

    field.set({"REVISION": "one"})
    without_variable = field.found(everything)
    field.set({**DEPLOYED, "MODE": "other"})
    other_value = field.found(everything)
    field.set(DEPLOYED)
    (field.folder / "backend.env").write_text("TOKEN=$$canary\nPLAIN=two\n")
    other_file = field.found(everything)

    said = "backend: its environment differs: "
    assert without_variable == (Status.FAIL, f"{said}DATABASE_URL (DB_PASSWORD is not set here)")
    assert (other_value, other_file) == ((Status.FAIL, f"{said}MODE"), (Status.FAIL, f"{said}PLAIN"))
    assert "canary" not in f"{without_variable}{other_value}{other_file}"


@pytest.mark.newest
def test_other_files_than_the_deploy_had_are_named(field: Field) -> None:
    field.write("override.yml", {"worker": {"stop_signal": "SIGINT"}, "mailer": service()})
    (field.folder / "deploy.env").write_text("MODE=deployed\n")
    both = ("docker-compose.yml", "override.yml")
    field.deploy("--detach", "worker", "mailer", files=both)

    status, why = field.found(["worker", "mailer"])

    assert (status, "worker: it was made with files" in why, "override.yml" in why) == (Status.FAIL, True, True), why
    assert "mailer: the target's files do not have it" in why
    assert field.found(["worker", "mailer"], files=list(both))[0] is Status.PASS
    assert field.found(["worker", "mailer"], files=list(both), env_files=["deploy.env"])[0] is Status.PASS
    field.write("docker-compose.yml", {"worker": service(environment={"A": "${DB_PASSWORD:?must be set}"})})
    field.set({})
    refused = field.found(["worker"])
    assert (refused[0], "compose refuses the files" in refused[1]) == (Status.FAIL, True)


@pytest.mark.newest
def test_what_the_rollback_changes_does_not_count_a_lost_variable_does(field: Field) -> None:
    field.deploy("--detach", "backend", "built")
    field.docker("build", "--tag", "contract/field", "--build-arg", "REVISION=two", str(field.folder))
    field.set({**DEPLOYED, "REVISION": "two"})
    built = field.found(["backend", "built"], code_changed=True)
    changed = {**SERVICES, "backend": service(environment={"DATABASE_URL": "older", "OLD": "x"})}
    field.write("docker-compose.yml", changed)
    taken_back = field.found(["backend", "built"], code_changed=True)
    field.write("docker-compose.yml", SERVICES)
    field.set({})
    lost = field.found(["backend", "built"], code_changed=True)

    assert (built[0], taken_back[0]) == (Status.PASS, Status.PASS)
    assert lost == (Status.FAIL, "backend: its environment differs: DATABASE_URL (DB_PASSWORD is not set here)")


def test_images_and_files_that_a_start_would_not_find_again_are_named(field: Field) -> None:
    field.docker("tag", "contract/base", "contract/moving")
    (field.folder / "conf").write_text("")
    policy = {} if field.older else {"pull_policy": "always"}
    moving = {"moving": service(image="contract/moving"), "mounts": service(volumes=["./conf:/conf"])}
    field.write("docker-compose.yml", {**moving, "pulls": service()})
    field.deploy("--detach")
    names = ["moving", "mounts", "pulls"]
    before = field.found(names, "sources")
    (field.folder / "Dockerfile").write_text("FROM contract/base\nLABEL of=another\n")
    field.docker("build", "--tag", "contract/moving", str(field.folder))
    (field.folder / "conf").unlink()
    field.write("docker-compose.yml", {**moving, "pulls": service(**policy)})

    status, why = field.found(names, "sources")
    later = field.found(names, "sources", code_changed=True)
    field.docker("rmi", "contract/moving")

    assert before[0] is Status.PASS
    assert (status, "moving: contract/moving is the image sha256:" in why) == (Status.FAIL, True)
    assert f"mounts: it mounts {field.folder}/conf, which is gone" in why
    assert field.older or "pulls: pull_policy: always" in why
    assert (later[0], "moving" in later[1]) == (Status.FAIL, False)
    assert field.found(["moving"], "sources")[0] is Status.UNKNOWN


def test_a_service_that_runs_in_another_project_of_the_folder_is_named(field: Field) -> None:
    field.deploy("--detach", "worker")
    other = by_docker(field.docker, TIMEOUT, directory=str(field.folder), project="misspelt")

    [found] = [look.find() for look in other.looks(Restart(["worker"])) if look.suffix == "sources"]

    assert (found[0], "runs in project field, of the same folder" in found[1]) == (Status.FAIL, True)


@pytest.mark.newest
def test_a_pin_does_not_count(field: Field) -> None:
    image = field.docker("image", "inspect", "--format", "{{.Id}}", "contract/base")
    field.deploy("--detach", "worker")
    before = field.found(["worker"], pinned={"worker": image})
    pinned = field.manager(pinned={"worker": image})
    pinned.stop("worker")
    pinned.start("worker", restore=pinned.to_restore(["worker"]))

    assert (before[0], field.found(["worker"], pinned={"worker": image})[0]) == (Status.PASS, Status.PASS)


def test_a_build_of_the_older_compose_is_not_compared(field: Field) -> None:
    field.deploy("--detach", "built")
    field.set({**DEPLOYED, "REVISION": "two"})

    status, why = field.found(["built"])

    if field.older:
        assert (status, "counts image and build arguments" in why) == (Status.UNKNOWN, True)
    else:
        assert status is Status.PASS


def removed(docker: Docker) -> None:
    docker.clear()


def one_removed(docker: Docker) -> None:
    docker(
        "rm", "--force", docker("ps", "--all", "--quiet", "--filter", "label=com.docker.compose.service=worker").split()[0]
    )


@pytest.mark.parametrize("meanwhile", [lambda docker: None, removed, one_removed], ids=["kept", "pruned", "one is gone"])
def test_as_many_instances_come_up_as_there_were(field: Field, meanwhile: Callable[[Docker], None]) -> None:
    field.deploy("--detach", "--scale", "worker=3", "worker")
    manager = field.manager()
    restore = manager.to_restore(["worker"])
    manager.stop("worker")
    meanwhile(field.docker)
    manager.start("worker", restore=restore)

    assert (restore, field.running("worker"), manager.up(["worker"])) == ({"worker": {"instances": 3}}, 3, {"worker"})


def test_some_of_several_instances_are_not_up_and_a_start_adds_them(field: Field) -> None:
    field.deploy("--detach", "--scale", "worker=3", "worker")
    manager = field.manager()
    ids = field.docker("ps", "--quiet").split()
    field.docker("stop", *ids[:2])
    assert (manager.up(["worker"]), manager.is_running("worker")) == (set(), True)

    manager.start("worker")

    assert (manager.up(["worker"]), field.running("worker")) == ({"worker"}, 3)


def test_a_network_of_another_label_is_named_before_compose_refuses_it(field: Field) -> None:
    lone = {"lone": {"image": "contract/base", "command": LOOP}}
    field.write("net.yml", lone)
    field.docker("network", "create", "--label", "com.docker.compose.network=other", "field_default")
    status, why = field.found(["lone"], "networks", files=["net.yml"])
    refused = True
    with suppress(AdapterError):
        field.deploy("--no-start", "lone", files=("net.yml",))
        refused = False
    field.docker.clear()
    field.docker("network", "rm", "field_default")

    expected = (Status.PASS, False) if field.older else (Status.FAIL, True)
    assert (status, refused) == expected
    assert field.older or "label com.docker.compose.network 'other' where compose expects 'default'" in why
    assert field.found(["lone"], "networks", files=["net.yml"])[0] is Status.PASS
    if not field.older:
        field.write("net.yml", lone, networks={"default": {"external": True, "name": "field_away"}})
        assert field.found(["lone"], "networks", files=["net.yml"])[0] is Status.FAIL


@pytest.mark.newest
def test_whether_containers_can_be_recreated_is_tried(field: Field, tmp_path: Path) -> None:
    field.deploy("--detach", "worker")
    there, compose = field.docker("ps", "--all", "--quiet"), tmp_path / "compose"
    real = "docker-compose" if field.older else "docker compose"
    refusal = "*--force-recreate*) echo \"KeyError: 'ContainerConfig'\" >&2; exit 1"
    compose.write_text(f'#!/bin/sh\ncase "$*" in {refusal};; esac\nexec {real} "$@"\n')
    compose.chmod(0o755)

    status, why = field.found(["worker"], "recreate")
    assert (status, why.partition(": ")[2]) == (Status.PASS, "it recreated a trial container of worker")
    status, why = field.found(["worker"], "recreate", compose=[str(compose)])
    assert (status, "trial container on engine" in why, "'ContainerConfig'. Before" in why) == (Status.FAIL, True, True)
    assert field.docker("ps", "--all", "--quiet") == there
