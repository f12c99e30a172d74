"""The images that docker compose builds: built beforehand from other folders, kept under tags, and used as they are."""

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runbook_lib.errors import AdapterError
from runbook_lib.services.compose_look import ComposeLook, model_of
from runbook_lib.system.machine import megabytes
from runbook_lib.system.processes import Completed, shown

LAST = 10  # lines of what a build said, in an error


@dataclass(frozen=True)
class ComposeImages:
    """The images of one compose project, with the commands of its manager."""

    docker: Callable[..., Completed]
    compose: Callable[..., Completed]  # with the compose files first
    override: Callable[[Mapping[str, Any]], AbstractContextManager[str]]  # one more compose file, of these services
    look: ComposeLook
    directory: Path
    files: Sequence[str]
    project: str
    revision_label: str
    images_of: Callable[[str], Collection[str]]  # the images of a service's containers

    def built(self, names: Collection[str]) -> list[str]:
        """See `Images.built`."""
        services = self._services(self.files)
        return [name for name in names if services.get(name, {}).get("build")]

    def id(self, reference: str) -> str:
        """See `Images.id`."""
        return self._inspected(reference, "{{.Id}}")

    def label(self, reference: str, name: str) -> str:
        """See `Images.label`."""
        return self._inspected(reference, f'{{{{index .Config.Labels "{name}"}}}}')

    def running(self, name: str) -> str:
        """See `Images.running`."""
        found = set(self.images_of(name))
        return found.pop() if len(found) == 1 else ""

    def build(
        self,
        name: str,
        tag: str,
        folders: Mapping[Path, Path],
        commit: str,
        labels: Mapping[str, str],
        timeout: float,
        memory: int | None = None,
    ) -> None:
        """See `Images.build`."""
        files = [str(_moved(self.directory / file, folders, missing_stays=True)) for file in self.files]
        own = ["--project-directory", str((self.directory / self.files[0]).parent)]
        build = self._services(files, *own)[name]["build"]
        build = {"context": build} if isinstance(build, str) else build
        own_labels = {self.revision_label: commit, **labels}
        changed: dict[str, Any] = {"context": _context(name, build["context"], folders), "labels": own_labels}
        if others := build.get("additional_contexts"):
            changed["additional_contexts"] = {key: _context(name, value, folders) for key, value in others.items()}
        if (dockerfile := Path(build.get("dockerfile") or "")).is_absolute():
            changed["dockerfile"] = str(_moved(dockerfile, folders))
        with self.override({name: {"image": tag, "build": changed}}) as file:
            limit = ["--memory", str(memory)] if memory else []
            classic = {"DOCKER_BUILDKIT": "0"} if memory else {}  # BuildKit knows no limit
            answer = self.compose([*files, file], *own, "build", *limit, name, timeout=timeout, env=classic)
        if answer.exit_code != 0:
            said = [line.rstrip() for line in (answer.errors or answer.output).splitlines() if line.strip()][-LAST:]
            held = f" by the engine's classic builder, within {megabytes(memory)} of memory" if memory else ""
            raise AdapterError(
                f"The image of {name} does not build{held}:\n" + "\n".join(said), where=shown(answer.command[:4])
            )

    def tag(self, reference: str, tag: str) -> None:
        """See `Images.tag`."""
        self.docker("tag", reference, tag).require()

    def tags(self, repository: str) -> list[str]:
        """See `Images.tags`."""
        answer = self.docker("image", "ls", "--format", "{{.Repository}}:{{.Tag}}", repository)
        return answer.require().output.split()

    def untag(self, tag: str) -> None:
        """See `Images.untag`."""
        if self.id(tag):
            self.docker("image", "rm", tag).require()

    def use(self, name: str, image: str) -> list[str]:
        """Have the service's next containers made of an image, by the name that compose has for it; returns words for `up`.

        Changes the image that has that name.
        """
        self.tag(image, self._name(name))
        return ["--no-build"] if self.look.older else ["--no-build", "--pull", "never"]

    def _name(self, name: str) -> str:
        service = self._services(self.files)[name]
        if "image" in service:
            return str(service["image"])
        if self.look.older:
            return f"{self.project}_{name}"
        alone = json.dumps({"services": {name: {"build": {"context": "."}}}})  # what it depends on would be named too
        return self.compose(["-"], "config", "--images", input=alone).require().output.strip()

    def _services(self, files: Sequence[str], *options: str) -> dict[str, Any]:
        found: dict[str, Any] = model_of(self.compose(files, *options, *self.look.profiles, "config"))["services"]
        return found

    def _inspected(self, reference: str, what: str) -> str:
        answer = self.docker("image", "inspect", "--format", what, reference)
        return answer.output.strip() if answer.exit_code == 0 else ""


def _context(name: str, context: str, folders: Mapping[Path, Path]) -> str:
    """Return the folder to build from in place of one; what is none, as an address, stays. Pure but for links.

    Raises:
        AdapterError: It holds one of the folders that others represent.
    """
    path = Path(context)
    if not path.is_absolute():
        return context
    if within := [folder for folder in folders if path.resolve() in folder.resolve().parents]:
        raise AdapterError(
            f"The image of {name} is built from {path}, which holds {within[0]} and more: it cannot be built from "
            "the old code before that is checked out.",
            where=str(path),
        )
    return str(_moved(path, folders))


def _moved(path: Path, folders: Mapping[Path, Path], *, missing_stays: bool = False) -> Path:
    """Return where a path is read in place of itself. Read-only."""
    for folder, instead in folders.items():
        if path.resolve().is_relative_to(folder.resolve()):
            moved = instead / path.resolve().relative_to(folder.resolve())
            return path if missing_stays and not moved.exists() else moved
    return path
