"""Images that are built before downtime from another folder, kept under tags, and started without a build."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from runbook_lib.errors import AdapterError
from runbook_lib.services import HasImages, Images
from runbook_lib.services.docker import DockerServices

from ..support.docker import Docker, compose_plugin, revision
from ..support.managers import by_docker

OLD = "f" * 40
TAG = "runbook-test:web-ffffffffffff"


class Built:
    """A compose project whose folder is a checkout, and a scratch clone of an older version of it."""

    def __init__(self, docker: Docker, scratch: Path) -> None:
        self.docker, self.scratch = docker, scratch
        self.services = by_docker(docker)
        docker.deploy("2")
        for name in ("Dockerfile", "service.sh", "docker-compose.yml"):
            (scratch / name).write_text((docker.project / name).read_text())
        (scratch / "build").write_text("1")

    @property
    def images(self) -> Images:
        assert isinstance(self.services, HasImages)
        return self.services.images

    def build(self) -> str:
        self.images.build("web", TAG, {self.docker.project: self.scratch}, OLD, {"made-from": "x"}, 60)
        return self.images.id(TAG)

    def log(self) -> list[str]:
        return [line for line in self.services.logs("web", None) if "started in build" in line]


@pytest.fixture(params=["docker compose", pytest.param("docker-compose", marks=pytest.mark.older)])
def project(
    request: pytest.FixtureRequest, docker: Docker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Built]:
    plugin = compose_plugin() if request.param == "docker compose" else None
    if request.param == "docker compose" and not plugin:
        pytest.skip("the newer compose is not here; .ci/setup test installs it")
    monkeypatch.setenv("DOCKER_CONFIG", str(docker.configuration(plugin)))
    made = Built(docker, tmp_path)
    try:
        yield made
    finally:
        docker.clear()
        for tag in made.images.tags("runbook-test"):
            made.images.untag(tag)
        docker.deploy("1")


def not_to_be_built(project: Built) -> None:
    """Whatever builds from the checkout from now on fails."""
    (project.docker.project / "build").unlink()


def test_a_start_takes_the_image_built_beforehand_an_undo_the_former_one(project: Built) -> None:
    project.services.start("web")
    former, images = project.images.running("web"), project.images
    images.tag(former, f"{TAG}-before")
    old = project.build()
    assert (images.label(TAG, "org.opencontainers.image.revision"), images.label(TAG, "made-from")) == (OLD, "x")
    assert images.running("web") == former != old
    not_to_be_built(project)

    project.services.stop("web")
    project.services.start("web", restore={"web": {"image": old}})
    forth = project.log(), images.running("web"), project.services.version("web")
    project.services.stop("web")
    project.services.start("web", restore={"web": {"image": images.id(f"{TAG}-before")}})
    back = project.log(), images.running("web"), project.services.version("web")

    assert (forth[0][0].endswith("build 1"), *forth[1:]) == (True, old, OLD)
    assert (back[0][0].endswith("build 2"), *back[1:]) == (True, former, revision("2"))


@pytest.mark.newest
def test_what_compose_brings_up_later_is_what_the_rollback_brought_up(project: Built) -> None:
    project.services.start("web")
    old = project.build()
    project.services.stop("web")
    project.services.start("web", restore={"web": {"image": old, "instances": 2}})
    assert isinstance(project.services, DockerServices)

    project.services._compose(["docker-compose.yml"], "up", "--detach", "--no-build", "--force-recreate", "web").require()

    assert project.images.running("web") == old


def test_a_failed_build_is_reported_and_keeps_the_deployed_tag(project: Built) -> None:
    project.services.start("web")
    running = project.images.running("web")
    (project.scratch / "build").unlink()

    with pytest.raises(AdapterError, match="The image of web does not build"):
        project.build()

    assert (project.images.tags("runbook-test"), project.images.running("web")) == ([], running)


def test_a_build_holds_no_more_memory_than_it_may(project: Built) -> None:
    file, most = project.scratch / "docker-compose.yml", 64 * 1024**2
    model = json.loads(file.read_text())
    model["services"]["web"]["build"]["network"] = "none"
    file.write_text(json.dumps(model))
    with (project.scratch / "Dockerfile").open("a") as lines:
        lines.write(f"RUN grep -qx {most} /sys/fs/cgroup/memory.max /sys/fs/cgroup/memory/memory.limit_in_bytes\n")

    project.images.build("web", TAG, {project.docker.project: project.scratch}, OLD, {}, 60, most)
    assert project.images.id(TAG)
    (project.scratch / "build").write_text("3")  # so that nothing is taken from the cache
    with pytest.raises(AdapterError, match="within 34 MB of memory"):
        project.images.build("web", TAG, {project.docker.project: project.scratch}, OLD, {}, 60, most // 2)


def test_a_context_that_holds_more_than_the_old_code_is_refused(project: Built) -> None:
    inner = project.docker.project / "inner"
    inner.mkdir(exist_ok=True)

    with pytest.raises(AdapterError, match=r"which holds .*inner and more"):
        project.images.build("web", TAG, {inner: project.scratch}, OLD, {}, 60)


def test_images_of_others_are_not_built(project: Built) -> None:
    assert project.images.built(["web", "pinned", "nobody"]) == ["web"]


def test_tags_are_taken_off(project: Built) -> None:
    project.build()
    assert project.images.tags("runbook-test") == [TAG]

    project.images.untag(TAG)
    project.images.untag(TAG)

    assert (project.images.tags("runbook-test"), project.images.id(TAG)) == ([], "")
