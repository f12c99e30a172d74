"""Where a rollback runs: database, services, repositories and endpoints, with secrets by reference only."""

import re
from collections.abc import Container, Iterable
from datetime import datetime
from itertools import permutations
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    AfterValidator,
    ByteSize,
    Field,
    ModelWrapValidatorHandler,
    Tag,
    ValidationError,
    ValidatorFunctionWrapHandler,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from runbook_lib.config.loading import NOT_SHOWN, NOTHING_TOUCHED, Misplaced, Model, by_key, like
from runbook_lib.config.plan import Plan
from runbook_lib.config.plan.backfills import path_of
from runbook_lib.config.plan.earlier import renamed
from runbook_lib.config.plan.steps import Address, BaseAddress, ClearingStep, DatabaseStep, Inside, Name, StepSpec, address
from runbook_lib.errors import ParametersError

SMALLEST_MEMORY = 1_000_000  # bytes
Seconds = Annotated[int, Field(gt=0)]


def _begins_with_a_program(words: list[str]) -> list[str]:
    if not words[0].strip():
        raise ValueError("it must begin with a program")
    return words


Command = Annotated[list[str], Field(min_length=1), AfterValidator(_begins_with_a_program)]


def _variable(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z_]\w*", name, re.ASCII):
        raise PydanticCustomError(NOT_SHOWN, "it must be the name of an environment variable, as SHOP_TOKEN")
    return name


class SecretReference(Model):
    """The name of the environment variable that holds a secret."""

    env: Annotated[str, AfterValidator(_variable)]
    """The environment variable that holds the secret."""

    @model_validator(mode="wrap")
    @classmethod
    def _is_no_secret(cls, data: Any, read: ModelWrapValidatorHandler[Self]) -> Self:
        if not isinstance(data, dict | cls):
            raise PydanticCustomError(NOT_SHOWN, "it must be {env: NAME}: a secret must not be in a file")
        return read(data)


class DatabaseTarget(Model):
    """The database, by the name of a libpq service."""

    service: Name
    """The libpq service to connect by; its password is in libpq's own files."""
    dbname: Name | None = None
    """The database there, where it is not the one that the service names."""
    schema_: Name | None = Field(None, alias="schema")
    """The schema that a run keeps to, where others of the database are other targets; else a run has the whole database."""
    application_role: Name
    """The role that the services connect with."""
    tools: str | None = None
    """The folder of pg_dump and pg_restore, where those on the PATH are of another major version."""
    clone_service: Name | None = None
    """Where the schema-only clone is made to try DDL on; the database's own server if None."""


def _once(names: list[str]) -> list[str]:
    if twice := [name for number, name in enumerate(names) if name in names[:number]]:
        raise ValueError(f"it names {twice[0]} twice")
    return names


class PoolerTarget(Model):
    """A PgBouncer in front of the database, which has its clients wait while strong locks are held."""

    service: Name | None = None
    """The libpq service of its admin console (`dbname=pgbouncer`), as one of its `admin_users`."""
    host: str | None = None
    """The host of its admin console, or the folder of its Unix socket; in place of `service`."""
    port: Annotated[int, Field(gt=0, lt=65536)] = 6432
    """The port there."""
    user: str | None = None
    """One of its `admin_users`."""
    password: SecretReference | None = None
    """Where that user's password is found; else libpq's own files have it, or none is asked for."""
    databases: Annotated[list[Name], Field(min_length=1), AfterValidator(_once)]
    """What the database is called in it; each name that leads there."""
    limit_ms: Annotated[int, Field(gt=0, le=60_000)] = 2000
    """Milliseconds that its clients may wait for transactions in progress to end."""

    @model_validator(mode="after")
    def _by_service_or_by_host(self) -> Self:
        pieces = self.model_fields_set & {"host", "port", "user", "password"}
        if bool(self.service) is bool(pieces) or (pieces and not (self.host and self.user)):
            raise ValueError("name its admin console either by `service`, or by `host` and `user` (and `port`, `password`)")
        return self


class Snapshot(Model):
    """The commands that make a snapshot of the database and look for it; {name} in them is what it is called."""

    make: Command
    """The command that makes the snapshot; {name} is filled in."""
    check: Command
    """Exits with 0 where it exists, with 1 where it does not, and with anything else where that is unknown."""
    timeout: Seconds = 3600
    """Seconds for each command."""

    @model_validator(mode="after")
    def _name_it(self) -> Self:
        for name in ("make", "check"):
            if not any("{name}" in word for word in getattr(self, name)):
                raise ValueError(f"{name} must name the snapshot by {{name}}, so that another run's is not taken for it")
        return self


class FreshBackup(Model):
    """A backup that is made regularly, and how old it may be to replace the run's own."""

    pattern: str
    """The file names of the regular backup, as a glob."""
    minutes: Annotated[int, Field(gt=0)]
    """How old it may be, in minutes."""


class Backups(Model):
    """Where backups are and how old the one to rely on may be."""

    directory: str
    """The folder that holds the backups."""
    pattern: str
    """Their file names, as a glob; the newest counts."""
    oldest_hours: Annotated[int, Field(gt=0)]
    """How old the newest may be, in hours."""
    snapshot: Snapshot | None = None
    """Made before the services are stopped, instead of the run's own dump."""
    fresh: FreshBackup | None = None
    """The same: looked for before they are stopped."""

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if self.snapshot and self.fresh:
            raise ValueError("name either a snapshot or a fresh backup: one of them is the run's backup")
        return self


def _moment(text: str) -> str:
    try:
        aware = datetime.fromisoformat(text).tzinfo is not None
    except ValueError:
        aware = False
    if not aware:
        raise ValueError('it must be a moment with its zone, as "2025-11-03 11:14:29.123456+00:00"')
    return text


class PointInTime(Model):
    """The state from just before the migration's commit, out of a base backup and the WAL since."""

    kind: Literal["point-in-time"]
    """That it is recovered, where no dump of it was kept."""
    base: str | None = None
    """A base backup of pg_basebackup, a data directory or the folder of its tar files; or the folder that holds several."""
    wal: str | None = None
    """The folder of the archived WAL; it goes with `base`."""
    command: Command | None = None
    """In place of both: it restores a base backup, with its restore_command, into {folder}, as pgBackRest and Barman do."""
    at: Annotated[str, AfterValidator(_moment)] | None = None
    """The moment, where the migration history shows none: just before the first commit then or later."""
    timeout: Seconds = 4 * 3600
    """Seconds that restoring may take, that recovering may, and that dumping may."""

    @model_validator(mode="after")
    def _by_files_or_by_command(self) -> Self:
        if (bool(self.base), bool(self.wal), bool(self.command)) not in ((True, True, False), (False, False, True)):
            raise ValueError("name either `base` and `wal`, or the `command` that restores a base backup")
        if self.command and not any("{folder}" in word for word in self.command):
            raise ValueError("command must name the folder that it restores into by {folder}")
        return self

    @property
    def moment(self) -> datetime | None:
        """The moment that it names."""
        return datetime.fromisoformat(self.at) if self.at else None


class VersionByUrl(Model):
    """The version that a service reports over HTTP, in a field of a JSON object."""

    url: Address
    """The address that is asked."""
    field: Annotated[str, Field(min_length=1)]
    """The field of the JSON object that is served there."""


def _with_a_group(text: str) -> str:
    try:
        groups = re.compile(text).groups
    except re.error as error:
        raise ValueError(f"it is no regular expression: {error}") from None
    if not groups:
        raise ValueError("it has no group: its first ( ) must match the version")
    return text


class VersionByLog(Model):
    """The version that a service writes to its log when it starts, as the first group of a regular expression."""

    log: Annotated[str, AfterValidator(_with_a_group)]
    """A regular expression on the service's log, whose first group is the version."""


class VersionByManager(Model):
    """The version that the manager reports: an image's label or digest, pm2's git revision or package version."""

    by: Literal["manager"]
    """That the manager itself reports the version."""


def _place(text: str) -> str:
    address(text if "://" in text else f"http://{text}")
    if "://" not in text and not re.search(r":\d+\Z", text):
        raise ValueError("it must be a URL or host:port")
    return text


AnyVersion = Annotated[
    Annotated[VersionByUrl, Tag("<url>")] | Annotated[VersionByLog, Tag("<log>")] | Annotated[VersionByManager, Tag("<by>")],
    by_key("url", "log", "by"),
]


class ServicesTarget(Model):
    """Services under one manager; each kind of manager has a model of its own."""

    manager: str
    """The kind of service manager."""
    timeout: Seconds
    """Seconds that a service may take to stop or to start."""
    versions: dict[Name, AnyVersion]
    """How each service reports its version: a url, a log, or by the manager."""
    built_from: dict[Name, Name]
    """The repository that each service is built from."""
    pinned: dict[Name, str] = {}
    """Services that are not built here: the image or release that they go back to."""
    unmanaged: list[Name] = []
    """Other programs that the manager runs and keeps running, for example a database."""
    listens: dict[Name, list[Annotated[str, AfterValidator(_place)]]] = {}
    """Where each service itself listens: URLs, or host:port."""

    @model_validator(mode="before")
    @classmethod
    def _of_an_earlier_version(cls, data: Any) -> Any:
        return renamed(data, {"left_alone": "unmanaged"}) if isinstance(data, dict) else data

    pins_are_reported_by_manager: ClassVar[bool]  # whether only the manager reports that a pinned service runs

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        """Refuse a kind of manager that leaves out what it has to say of itself."""
        if not hasattr(cls, "pins_are_reported_by_manager") or cls.tells_versions is ServicesTarget.tells_versions:
            raise TypeError(f"{cls.__name__} does not declare pins_are_reported_by_manager and tells_versions")

    def tells_versions(self) -> bool:
        """Check whether the manager itself reports the running version of a service. Pure."""
        raise NotImplementedError


class BuildLimits(Model):
    """What a build may take of the machine; services that serve users come first whatever it says."""

    processors: Annotated[int, Field(gt=0)] | None = None
    """How many processors; all, but after the services, if None."""
    memory: ByteSize | None = None
    """How much memory, as 2GB; all that is free but a tenth of the machine's, if None."""

    @field_validator("memory", mode="wrap")
    @classmethod
    def _memory_has_a_unit(cls, value: Any, read: ValidatorFunctionWrapHandler) -> ByteSize | None:
        try:
            size: ByteSize | None = read(value)
        except ValidationError:
            raise ValueError("it must be a number with a unit, as 2GB or 512MiB") from None
        if size is not None and size < SMALLEST_MEMORY:
            raise ValueError(f"{size} bytes are too few for a build; give a unit, as 2GB or 512MiB")
        return size


class RepositoryTarget(Model):
    """A checkout that is deployed from, and how it is built."""

    path: Annotated[str, Field(min_length=1)]
    """The checkout."""
    install: Command | None = None
    """Run before each build."""
    build: Command
    """The command that builds it."""
    shared: bool = False
    """Whether other targets use this checkout too: then only a run whose steps change it locks it."""
    artifact: Inside | None = None
    """A file of the build that holds the built commit's id."""
    build_files: list[Inside] | None = None
    """Files that git ignores and a build needs, as [.env, .npmrc]; [] where it needs none."""
    outputs: list[Inside] = []
    """What a build leaves and the services run from; else all that it makes or changes in the work tree."""
    build_limits: BuildLimits = BuildLimits()
    """What a build may take of the machine while users are served."""
    timeout: Seconds = 900
    """Seconds for each command."""
    hook_timeout: Seconds = 60
    """For each of git's hooks there."""

    @field_validator("outputs")
    @classmethod
    def _outputs_lie_apart(cls, outputs: list[str]) -> list[str]:
        for one, other in permutations(map(Path, outputs), 2):
            if one.is_relative_to(other):
                raise ValueError(f"{one} is in {other}, which is put in place as a whole; name one of them")
        return outputs


class Freeze(Model):
    """Something that must not act meanwhile: its commands, for each of its hosts, filled in for {host}."""

    freeze: Command
    """The command that freezes."""
    release: Command
    """The command that releases."""
    check: Command
    """Exits with 0 while it is frozen, with 1 while it is not, and with anything else where that is unknown."""
    hosts: list[str] = []
    """The hosts to run them for, each filled in for {host}."""
    timeout: Seconds = 60
    """Seconds for each command."""

    @model_validator(mode="after")
    def _hosts_are_filled_in(self) -> Self:
        for name in ("freeze", "release", "check"):
            if any("{host}" in word for word in getattr(self, name)) is not bool(self.hosts):
                raise ValueError(f"{name} and hosts do not fit: a command has {{host}} if and only if there are hosts")
        return self


class CachePurge(Model):
    """The command that empties the caches between the services and their users."""

    command: Command
    """The command that purges."""
    timeout: Seconds = 120
    """Seconds for it."""


class ReferenceApi(Model):
    """The API from before the feature, still running or kept: what it serves is what was visible before."""

    url: BaseAddress
    """Its base address."""
    token: SecretReference | None = None
    """Else the API's own."""


class Metrics(Model):
    """A server that speaks the HTTP API of Prometheus."""

    url: Annotated[BaseAddress, AfterValidator(like(r"^(?!.*/api/v1/?\Z)", "the address before /api/v1, without that"))]
    """Its base address, before /api/v1."""
    token: SecretReference | None = None
    """Sent as bearer token."""


class NamedCommand(Model):
    """A command that looks at something, and changes nothing."""

    command: Command
    """It exits with 0 where all is well, with 1 where it is not, and with anything else where that is unknown."""
    directory: str | None = None
    """Where it is run."""
    timeout: Seconds = 60
    """Seconds for it."""


class RecordsTarget(Model):
    """Where the records of green rehearsals are kept; each kind of place has a model of its own."""

    kind: str
    """The kind of place."""


class Target(Model):
    """Where a rollback runs."""

    name: Name
    """What is typed to confirm."""
    environment: Literal["rehearsal", "staging", "production"]
    """What kind of place it is; production needs real contacts and a typed name."""
    database: DatabaseTarget
    """The database."""
    pooler: list[PoolerTarget] = []
    """What pools the services' connections to it: one PgBouncer, or a list of them."""
    backups: Backups
    """Where its backups are."""
    before: PointInTime | None = None
    """How the state from before the feature is recovered, where no dump of it was kept."""
    services: ServicesTarget
    """The services and their manager."""
    repositories: dict[Name, RepositoryTarget] = {}
    """The checkouts, by the names that the plan gives them."""
    endpoints: dict[Name, BaseAddress] = {}
    """The base address of each service that is looked at."""
    api_token: SecretReference | None = None
    """Where the API's token is found."""
    reference_api: ReferenceApi | None = None
    """The API from before the feature, where it still runs or was kept."""
    metrics: Metrics | None = None
    """Where checks of the kind `metric` ask."""
    commands: dict[Name, NamedCommand] = {}
    """What checks of the kind `command` run."""
    freezes: dict[Name, Freeze] = {}
    """A deploy pipeline, an autoscaler, a queue's consumers."""
    cache_purge: CachePurge | None = None
    """How the caches in front of the services are emptied."""
    records: RecordsTarget | None = None
    """Where the records of green rehearsals are kept; the folder `records` next to its runs if None."""
    contacts: dict[str, str] = {}
    """Who has each role that the plan names."""

    @field_validator("services", mode="before")
    @classmethod
    def _manager_is_one_that_was_tested(cls, value: Any) -> Any:
        if isinstance(value, dict) and value.get("manager") == "systemd":
            raise ValueError(
                "systemd has no adapter here, because none could be tested against a real one; `manager: commands` takes "
                "its command lines, as docs/managers.md shows, untested: rehearse them on staging first"
            )
        return value

    @field_validator("pooler", mode="before")
    @classmethod
    def _one_pooler_is_a_list_of_one(cls, value: Any) -> Any:
        return [value] if isinstance(value, dict) else value

    @model_validator(mode="after")
    def _records_name_their_database(self) -> Self:
        if self.database.dbname and self.records and getattr(self.records, "service", "") is None:
            said = "records.service is missing: with database.dbname, records in a database need a service of their own"
            raise Misplaced(said, "records")
        return self

    @model_validator(mode="after")
    def _poolers_are_no_part_of_the_way(self) -> Self:
        consoles = [pooler.service for pooler in self.pooler]
        if self.database.service in consoles:
            raise Misplaced(
                f"pooler.service is database.service ({self.database.service}); the runbook itself connects to PostgreSQL "
                "past the pooler, and `pooler.service` names its admin console",
                "pooler",
                consoles.index(self.database.service),
                "service",
            )
        if twice := [number for number, console in enumerate(consoles) if console in consoles[:number]]:
            raise Misplaced(f"pooler names the console {consoles[twice[0]]} twice", "pooler", twice[0], "service")
        return self

    @model_validator(mode="after")
    def _services_tell_and_are_known(self) -> Self:
        services = self.services
        for name, source in services.versions.items():
            if isinstance(source, VersionByManager) and not services.tells_versions():
                said = f"services.versions.{name} asks the manager, which does not report it; give a url or a log"
                raise Misplaced(said, "services", "versions", name)
        for key, names in (("pinned", services.pinned), ("listens", services.listens)):
            for name in names:
                if name not in services.versions:
                    said = f"services.{key} names {name!r}, which services.versions does not define"
                    raise Misplaced(said, "services", key, name)
        for name in services.pinned:
            if services.pins_are_reported_by_manager and not isinstance(services.versions[name], VersionByManager):
                said = f"services.versions.{name} must be {{by: manager}}: only the manager says which image runs"
                raise Misplaced(said, "services", "versions", name)
        return self

    @model_validator(mode="after")
    def _services_are_built_from_what_is_here(self) -> Self:
        for name, repository in self.services.built_from.items():
            if repository not in self.repositories:
                said = f"services.built_from.{name} names {repository!r}, which repositories does not define"
                raise Misplaced(said, "services", "built_from", name)
        return self

    @model_validator(mode="after")
    def _reference_is_another(self) -> Self:
        if self.reference_api and self.reference_api.url.rstrip("/") in {url.rstrip("/") for url in self.endpoints.values()}:
            said = "reference_api is one of the endpoints; compared with itself, nothing is ever missing"
            raise Misplaced(said, "reference_api", "url")
        return self

    @model_validator(mode="after")
    def _contacts_are_real(self) -> Self:
        if self.environment == "production":
            for role, contact in self.contacts.items():
                if not contact.strip() or re.search(r"\[.*\]|\bTODO\b|example\.", contact):
                    said = f"contacts.{role} still reads as a placeholder ({contact}); production needs a real one"
                    raise Misplaced(said, "contacts", role)
        return self

    @property
    def is_production(self) -> bool:
        """Whether harm here reaches customers."""
        return self.environment == "production"

    def endpoint(self, name: str) -> str:
        """Return the base URL of a service.

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


def lacking(plan: Plan, target: Target) -> list[str]:
    """Return the keys that the plan needs of a target and this one does not have. Read-only."""
    services = target.services
    needed: dict[str, tuple[Iterable[str], Container[str]]] = {
        "repositories": (plan.repositories, target.repositories),
        "services.versions": (plan.services, services.versions),
        "services.built_from": (plan.services, {**services.built_from, **services.pinned}),
        "endpoints": (dict.fromkeys(part.service for part in (plan.api_, plan.page_) if part), target.endpoints),
        "contacts": (plan.contacts, target.contacts),
    }
    token = ["api_token"] if plan.api_ and not target.api_token else []
    found = token + [f"{key}.{name}" for key, (names, there) in needed.items() for name in names if name not in there]
    of_checks = [key for check in plan.checks.values() for key in check.of_target() if not _has(target, key)]
    return list(dict.fromkeys(found + of_checks))


def _has(target: Target, key: str) -> bool:
    """Check whether a target has a key, or a name in one."""
    part, _, name = key.partition(".")
    value = getattr(target, part)
    return name in value if name else value is not None


def require_within_schema(plan: Plan, target: Target, type_name: str, option: str) -> None:
    """Make sure that a run changes nothing outside the schema that its target keeps to. Read-only.

    Raises:
        ParametersError: A step or a table of the plan is not confined to it.
    """
    schema = target.database.schema_
    if schema is None or not type_name:
        return
    specs = {name: plan.steps[name] for name in plan.steps_of(type_name, option)}
    outside = [f"the step {name}" for name, spec in specs.items() if not _is_within_schema(spec)]
    outside += [f"the table {path_of(*table)}" for table in plan.tables if table[0] != schema]
    if outside:
        raise ParametersError(
            f"The target keeps to the schema {schema}, and these do not: {', '.join(outside)}.",
            where=f"target {target.name}, key database.schema",
            state=NOTHING_TOUCHED,
            safe_next="Name the schema in the plan's tables, or choose an option that only clears backfills; or take "
            "database.schema out, so that the run has the whole database.",
        )


def _is_within_schema(spec: StepSpec) -> bool:
    """Whether a kind of step changes nothing in a database but the rows of the plan's tables. Pure."""
    if isinstance(spec, ClearingStep):
        return True
    return spec.kind != "end_sessions" and not (isinstance(spec, DatabaseStep) and spec.touches().changes)


def pair(plan: Plan, target: Target, target_file: Path) -> None:
    """Make sure that the target says all that the plan needs of it. Read-only.

    Raises:
        ParametersError: It does not.
    """
    if missing := lacking(plan, target):
        raise ParametersError(
            f"{target_file} lacks what the plan of {plan.feature} needs of a target: {', '.join(missing)}.",
            where=f"target {target.name}",
            state=NOTHING_TOUCHED,
            safe_next="Add each; docs/parameters.md has the keys (Target); `python -m runbook_lib.reference` prints them.",
        )
    names_of: dict[Path, str] = {}
    for name in plan.repositories:
        other = names_of.setdefault(Path(target.repositories[name].path).resolve(), name)
        if other != name:
            raise ParametersError(
                f"{target_file} names one checkout for two repositories of the plan, {other} and {name}.",
                where=f"target {target.name}",
                state=NOTHING_TOUCHED,
                safe_next="Name one repository in the plan and in the target for all that is in it, and in `paths` what "
                "each service is built from.",
            )
