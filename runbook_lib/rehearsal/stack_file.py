"""What a rehearsal brings up, as a stack's YAML file says it: repositories, database, services, health and faults."""

import re
import shutil
from functools import cache
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, Tag, ValidationError, create_model, field_validator

from runbook_lib.config.installed import packaged
from runbook_lib.config.kinds import union
from runbook_lib.config.loading import Model, by_key, explained, problems_of, read
from runbook_lib.config.plan.steps import Name
from runbook_lib.config.target import Command
from runbook_lib.errors import ParametersError, PreconditionError
from runbook_lib.rehearsal import managers
from runbook_lib.rehearsal.managers import ManagerKeys
from runbook_lib.rehearsal.workspace import StackError

FOLDER = packaged("rehearsal", "stacks")
SAMPLE = "sample"  # what is rehearsed where nothing else is named


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


class Repository(Model):
    """A repository, by how its history came to be."""

    history: Annotated[list[Event], Field(min_length=1)]
    """What happened in it, oldest first."""


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


Fill = Annotated[
    Annotated[Migrated, Tag("<migrate>")] | Annotated[Executed, Tag("<sql>")] | Annotated[BackedUp, Tag("<backup>")],
    by_key("migrate", "sql", "backup"),
]


class DatabaseFill(Model):
    """How the database came to hold what it holds."""

    history_table: str
    """The script that makes the table in which the backend records its migrations."""
    migrations: str
    """The folder of the migrations."""
    fill: list[Fill]
    """What happened to it, oldest first."""


class HealthByUrl(Model):
    """A service that is healthy once a URL is answered with 200."""

    url: str
    """The URL."""


class HealthByQuery(Model):
    """A service that is healthy once a query finds a row."""

    query: str
    """The query."""


Health = Annotated[Annotated[HealthByUrl, Tag("<url>")] | Annotated[HealthByQuery, Tag("<query>")], by_key("url", "query")]


class Fault(Model):
    """A fault, in one sentence: the patches that put it into the feature's commits, and the SQL that damages the data."""

    name: str
    """Its name."""
    about: str
    """What users and operators see of it."""
    patches: dict[Name, Name] = {}
    """Repository -> the patch in `faults/`, without `.patch`."""
    data: str = ""
    """The script in `faults/`, without `.sql`."""


class StackFile(Model):
    """A stack: what it is made of, and the plan and the target that its rollbacks go by."""

    about: str
    """What it is, in one line."""
    plan: str
    """The plan's file."""
    target: str
    """The target's file."""
    sources: Annotated[list[str], Field(min_length=1)]
    """The folders with files, patches and faults; the first that has one counts."""
    programs: list[Name] = []
    """The programs that it needs on the PATH, next to git."""
    ports: list[Name]
    """What listens on a port: `${REHEARSAL_NAME_PORT}`, and `${REHEARSAL_NAME_URL}`."""
    repositories: dict[Name, Repository]
    """The repositories."""
    ignored: dict[Name, dict[str, str]] = {}
    """Repository -> what its checkout holds that git ignores: the file, and its text."""
    builds: dict[Name, list[Command]]
    """Repository -> the commands that build what it has checked out."""
    database: DatabaseFill
    """The database."""
    services: ManagerKeys
    """The services and what manages them."""
    health: dict[Name, Health]
    """How each service shows that it is up; the keys are the services."""
    faults: dict[Name, Fault]
    """The faults that can be put in."""

    @field_validator("faults", mode="before")
    @classmethod
    def _named(cls, faults: Any) -> Any:
        if not isinstance(faults, dict):
            return faults
        return {name: {"name": name, **fault} if isinstance(fault, dict) else fault for name, fault in faults.items()}

    @property
    def plan_file(self) -> Path:
        """The plan's file. Read-only."""
        return packaged("rehearsal", "parameters", self.plan)

    @property
    def target_file(self) -> Path:
        """The target's file. Read-only."""
        return packaged("rehearsal", "parameters", self.target)

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

    def source(self, *parts: str) -> Path:
        """The file of the first source that has it. Read-only.

        Raises:
            StackError: None has it.
        """
        for folder in self.sources:
            path = packaged("rehearsal", folder, *parts)
            if path.exists():
                return path
        raise StackError(
            f"no source of the stack has {'/'.join(parts)}",
            where=", ".join(self.sources),
            state="the stack is incomplete",
            safe_next="correct the stack's file, or add what it names",
        )

    def fault(self, name: str) -> Fault:
        """A fault by its name. Read-only.

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
    """The stacks that there are. Read-only."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


@cache
def named(name: str) -> StackFile:
    """A stack by its name. Read-only.

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


def load_stack(path: Path) -> StackFile:
    """Read a stack from its YAML file; what it `extends`, in the same folder, has the keys that it leaves out. Read-only.

    Raises:
        ParametersError: A file is missing, or does not fit the model.
    """
    keys = _with_extended(path)
    try:
        return _model().model_validate(keys)
    except ValidationError as error:
        raise explained(path, problems_of(error), StackFile) from None


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
def _model() -> type[StackFile]:
    return create_model("StackFile", __base__=StackFile, services=(union(managers.kinds(), by="manager"), ...))
