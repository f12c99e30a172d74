"""Where a rollback runs: database, services, repositories and endpoints, with secrets by reference only."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from runbook_lib.errors import ParametersError
from runbook_lib.parameters import NOTHING_TOUCHED, Model, load, secret
from runbook_lib.plan.values import Name

Seconds = Annotated[int, Field(gt=0)]
Command = Annotated[list[str], Field(min_length=1)]


class SecretReference(Model):
    """The name of the environment variable that holds a secret."""

    env: Name


class DatabaseTarget(Model):
    """The database, by the name of a libpq service."""

    service: Name
    application_role: Name
    tools: str | None = None
    clone_service: Name | None = None  # where the schema-only clone is made to try DDL on; the database's own server if None


class Backups(Model):
    """Where backups are and how old the one to rely on may be."""

    directory: str
    pattern: str
    oldest_hours: Annotated[int, Field(gt=0)]


class VersionByUrl(Model):
    """The version that a service tells over HTTP, in a field of a JSON object."""

    url: str
    field: str


class VersionByLog(Model):
    """The version that a service writes to its log when it starts, as the first group of a regular expression."""

    log: str


class VersionByManager(Model):
    """The version that the manager itself tells: an image's label or digest, pm2's git revision or package version."""

    by: Literal["manager"]


class _Services(Model):
    timeout: Seconds
    versions: dict[Name, VersionByUrl | VersionByLog | VersionByManager]
    built_from: dict[Name, Name]
    pinned: dict[Name, str] = {}  # services that are not built here: the image or release that they go back to
    left_alone: list[Name] = []  # what the manager runs besides, and goes on running: a database, say
    listens: dict[Name, list[str]] = {}  # where each service itself listens: URLs, or host:port


class SupervisorServices(_Services):
    """Services under supervisord, reached through its socket."""

    manager: Literal["supervisor"]
    socket: str


class DockerServices(_Services):
    """Services of one docker compose project; they are started anew from their image, never merely restarted."""

    manager: Literal["docker-compose"]
    directory: str
    project: Name
    files: Annotated[list[str], Field(min_length=1)] = ["docker-compose.yml"]
    compose: Command | None = None  # else `docker compose`, or the older `docker-compose`, whichever is there
    host: str | None = None  # the engine, where DOCKER_HOST does not tell
    revision_label: str = "org.opencontainers.image.revision"  # of the image: the commit that it was built from
    steady: Annotated[float, Field(ge=0)] = 2.0  # seconds that a service must stay up to count as started

    @field_validator("pinned")
    @classmethod
    def _pins_cannot_move(cls, pinned: dict[str, str]) -> dict[str, str]:
        for name, image in pinned.items():
            if "sha256:" not in image:
                raise ValueError(
                    f"{name} is pinned to {image}, a tag, which may name another image by then; give its digest"
                )
        return pinned


class Pm2Services(_Services):
    """Services under pm2, each the processes of the same name."""

    manager: Literal["pm2"]
    home: str  # its PM2_HOME
    command: Command = ["pm2"]
    steady: Annotated[float, Field(ge=0)] = 2.0  # seconds that a service must stay up to count as started


class Commands(Model):
    """The commands that manage one service; {service} and {since} are filled in."""

    list: Command  # prints the names of all services that run, one a line
    running: Command
    stop: Command
    start: Command
    logs: Command
    version: Command | None = None  # prints what the service runs


class CommandServices(_Services):
    """Services under any manager that has a command line."""

    manager: Literal["commands"]
    commands: Commands
    directory: str


ServicesTarget = SupervisorServices | DockerServices | Pm2Services | CommandServices


class RepositoryTarget(Model):
    """A checkout that is deployed from, and how it is built."""

    path: str
    install: Command | None = None  # run before each build
    build: Command
    artifact: str | None = None  # a file of the build that holds the built commit's id
    timeout: Seconds = 900


class Freeze(Model):
    """Something that must hold still meanwhile: its commands, on each of its hosts, which {host} stands for."""

    freeze: Command
    release: Command
    check: Command  # ends with 0 while it is frozen, with 1 while it is not, and with anything else if it cannot tell
    hosts: list[str] = []
    timeout: Seconds = 60

    @model_validator(mode="after")
    def _hosts_are_filled_in(self) -> Self:
        for name in ("freeze", "release", "check"):
            if any("{host}" in word for word in getattr(self, name)) is not bool(self.hosts):
                raise ValueError(
                    f"{name} and hosts do not fit: {{host}} stands in a command where there are hosts, else never"
                )
        return self


class CachePurge(Model):
    """The command that empties the caches between the services and their users."""

    command: Command
    timeout: Seconds = 120


class ReferenceApi(Model):
    """The API from before the feature, still running or kept: what it serves is what was visible before."""

    url: str
    token: SecretReference | None = None  # else the API's own


class Target(Model):
    """Where a rollback runs."""

    name: Name
    environment: Literal["rehearsal", "staging", "production"]
    database: DatabaseTarget
    backups: Backups
    services: Annotated[ServicesTarget, Field(discriminator="manager")]
    repositories: dict[Name, RepositoryTarget]
    endpoints: dict[Name, str]
    api_token: SecretReference
    reference_api: ReferenceApi | None = None
    freezes: dict[Name, Freeze] = {}  # a deploy pipeline, an autoscaler, a queue's consumers
    cache_purge: CachePurge | None = None
    contacts: dict[str, str]

    @field_validator("services", mode="before")
    @classmethod
    def _manager_is_one_that_was_tested(cls, value: Any) -> Any:
        if isinstance(value, dict) and value.get("manager") == "systemd":
            raise ValueError(
                "systemd has no adapter here, because none could be tested against a real one; `manager: commands` takes "
                "its command lines, as docs/managers.md shows, untested: rehearse them on staging first"
            )
        return value

    @model_validator(mode="after")
    def _services_tell_and_are_known(self) -> Self:
        services = self.services
        silent = isinstance(services, SupervisorServices) or (
            isinstance(services, CommandServices) and not services.commands.version
        )
        for name, source in services.versions.items():
            if silent and isinstance(source, VersionByManager):
                raise ValueError(f"services.versions.{name} asks the manager, which does not tell; give a url or a log")
        for name in services.pinned:
            if name not in services.versions:
                raise ValueError(f"services.pinned names {name!r}, which services.versions does not define")
            if isinstance(services, DockerServices) and not isinstance(services.versions[name], VersionByManager):
                raise ValueError(f"services.versions.{name} must be {{by: manager}}: only docker tells which image runs")
        return self

    @model_validator(mode="after")
    def _services_are_built_from_what_is_here(self) -> Self:
        for name, repository in self.services.built_from.items():
            if repository not in self.repositories:
                raise ValueError(f"services.built_from.{name} names {repository!r}, which repositories does not define")
        return self

    @model_validator(mode="after")
    def _reference_is_another(self) -> Self:
        if self.reference_api and self.reference_api.url.rstrip("/") in {url.rstrip("/") for url in self.endpoints.values()}:
            raise ValueError("reference_api is one of the endpoints; held against itself, nothing is ever missing")
        return self

    @model_validator(mode="after")
    def _contacts_are_real(self) -> Self:
        if self.environment == "production":
            for role, contact in self.contacts.items():
                if not contact.strip() or re.search(r"\[.*\]|\bTODO\b|example\.", contact):
                    raise ValueError(
                        f"contacts.{role} still reads as a placeholder ({contact}); production needs a real one"
                    )
        return self

    @property
    def is_production(self) -> bool:
        """Whether harm here reaches customers."""
        return self.environment == "production"

    def endpoint(self, name: str) -> str:
        """The base URL of a service.

        Raises:
            ParametersError: The target names none.
        """
        url = self.endpoints.get(name)
        if url is None:
            raise ParametersError(
                f"The target {self.name} has no endpoint for {name}.",
                state=NOTHING_TOUCHED,
                safe_next=f"Add endpoints.{name}.",
            )
        return url.rstrip("/")


def load_target(path: Path, environment: Mapping[str, str] = os.environ) -> Target:
    """Read a target from its YAML file and make sure that its secrets are there. Read-only.

    Raises:
        ParametersError: A key is unknown, missing or of the wrong type, a secret is missing, or a production target has a
            placeholder for a contact.
    """
    target = load(path, Target, environment)
    secret(target.api_token.env, f"{path}, key api_token", environment)
    if target.reference_api and target.reference_api.token:
        secret(target.reference_api.token.env, f"{path}, key reference_api", environment)
    return target
