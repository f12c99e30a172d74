"""The containers of a docker compose project, by their labels."""

import json
from collections.abc import Callable
from dataclasses import dataclass

from runbook_lib.adapters.processes import Completed

PROJECT, SERVICE = "com.docker.compose.project", "com.docker.compose.service"
STOPPED = {"created", "exited", "dead"}


@dataclass(frozen=True)
class Container:
    """What is asked of a container: never its environment, which holds secrets."""

    id: str
    service: str
    status: str
    exit_code: int
    restarts: int
    started: str
    image: str
    revision: str

    @property
    def alive(self) -> bool:
        """Whether it runs, or the engine will run it again."""
        return self.status not in STOPPED


def listed(docker: Callable[..., Completed], project: str, revision_label: str) -> list[Container]:
    """The containers of a project, whoever made them. Read-only.

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
            return [Container(*json.loads(line)) for line in answer.output.splitlines()]
        if "No such container" not in answer.errors:  # one that went between the two questions
            answer.require()


def _format(revision_label: str) -> str:
    def label(name: str) -> str:
        return f"(index .Config.Labels {json.dumps(name)})"

    fields = [".Id", label(SERVICE), ".State.Status", ".State.ExitCode", ".RestartCount", ".State.StartedAt", ".Image"]
    return "[" + ",".join(f"{{{{json {field}}}}}" for field in [*fields, label(revision_label)]) + "]"
