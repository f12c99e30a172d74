"""Where a rollback runs: database, services, repositories and endpoints, with secrets by reference only."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from runbook_lib.errors import ParametersError
from runbook_lib.parameters import NOTHING_TOUCHED, Model, load, secret
from runbook_lib.plan import Name

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


class _Services(Model):
    timeout: Seconds
    versions: dict[Name, VersionByUrl | VersionByLog]
    built_from: dict[Name, Name]


class SupervisorServices(_Services):
    """Services under supervisord, reached through its socket."""

    manager: Literal["supervisor"]
    socket: str


class Commands(Model):
    """The commands that manage one service; {service} and {since} are filled in."""

    running: Command
    stop: Command
    start: Command
    logs: Command


class CommandServices(_Services):
    """Services under any manager that has a command line."""

    manager: Literal["commands"]
    commands: Commands
    directory: str


class RepositoryTarget(Model):
    """A checkout that is deployed from, and how it is built."""

    path: str
    install: Command | None = None  # run before each build
    build: Command
    artifact: str | None = None  # a file of the build that holds the built commit's id
    timeout: Seconds = 900


class Target(Model):
    """Where a rollback runs."""

    name: Name
    environment: Literal["rehearsal", "staging", "production"]
    database: DatabaseTarget
    backups: Backups
    services: Annotated[SupervisorServices | CommandServices, Field(discriminator="manager")]
    repositories: dict[Name, RepositoryTarget]
    endpoints: dict[Name, str]
    api_token: SecretReference
    contacts: dict[str, str]

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
    return target
