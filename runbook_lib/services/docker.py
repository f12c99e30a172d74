"""Services of a docker compose project."""

import json
import os
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property, partial
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, field_validator

from runbook_lib import services
from runbook_lib.config.plan.steps import Name
from runbook_lib.config.target import Command, ServicesTarget
from runbook_lib.errors import AdapterError
from runbook_lib.services import (
    NOTHING,
    Look,
    Marks,
    Restart,
    Restore,
    no_list,
    no_log,
    no_version,
    not_started,
    not_stopped,
    refused,
    unknown_service,
    unreachable,
)
from runbook_lib.services.compose_config import PIN, Made
from runbook_lib.services.compose_images import ComposeImages
from runbook_lib.services.compose_look import ComposeLook, Labelled
from runbook_lib.system import temporary
from runbook_lib.system.processes import Completed, Processes, shown, typed, until

COMPOSE = "com.docker.compose"
PROJECT, SERVICE = f"{COMPOSE}.project", f"{COMPOSE}.service"
MADE = ("config-hash", "version", "project.working_dir", "project.config_files", "project.environment_file")
STOPPED = {"created", "exited", "dead"}


FACTS = 10  # of a container, before how it was made


@dataclass(frozen=True)
class Container:
    """The inspected facts of a container, never its environment, which has secrets."""

    id: str
    service: str
    status: str
    exit_code: int
    restarts: int
    started: str
    image: str
    revision: str
    number: str | None = None  # among the instances of the service
    one_off: str | None = None  # "True" for one of `run`
    made: tuple[str, ...] = ("",) * len(MADE)

    @property
    def alive(self) -> bool:
        """Whether it runs, or the engine will run it again."""
        return self.status not in STOPPED


def listed(docker: Callable[..., Completed], project: str, revision_label: str) -> list[Container]:
    """Return the containers of a project, whoever made them. Read-only.

    Raises:
        AdapterError: The engine does not answer.
    """
    while True:
        ids = (
            docker("ps", "--all", "--quiet", "--no-trunc", "--filter", f"label={PROJECT}={project}").require().output.split()
        )
        if not ids:
            return []
        answer = docker("inspect", "--type", "container", "--format", _format(revision_label), *ids)
        if answer.exit_code == 0:
            return [_container(json.loads(line)) for line in answer.output.splitlines()]
        if "No such container" not in answer.errors:  # one that went between the two questions
            answer.require()


def _container(fields: Sequence[Any]) -> Container:
    known, made = fields[:FACTS], fields[FACTS:]
    return replace(Container(*known), made=tuple(label or "" for label in made)) if made else Container(*known)


def _format(revision_label: str) -> str:
    def label(name: str) -> str:
        return f"{{{{json (index .Config.Labels {json.dumps(name)})}}}}"

    def fact(name: str) -> str:
        return f"{{{{json .{name}}}}}"

    state = [fact(name) for name in ("State.Status", "State.ExitCode", "RestartCount", "State.StartedAt", "Image")]
    numbers = [label(f"{COMPOSE}.container-number"), label(f"{COMPOSE}.oneoff")]
    made = [label(f"{COMPOSE}.{name}") for name in MADE]
    return "[" + ",".join([fact("Id"), label(SERVICE), *state, label(revision_label), *numbers, *made]) + "]"


def instances(containers: Collection[Container]) -> dict[str, list[Container]]:
    """The containers of each instance of a service, without those of `run`: a new one may be next to the one it replaces."""
    found: dict[str, list[Container]] = {}
    for container in containers:
        if container.one_off != "True":
            found.setdefault(container.number or container.id, []).append(container)
    return found


JUST_ENDED = ("cannot update a stopped container", ": unknown")  # which the engine, or its runtime, still took for running
NEWER, OLDER = ["docker", "compose"], ["docker-compose"]


class DockerTarget(ServicesTarget):
    """Services of one docker compose project; each start makes a new container from the image."""

    manager: Literal["docker-compose"]
    directory: str
    """The folder of the compose files."""
    project: Name
    """The compose project."""
    files: Annotated[list[str], Field(min_length=1)] = ["docker-compose.yml"]
    """The compose files."""
    env_files: list[str] = []
    """What deploys give compose as `--env-file`, in order."""
    compose: Command | None = None
    """Else `docker compose`, or the older `docker-compose`, whichever is there."""
    host: str | None = None
    """The engine, where DOCKER_HOST does not name it."""
    revision_label: str = "org.opencontainers.image.revision"
    """Of the image: the commit that it was built from."""
    steady: Annotated[float, Field(ge=0)] = 2.0
    """Seconds that a service must stay up to count as started."""

    pins_are_reported_by_manager = True

    def tells_versions(self) -> bool:
        """Yes, by an image's label or digest. Pure."""
        return True

    @field_validator("pinned")
    @classmethod
    def _pins_cannot_move(cls, pinned: dict[str, str]) -> dict[str, str]:
        for name, image in pinned.items():
            if "sha256:" not in image:
                raise ValueError(
                    f"{name} is pinned to {image}, a tag, which may name another image by then; give its digest"
                )
        return pinned


class DockerServices:
    """Services of one docker compose project.

    What runs is read from the containers' labels, so that a container left over from an older compose file, or from
    `run`, is seen as well. Compose itself is asked only to build and to bring up; volumes are never removed.
    """

    Keys = DockerTarget

    def __init__(self, described: DockerTarget, processes: Processes) -> None:
        self._described = described
        self._processes = processes
        self._directory = Path(described.directory)
        self._steady = services.Steady(described.steady)
        self._tried: dict[str, str] = {}
        self._where = f"docker compose project {described.project} in {described.directory}"

    def all_running(self) -> set[str]:
        """See `Services.all_running`."""
        try:
            return {container.service for container in self._containers() if container.alive}
        except AdapterError as error:
            raise no_list(self._where, error.what.rstrip(".")) from None

    def is_running(self, name: str) -> bool:
        """See `Services.is_running`."""
        return bool(self._alive(name))

    def running_of(self, names: Collection[str]) -> set[str]:
        """See `Services.running_of`."""
        return {name for name, alive in self._each_alive(names).items() if alive}

    def up(self, names: Collection[str]) -> set[str]:
        """See `Services.up`; each instance that there was must run."""
        staying = self._steady.staying(lambda: self._each_alive(names))
        alive = {name for name, found in staying.items() if {container.status for container in found} == {"running"}}
        return {name for name, found in self._each_known(alive).items() if _all_alive(found)}

    def version(self, name: str) -> str:
        """See `Services.version`: the pinned image if it is what runs, else the label, else the digest."""
        images = {container.image: container.revision for container in self._alive(name)}
        if len(images) != 1:
            raise no_version(name, self._where, f"{len(images)} images of it run")
        [(image, revision)] = images.items()
        pin = self._described.pinned.get(name)
        if pin:
            return pin if self._image(pin) == image else image
        return revision or image

    def stop(self, *names: str) -> None:
        """See `Services.stop`; restart policies are taken off first, or a restart of the engine would bring one back."""
        found = {name: alive for name, alive in self._each_alive(names).items() if alive}
        if not found:
            return
        named, timeout = ", ".join(found), self._described.timeout
        ids = [container.id for alive in found.values() for container in alive]
        self._require(named, self._without_restarts(ids))
        try:
            answer = self._docker("stop", *ids)
        except AdapterError:
            raise not_stopped(named, self._where, timeout, "docker is still stopping it") from None
        self._require(named, answer)
        if not until(lambda: not self.running_of(found), timeout, services.INTERVAL):
            left = sorted(self.running_of(found))
            raise not_stopped(", ".join(left), self._where, timeout, "; ".join(map(self._states, left)))

    def stop_by_hand(self, names: Sequence[str]) -> list[str]:
        """See `Services.stop_by_hand`: restart policies off first, for the containers that there are by then."""
        lines = []
        for name in names:
            ids = f"$({self._typed([*self._composed(self._described.files), 'ps', '--quiet', name])})"
            lines += [f"{self._typed(['docker', *verb])} {ids}" for verb in (["update", "--restart=no"], ["stop"])]
        return lines

    def start_by_hand(self, names: Sequence[str], restore: Restore = NOTHING) -> list[str]:
        """See `Services.start_by_hand`; the image of a pinned service is named by a file that the first line writes."""
        lines = []
        for name in names:
            files, pinned = list(self._described.files), self._described.pinned.get(name)
            if pinned:
                files.append(f"pinned-{name}.json")
                made = json.dumps({"services": {name: {"image": pinned}}})
                lines.append(f"{typed(['printf', '%s', made], self._directory)} > {files[-1]}")
            number = restore.get(name, NOTHING).get("instances", 0)
            lines.append(self._typed([*self._composed(files), *_up(name, number, ["--no-build" if pinned else "--build"])]))
        return lines

    def _typed(self, command: list[str]) -> str:
        return typed(command, self._directory, {"DOCKER_HOST": self._described.host} if self._described.host else {})

    def looks(self, restart: Restart) -> list[Look]:
        """See `Services.looks`."""
        look, names = self._look(), list(restart.names)
        same = partial(look.configuration, names, code_changed=restart.code_changed)
        sources = partial(look.sources, code_changed=restart.code_changed)
        return [
            Look("configuration", "Compose files and variables make the services that run", same),
            Look("sources", "Images and mounted files are those that run", partial(sources, names)),
            Look("recreate", "This compose can recreate containers on this engine", partial(look.recreate, names)),
            Look("networks", "Compose takes the networks for its own", partial(look.networks, names)),
        ]

    def _look(self) -> ComposeLook:
        described = self._described

        def labelled() -> list[Labelled]:
            return [Labelled(c.id, c.service, c.image, Made(*c.made)) for c in self._containers() if c.one_off != "True"]

        return ComposeLook(
            docker=self._docker,
            compose=self._compose,
            files=self._files,
            plain_files=described.files,
            environment_files=described.env_files,
            directory=self._directory,
            pinned=list(described.pinned),
            remote=not (described.host or os.environ.get("DOCKER_HOST") or "unix:").startswith("unix:"),
            containers=labelled,
            tried=self._tried,
        )

    def to_restore(self, names: Collection[str]) -> Restore:
        """See `Services.to_restore`: the number of instances, which `--scale` may have set."""
        found = {name: len(instances(containers)) for name, containers in self._each_known(names).items()}
        return {name: {"instances": number} for name, number in found.items() if number}

    @cached_property
    def images(self) -> ComposeImages:
        """See `HasImages.images`."""

        def images_of(name: str) -> set[str]:
            return {container.image for container in self._each_known([name])[name] if container.one_off != "True"}

        described = self._described
        return ComposeImages(
            docker=self._docker,
            compose=self._compose,
            override=self._override,
            look=self._look(),
            directory=self._directory,
            files=described.files,
            project=described.project,
            revision_label=described.revision_label,
            images_of=images_of,
        )

    def start(self, *names: str, restore: Restore = NOTHING) -> None:
        """See `Services.start`: `up` of the image named or pinned, or of a new build, in new containers, no mere restart."""
        for name, found in self._each_known(names).items():
            if not _all_alive(found):
                known = restore.get(name, NOTHING)
                self._bring_up(name, known.get("instances", len(instances(found))), known.get("image", ""))
        up = self.up(names)
        for name in names:
            if name not in up:
                raise not_started(name, self._where, self._states(name))

    def _bring_up(self, name: str, number: int, image: str) -> None:
        build = ["--no-build"] if name in self._described.pinned else ["--build"]
        if image:
            build = self.images.use(name, image)
        with self._files(name) as files:
            answer = self._compose(files, *_up(name, number, build))
        if answer.exit_code != 0:
            raise not_started(name, self._where, _last_line(answer))
        if image and (others := {container.image for container in self._alive(name)} - {image}):
            raise not_started(name, self._where, f"it came up from the image {', '.join(others)}, not from {image}")

    def log_marks(self, names: Collection[str]) -> Marks:
        """See `Services.log_marks`: the engine times each line."""
        return {}

    def logs(self, name: str, since: datetime | None, mark: Mapping[str, Any] = NOTHING) -> list[str]:
        """See `Services.logs`: of the containers that are there now, by the engine's own stamps."""
        moment = ["--since", since.astimezone(UTC).isoformat().replace("+00:00", "Z")] if since else []
        lines: list[str] = []
        for container in self._each_known([name])[name]:
            answer = self._docker("logs", "--timestamps", *moment, container.id)
            if answer.exit_code != 0:
                raise no_log(name, self._where, _last_line(answer))
            lines += [*services.split_lines(answer.output), *services.split_lines(answer.errors)]
        return [line.partition(" ")[2] for line in sorted(lines, key=lambda line: line.partition(" ")[0])]

    def _without_restarts(self, ids: list[str]) -> Completed:
        """What docker said when the restart policy was taken off; where a container had just ended, it is asked again."""
        answers: list[Completed] = []

        def answered() -> bool:
            answers.append(self._docker("update", "--restart=no", *ids))
            return answers[-1].exit_code == 0 or not any(said in answers[-1].errors for said in JUST_ENDED)

        until(answered, self._described.timeout, services.INTERVAL)
        return answers[-1]

    def _alive(self, name: str) -> list[Container]:
        return self._each_alive([name])[name]

    def _each_alive(self, names: Collection[str]) -> dict[str, list[Container]]:
        return {name: [one for one in found if one.alive] for name, found in self._each_known(names).items()}

    def _each_known(self, names: Collection[str]) -> dict[str, list[Container]]:
        """Return the containers of services that the project knows, be they none."""
        try:
            containers = self._containers()
            found = {name: [one for one in containers if one.service == name] for name in names}
            unknown = [name for name in names if not found[name] and name not in self._services]
        except AdapterError as error:
            raise unreachable(", ".join(names), self._where, error.what.rstrip(".")) from None
        if unknown:
            raise unknown_service(unknown[0], self._where)
        return found

    @cached_property
    def _services(self) -> list[str]:
        return self._compose(self._described.files, "config", "--services").require().output.split()

    @cached_property
    def _composer(self) -> list[str]:
        if self._described.compose:
            return self._described.compose
        there = self._run([*NEWER, "version"]).exit_code == 0
        return NEWER if there else OLDER

    def _containers(self) -> list[Container]:
        return listed(self._docker, self._described.project, self._described.revision_label)

    def _image(self, reference: str) -> str:
        answer = self._docker("image", "inspect", "--format", "{{.Id}}", reference)
        return answer.output.strip() if answer.exit_code == 0 else ""

    @contextmanager
    def _files(self, name: str) -> Iterator[list[str]]:
        """Give the compose files, and one more for a pinned service that names its image."""
        files = self._described.files
        if name not in self._described.pinned:
            yield files
            return
        with self._override({name: {"image": self._described.pinned[name]}}) as pin:
            yield [*files, pin]

    @contextmanager
    def _override(self, changed: Mapping[str, Any]) -> Iterator[str]:
        """One more compose file, with what is changed of services."""
        first = yaml.safe_load((self._directory / self._described.files[0]).read_text(encoding="utf-8"))
        alike = {"version": first["version"]} if "version" in first else {}  # as the older compose wants all its files
        with tempfile.NamedTemporaryFile("w", prefix=PIN, suffix=".json", dir=temporary.root()) as file:
            json.dump({**alike, "services": changed}, file)
            file.flush()
            yield file.name

    def _compose(
        self,
        files: Sequence[str],
        *words: str,
        input: str | None = None,
        timeout: float | None = None,
        env: Mapping[str, str] = NOTHING,
        project: str = "",
    ) -> Completed:
        return self._run([*self._composed(files, project), *words], input, timeout, env)

    def _composed(self, files: Sequence[str], project: str = "") -> list[str]:
        """Return the beginning of a command of compose."""
        named = [word for file in files for word in ("--file", file)]
        variables = [word for file in self._described.env_files for word in ("--env-file", file)]
        return [*self._composer, "--project-name", project or self._described.project, *variables, *named]

    def _docker(self, *words: str) -> Completed:
        return self._run(["docker", *words])

    def _run(
        self,
        command: list[str],
        input: str | None = None,
        timeout: float | None = None,
        more_env: Mapping[str, str] = NOTHING,
    ) -> Completed:
        env = {**more_env, **({"DOCKER_HOST": self._described.host} if self._described.host else {})}
        timeout = timeout or self._described.timeout
        return self._processes.run(command, cwd=self._directory, timeout=timeout, env=env, input=input)

    def _require(self, name: str, answer: Completed) -> None:
        if answer.exit_code != 0:
            raise refused(name, shown(answer.command), _last_line(answer))

    def _states(self, name: str) -> str:
        found = self._each_known([name])[name]
        return "; ".join(f"{c.status}, exit code {c.exit_code}, restarted {c.restarts} times" for c in found)


def _up(name: str, number: int, build: Sequence[str]) -> list[str]:
    """Return what has compose bring a service up in new containers, in as many as the files say where `number` is 0."""
    scale = ["--scale", f"{name}={number}"] if number else []
    return ["up", "--detach", "--no-deps", "--force-recreate", *scale, *build, name]


def _all_alive(found: Collection[Container]) -> bool:
    """Check whether each instance runs, or the engine will run it again; of those that only `run` made, any."""
    of_service = instances(found)
    each = of_service.values() if of_service else [found]
    return all(any(container.alive for container in one) for one in each)


def _last_line(answer: Completed) -> str:
    said = [line.strip() for line in (answer.errors or answer.output).splitlines() if line.strip()]
    return (said[-1] if said else f"exit code {answer.exit_code}").rstrip(".")
