"""Looks at what could keep services of docker compose from coming up again as they are. Read-only."""

import json
import secrets
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from runbook_lib import services
from runbook_lib.errors import AdapterError
from runbook_lib.results import Found, Status
from runbook_lib.services import compose_config, compose_pairs
from runbook_lib.services.compose_config import Made, Model, Now
from runbook_lib.system.processes import Completed, shown


@dataclass(frozen=True)
class Labelled:
    """A container of a service, with what its labels say of how it was made."""

    id: str
    service: str
    image: str
    made: Made


@dataclass(frozen=True)
class ComposeLook:
    """Looks at one compose project, with the commands of its manager."""

    docker: Callable[..., Completed]
    compose: Callable[..., Completed]  # with the compose files first; what it reads from `-` as `input`, another `project`
    files: Callable[[str], AbstractContextManager[Sequence[str]]]  # those of a service, the one with its pin included
    plain_files: Sequence[str]
    environment_files: Sequence[str]
    directory: Path
    pinned: Sequence[str]
    remote: bool  # whether the engine's files may be another machine's
    containers: Callable[[], Sequence[Labelled]]
    tried: dict[str, str]  # service -> the image of which a trial container was recreated

    def configuration(self, names: Sequence[str], *, code_changed: bool) -> Found:
        """Check whether the target's files and the variables here make the services that there are."""
        found = self.containers()
        answer = self.model(self.plain_files)
        if answer.exit_code != 0:
            return Status.FAIL, f"compose refuses the files, with the variables here: {_last_line(answer)}"
        model = model_of(answer)
        hashes = self.all_hashes(names, model, {one.service: one.id for one in reversed(found)})
        unlike = [one for one in found if one.service in names and one.made.hash not in hashes.get(one.service, ())]
        texts = self.texts() if unlike else None
        looks = []
        for one in unlike:
            service = model["services"].get(one.service)
            if service is None:
                files = one.made.files or "files that are not recorded"
                looks.append((Status.FAIL, f"{one.service}: the target's files do not have it; it was made from {files}"))
                continue
            now = Now(
                version=self.version,
                directory=self.directory,
                files=self.plain_files,
                environment_files=self.environment_files,
                counts_build=self.older and "build" in service,
                names_containers="volumes_from" in service,
            )
            keys = compose_config.differing(compose_config.environment(service), *self.environments(one))
            raw = None if texts is None else texts.get(one.service, {})
            lost = compose_config.missing(keys, raw, compose_config.unset(answer.errors))
            status, why = compose_config.verdict(one.made, now, keys, lost, code_changed=code_changed)
            looks.append((status, f"{one.service}: {why}"))
        there = sorted({one.service for one in found if one.service in names})
        return services.worst(looks or [(Status.PASS, f"the same: {', '.join(there) or 'none, as there is no container'}")])

    def sources(self, names: Sequence[str], *, code_changed: bool) -> Found:
        """Check whether the images and files that the services start from are still those that they started from."""
        found = [one for one in self.containers() if one.service in names]
        model = model_of(self.model(self.plain_files).require())["services"]
        looks = self._in_another_project({*names} - {one.service for one in found})
        for one in found:
            service = model.get(one.service, {})
            looks += [
                (
                    Status.FAIL,
                    f"{one.service}: it mounts {path}, which is gone: a start fails there, or makes an empty folder",
                )
                for path in self._mounted(one)
                if not path.exists()
            ]
            if service.get("pull_policy") == "always":
                why = "pull_policy: always has each start take what the registry has then: set it to missing"
                looks.append((Status.FAIL, f"{one.service}: {why}"))
            elif one.service not in self.pinned and "build" not in service and "image" in service and not code_changed:
                looks += self._image_moved(one, service["image"])
        return services.worst(looks) if looks else (Status.PASS, "they are there, and the same")

    def _in_another_project(self, names: Collection[str]) -> list[Found]:
        """Return the services without a container here that run in another project of the same folder."""
        project, service, folder = (f"com.docker.compose.{label}" for label in ("project", "service", "project.working_dir"))
        shown = f'{{{{.Label "{service}"}}}} {{{{.Label "{project}"}}}}'
        answer = self.docker("ps", "--filter", f"label={folder}={self.directory}", "--format", shown).require()
        found = [line.split() for line in answer.output.splitlines()]
        why = "it has no container in the target's project, and runs in project {}, of the same folder"
        return [(Status.FAIL, f"{name}: {why.format(other)}") for name, other in found if name in names]

    def _mounted(self, one: Labelled) -> list[Path]:
        if self.remote:
            return []
        answer = self.docker("inspect", "--type", "container", "--format", "{{json .Mounts}}", one.id).require()
        return [Path(mount["Source"]) for mount in json.loads(answer.output) if mount["Type"] == "bind"]

    def _image_moved(self, one: Labelled, name: str) -> list[Found]:
        answer = self.docker("image", "inspect", "--format", "{{.Id}}", name)
        if answer.exit_code:
            return [(Status.UNKNOWN, f"{one.service}: its image {name} is not here: a start pulls it, whatever it is then")]
        if (now := answer.output.strip()) == one.image:
            return []
        return [
            (
                Status.FAIL,
                f"{one.service}: {name} is the image {now} by now, and {one.image} is what runs: a start brings the other. "
                f"Pin what runs, or `docker tag {one.image} {name}`",
            )
        ]

    def recreate(self, names: Sequence[str]) -> Found:
        """Check whether this compose can recreate containers on this engine."""
        said, compose = self.docker("version", "--format", "{{.Server.Version}}").require().output.strip(), self.version
        numbers = [compose_pairs.version(text) for text in (compose, said)]
        if not all(numbers):
            return Status.UNKNOWN, f"compose says that it is {compose!r}, and the engine {said!r}"
        pair = compose_pairs.failing(*numbers)
        if pair and (not pair.several_networks or self.several_networks(names)):
            return Status.FAIL, (
                f"compose {compose} cannot recreate a container on engine {said}: {pair.error} ({pair.source}). "
                f"Before any downtime {pair.remedy}"
            )
        if error := self.trial(names):
            return Status.FAIL, (
                f"compose {compose} could not recreate a trial container on engine {said}: {error}. Before any downtime "
                "install another version of compose, and name it in the target (`services.compose`)"
            )
        done = f": it recreated a trial container of {', '.join(sorted(self.tried))}" if self.tried else ""
        return Status.PASS, f"compose {compose} on engine {said}{done}"

    def trial(self, names: Sequence[str]) -> str:
        """Why containers like those of the services cannot be recreated, "" if they can; tried once, until it succeeds.

        Changes the engine: for a moment it has containers of a project of their own, which are never started.
        """
        found = {one.service: one for one in self.containers() if one.service in names}
        images = {name: one.image for name, one in found.items()}
        if images.items() <= self.tried.items():
            return ""
        alike = {name: (one.image, self.networks_of(one.id)) for name, one in found.items()}
        text, project = json.dumps(compose_config.trial(alike)), f"runbook-trial-{secrets.token_hex(4)}"

        def run(*words: str) -> Completed:
            return self.compose(["-"], *words, input=text, project=project)

        try:
            for words in (["up", "--no-start"], ["up", "--no-start", "--force-recreate"]):
                if (answer := run(*words)).exit_code != 0:
                    return _last_line(answer)
        finally:
            run("down", "--volumes")
        self.tried.update(images)
        return ""

    def networks(self, names: Sequence[str]) -> Found:
        """Check whether compose will take the networks of the services for its own."""
        compared = compose_pairs.version(self.version) >= compose_pairs.LABELS_COMPARED
        if self.older:
            return Status.PASS, f"docker-compose {self.version} does not compare labels"
        model = model_of(self.model(self.plain_files).require())
        used = dict.fromkeys(key for name in names for key in model["services"].get(name, {}).get("networks") or [])
        looks = []
        for key in used:
            network = (model.get("networks") or {})[key]
            labels = self.labels_of_network(network["name"])
            external = bool(network.get("external"))
            looks.append(compose_config.network_found(key, network["name"], labels, external=external, compared=compared))
        return services.worst(looks) if looks else (Status.PASS, "they are on no network of compose")

    def several_networks(self, names: Sequence[str]) -> bool:
        """Check whether any of the services is on several networks."""
        found = model_of(self.model(self.plain_files).require())["services"]
        return any(len(found.get(name, {}).get("networks") or []) > 1 for name in names)

    @cached_property
    def version(self) -> str:
        """The version of compose."""
        return self.compose([], "version", "--short").require().output.strip().removeprefix("v")

    @property
    def older(self) -> bool:
        """Whether it is docker-compose 1."""
        return self.version.startswith("1.")

    @cached_property
    def profiles(self) -> list[str]:
        """The options by which services in profiles are part of the model; the older compose knows them by name."""
        if self.older:
            return []
        named = self.compose(self.plain_files, "config", "--profiles")
        return [word for profile in named.output.split() for word in ("--profile", profile)] if named.exit_code == 0 else []

    def model(self, files: Sequence[str], *options: str) -> Completed:
        """What compose says of its model of the files. Its output holds secrets: nothing of it may go into an error."""
        answer = self.compose(files, *self.profiles, "config", *options)
        return Completed(answer.command, answer.exit_code, answer.output if answer.exit_code == 0 else "", answer.errors, 0)

    def texts(self) -> dict[str, dict[str, str]] | None:
        """Return the variables of each service as the files have them; None where compose does not say."""
        answer = self.model(self.plain_files, "--no-interpolate")
        if answer.exit_code != 0:
            return None
        found = model_of(answer)["services"]
        return {name: {key: str(text) for key, text in (found[name].get("environment") or {}).items()} for name in found}

    def all_hashes(self, names: Sequence[str], model: Model, first: Mapping[str, str]) -> dict[str, set[str]]:
        """Return the hashes that compose gives services, as the files are and with the image that the target pins."""
        known = [name for name in names if name in model["services"]]
        found = self.hashes(known, self.plain_files, model, first)
        for name in filter(self.pinned.__contains__, known):
            with self.files(name) as files:
                found[name] |= self.hashes([name], files, model_of(self.model(files).require()), first)[name]
        return found

    def hashes(
        self, names: Sequence[str], files: Sequence[str], model: Model, first: Mapping[str, str]
    ) -> dict[str, set[str]]:
        """Return the hashes of services: the older compose's of its files, the newer one's of what `up` makes of them."""
        if not names:
            return {}
        if self.older:
            answer = self.compose(files, "config", "--hash", ",".join(names))
        else:
            resolved = json.dumps(compose_config.with_containers(model, first))
            answer = self.compose(["-"], *self.profiles, "config", "--hash", "*", input=resolved)
        pairs = [line.split() for line in answer.require().output.splitlines()]
        return {name: {number for service, number in pairs if service == name} for name in names}

    def environments(self, one: Labelled) -> tuple[dict[str, str], dict[str, str]]:
        """Return the variables of a container and of its image: secrets, to be compared and let go of."""
        container = self.docker("inspect", "--type", "container", "--format", "{{json .Config.Env}}", one.id)
        image = self.docker("image", "inspect", "--format", "{{json .Config.Env}}", one.image)
        with suppress(ValueError):
            if not container.exit_code and not image.exit_code:
                return _variables(container), _variables(image)
        raise AdapterError(f"The variables of a container of {one.service} cannot be read.")

    def networks_of(self, container: str) -> list[str]:
        """Return the names of the networks that a container is on."""
        asked = ("inspect", "--type", "container", "--format", "{{json .NetworkSettings.Networks}}", container)
        return list(json.loads(self.docker(*asked).require().output) or {})

    def labels_of_network(self, name: str) -> dict[str, str] | None:
        """Return the labels of a network, None where there is no such network."""
        answer = self.docker("network", "inspect", "--format", "{{json .Labels}}", name)
        if answer.exit_code and ("no such network" in answer.errors.lower() or "not found" in answer.errors.lower()):
            return None
        labels: dict[str, str] = json.loads(answer.require().output) or {}
        return labels


def _variables(answer: Completed) -> dict[str, str]:
    pairs: list[str] = json.loads(answer.output) or []
    return {key: value for key, _, value in (pair.partition("=") for pair in pairs)}


def model_of(answer: Completed) -> dict[str, Any]:
    """Return what `config` printed. Pure.

    Raises:
        AdapterError: It is no model.
    """
    with suppress(yaml.YAMLError):  # whose text would show what it read
        found = yaml.safe_load(answer.output)
        if isinstance(found, dict) and isinstance(found.get("services"), dict):
            return found
    raise AdapterError("compose printed no model of its files.", where=shown(answer.command))


def _last_line(answer: Completed) -> str:
    said = [line.strip() for line in answer.errors.splitlines() if line.strip()]
    return (said[-1] if said else f"exit code {answer.exit_code}").rstrip(".")
