"""What a rehearsal brings up, as a stack's YAML file says it: repositories, database, services, health and faults."""

import re
import shutil
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, PrivateAttr, Tag, ValidationError, create_model, field_validator, model_validator

from runbook_lib.config.installed import packaged
from runbook_lib.config.kinds import union
from runbook_lib.config.loading import Model, by_key, explained, filled_in, place, problems_of, read
from runbook_lib.config.plan.steps import Name
from runbook_lib.config.target import Command
from runbook_lib.errors import ParametersError, PreconditionError
from runbook_lib.rehearsal import managers
from runbook_lib.rehearsal.managers import ManagerKeys
from runbook_lib.rehearsal.workspace import StackError

FOLDER = packaged("rehearsal", "stacks")
SAMPLE = "sample"  # what is rehearsed where nothing else is named
SOUND = "The release works."


class Added(Model):
    """A commit of files as they are in the stack's sources."""

    add: Annotated[list[str], Field(min_length=1)]
    """The files, as paths inside the repository."""
    message: str
    """The commit's message."""
    date: str
    """When it was committed."""


class Patched(Model):
    """A commit that a patch makes."""

    patch: Name
    """The patch in `patches/`, without `.patch`."""
    faulty: bool = False
    """Whether a fault of this repository goes into the same commit."""


class Branched(Model):
    """A branch that the commits after it are on."""

    branch: Name
    """Its name."""


class Merged(Model):
    """The merge of a branch into the main one."""

    merge: Name
    """The branch."""
    message: str
    """The merge's message."""
    date: str
    """When it was merged."""


class Tagged(Model):
    """A release."""

    tag: Name
    """Its name."""
    date: str
    """When it was released."""


Event = Annotated[
    Annotated[Added, Tag("<add>")]
    | Annotated[Patched, Tag("<patch>")]
    | Annotated[Branched, Tag("<branch>")]
    | Annotated[Merged, Tag("<merge>")]
    | Annotated[Tagged, Tag("<tag>")],
    by_key("add", "patch", "branch", "merge", "tag"),
]


class Made(Model):
    """A repository that is made, event by event."""

    history: Annotated[list[Event], Field(min_length=1)]
    """What happened in it, oldest first."""


class Cloned(Model):
    """A repository that exists: it is cloned with its history, and its own files are left alone."""

    clone: str
    """Its folder."""
    ref: str = "HEAD"
    """The release: a branch, a tag or a commit."""


Repository = Annotated[
    Annotated[Made, Tag("<history>")] | Annotated[Cloned, Tag("<clone>")],
    by_key("history", "clone"),
]


class Migrated(Model):
    """Migrations of the backend, applied and recorded as the backend does it."""

    migrate: list[str]
    """Their versions."""


class Executed(Model):
    """A script that the application's role executes."""

    sql: str
    """Its path in the stack's sources."""


class BackedUp(Model):
    """The backup that is there at the time of the rollback."""

    backup: str
    """The beginning of its file name."""


class Loaded(Model):
    """A dump of pg_dump, or its script, that is loaded without owners and rights."""

    dump: str
    """Its file."""


class Commanded(Model):
    """A command, as one that migrates to a version; libpq's variables lead it to the database as the application."""

    run: Command
    """The command."""
    directory: str = "${REHEARSAL_ROOT}"
    """The folder that it runs in; each repository is in `${REHEARSAL_ROOT}`, by its name."""
    environment: dict[str, str] = {}
    """What it has in its environment, too."""


Fill = Annotated[
    Annotated[Migrated, Tag("<migrate>")]
    | Annotated[Executed, Tag("<sql>")]
    | Annotated[BackedUp, Tag("<backup>")]
    | Annotated[Loaded, Tag("<dump>")]
    | Annotated[Commanded, Tag("<run>")],
    by_key("migrate", "sql", "backup", "dump", "run"),
]
Use = Annotated[Annotated[Executed, Tag("<sql>")] | Annotated[Commanded, Tag("<run>")], by_key("sql", "run")]


class DatabaseFill(Model):
    """How the database came to hold what it holds."""

    history_table: str = ""
    """The script that makes the table in which the backend records its migrations, where there is any `migrate`."""
    migrations: str = ""
    """The folder of the migrations, where there is any `migrate`."""
    fill: list[Fill]
    """What happened to it before the release, oldest first."""
    release: list[Use] = []
    """What the deployment of the release did to it: migrations and jobs. That is done again when it is deployed again."""

    @model_validator(mode="after")
    def _migrations_are_found(self) -> Self:
        if not self.migrations and any(isinstance(event, Migrated) for event in self.fill):
            raise ValueError("`migrate` needs `history_table` and `migrations`; else `run` what migrates")
        return self


class HealthByUrl(Model):
    """A service that is healthy once a URL is answered with 200."""

    url: str
    """The URL."""


class HealthByQuery(Model):
    """A service that is healthy once a query finds a row."""

    query: str
    """The query."""


Health = Annotated[Annotated[HealthByUrl, Tag("<url>")] | Annotated[HealthByQuery, Tag("<query>")], by_key("url", "query")]


class Expected(Model):
    """The rollback that must follow."""

    type: Name
    """The type that triage must recommend; without a fault it must recommend none, and this one is chosen."""
    option: Name = "A"
    """Its option."""


class Fault(Model):
    """A fault, in one sentence: patches of the feature's commits, SQL that damages the data, variables of services."""

    name: str
    """Its name."""
    about: str
    """What users and operators see of it."""
    patches: dict[Name, Name] = {}
    """Repository -> the patch in `faults/`, without `.patch`."""
    data: str = ""
    """The script in `faults/`, without `.sql`."""
    environment: dict[Name, dict[str, str]] = {}
    """Service -> what it has in its environment."""
    expect: Expected | None = None
    """The rollback that must follow; else the stack's."""


class StackFile(Model):
    """A stack: what it is made of, and the plan and the target that its rollbacks go by."""

    about: str
    """What it is, in one line."""
    plan: str = ""
    """The plan's file; `--plan` names another."""
    target: str
    """The target's file; the stack's variables are filled in."""
    sources: Annotated[list[str], Field(min_length=1)] = ["."]
    """The folders with files, patches and faults; the first that has one counts."""
    programs: list[Name] = []
    """The programs that it needs on the PATH, next to git."""
    ports: list[Name] = []
    """What listens on a port: `${REHEARSAL_NAME_PORT}`, and `${REHEARSAL_NAME_URL}`."""
    repositories: dict[Name, Repository]
    """The repositories."""
    ignored: dict[Name, dict[str, str]] = {}
    """Repository -> what its checkout holds that git ignores: the file, and its text."""
    database: DatabaseFill
    """The database."""
    services: ManagerKeys
    """The services and what manages them."""
    health: dict[Name, Health]
    """How each service shows that it is up; the keys are the services."""
    use: list[Use] = []
    """What users do once all services are up, before the rollback."""
    expect: Expected | None = None
    """The rollback that must follow."""
    faults: Annotated[dict[Name, Fault], Field(validate_default=True)] = {}
    """The faults that can be put in; `none` is none of them, but for its own text."""

    _file: Path = PrivateAttr(Path())

    @field_validator("faults", mode="before")
    @classmethod
    def _named(cls, faults: Any) -> Any:
        if not isinstance(faults, dict):
            return faults
        named = {"none": {"about": SOUND}, **faults}
        return {name: {"name": name, **fault} if isinstance(fault, dict) else fault for name, fault in named.items()}

    @property
    def folder(self) -> Path:
        """The folder that relative paths start from: that of the stack's file. Read-only."""
        return self._file.parent

    @property
    def plan_file(self) -> Path:
        """The plan's file. Read-only."""
        return self.folder / self.plan

    @property
    def target_file(self) -> Path:
        """The target's file. Read-only."""
        return self.folder / self.target

    def line(self, *keys: int | str) -> str:
        """Return the file, and the line and key of it that these keys lead to. Read-only."""
        return place(self._file, keys)

    def require(self) -> None:
        """Make sure that all programs exist which the stack needs and no Python package brings. Read-only.

        Raises:
            PreconditionError: One does not.
        """
        for program in ("git", *self.programs):
            if shutil.which(program) is None:
                raise PreconditionError(
                    f"There is no {program}, which this stack needs.",
                    where="the PATH",
                    state="Nothing was started.",
                    safe_next=f"Install {program} with the system's package manager, then run the same command again.",
                )
        self.services.require()

    def has(self, *parts: str) -> bool:
        """Check whether a source has that file. Read-only."""
        return any(self.folder.joinpath(folder, *parts).exists() for folder in self.sources)

    def require_variables(self, environment: Mapping[str, str]) -> None:
        """Make sure that the environment has each variable that the file names. Read-only.

        Raises:
            ParametersError: It has not.
        """
        for key, value in self.model_dump(include={"database", "use", "services", "health"}).items():
            filled_in(value, environment, self._file, key)

    def source(self, *parts: str) -> Path:
        """Return the file of the first source that has it. Read-only.

        Raises:
            StackError: None has it.
        """
        for folder in self.sources:
            path = self.folder.joinpath(folder, *parts)
            if path.exists():
                return path
        raise StackError(
            f"no source of the stack has {'/'.join(parts)}",
            where=", ".join(self.sources),
            state="the stack is incomplete",
            safe_next="correct the stack's file, or add what it names",
        )

    def fault(self, name: str) -> Fault:
        """Return a fault by its name. Read-only.

        Raises:
            StackError: There is none of that name.
        """
        if name not in self.faults:
            raise StackError(
                f"there is no fault named {name!r}",
                where="fault",
                state="nothing was started",
                safe_next=f"choose one of {', '.join(self.faults)}",
            )
        return self.faults[name]


def names() -> list[str]:
    """Return the stacks that there are. Read-only."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


@cache
def named(name: str) -> StackFile:
    """Return a stack by its name. Read-only.

    Raises:
        ParametersError: There is none of that name, or its file does not fit the model.
    """
    if name not in names():
        raise ParametersError(
            f"There is no stack {name!r}.",
            state="Nothing was started.",
            safe_next=f"Name one of: {', '.join(names())}.",
        )
    return load_stack(FOLDER / f"{name}.yaml")


def named_or_read(stack: str) -> StackFile:
    """Return a stack by its name, else by its file. Read-only.

    Raises:
        ParametersError: There is neither, or the file does not fit the model.
    """
    return named(stack) if stack in names() else load_stack(Path(stack))


def load_stack(path: Path) -> StackFile:
    """Read a stack from its YAML file; what it `extends`, in the same folder, has the keys that it leaves out. Read-only.

    Raises:
        ParametersError: A file is missing, or does not fit the model.
    """
    keys = _with_extended(path)
    try:
        described = stack_model().model_validate(keys)
    except ValidationError as error:
        raise explained(path, problems_of(error), StackFile) from None
    described._file = path.resolve()
    return described


def _with_extended(path: Path, above: tuple[Path, ...] = ()) -> dict[str, Any]:
    keys = read(path)
    extended = keys.pop("extends", None)
    if extended is None:
        return keys
    other = path.with_name(f"{extended}.yaml") if re.fullmatch(r"[\w.-]+", str(extended)) else path
    if other in (path, *above):
        raise ParametersError(
            f"{path} extends {extended!r}, which is no other stack.",
            state="Nothing was started.",
            safe_next="Name a stack in the same folder that does not itself extend this one.",
        )
    return {**_with_extended(other, (path, *above)), **keys}


@cache
def stack_model() -> type[StackFile]:
    """Return the model of a stack with the kinds of manager that there are. Read-only."""
    return create_model("StackFile", __base__=StackFile, services=(union(managers.kinds(), by="manager"), ...))
