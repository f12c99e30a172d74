"""What all steps of a plan have in common; each kind declares its keys and its facts in its own module of `steps`."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, get_origin
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from runbook_lib.config.compatibility import Rules, State
from runbook_lib.config.loading import NOT_SHOWN, Model, like
from runbook_lib.config.plan.parts import Part

LONGEST = 63  # bytes of a name in PostgreSQL


def _identifier(name: str) -> str:
    if not 0 < len(name.encode()) <= LONGEST or "\0" in name:
        raise ValueError(f"a name in the database has 1 to {LONGEST} bytes")
    return name


def address(text: str) -> str:
    """Return an address as it is.

    Raises:
        PydanticCustomError: It is no URL of a web server, or holds a password.
    """
    try:
        parts = urlsplit(text)
        named = bool(parts.hostname) and parts.port != 0
    except ValueError as error:
        raise PydanticCustomError(NOT_SHOWN, "it is no address: {error}", {"error": str(error)}) from None
    if "@" in parts.netloc:
        said = "it has a user or a password, which must not be in a file; name an environment variable under token"
        raise PydanticCustomError(NOT_SHOWN, said)
    if parts.scheme not in ("http", "https") or not named or any(letter.isspace() for letter in text):
        raise PydanticCustomError("address", "it must be an address, as http://localhost:3000")
    return text


def _base(text: str) -> str:
    if "?" in text or "#" in text:
        raise PydanticCustomError("address", "it must end before ? and #: paths are put behind it")
    return text


Name = Annotated[str, AfterValidator(like(r"^[\w.-]+\Z", "a name of letters, digits, `_`, `.` and `-`"))]
UrlPath = Annotated[str, AfterValidator(like(r"^/\S*\Z", "a path that begins with / and has no spaces"))]
Address = Annotated[str, AfterValidator(address)]  # a URL
BaseAddress = Annotated[Address, AfterValidator(_base)]  # a URL that paths are put behind
Identifier = Annotated[str, AfterValidator(_identifier)]  # of something in the database, as the catalog has it
Number = Annotated[float, Field(allow_inf_nan=False)]  # JSON has no other
Scalar = str | int | Number | bool | None


def _inside(path: str) -> str:
    parts = Path(path).parts
    if not parts or Path(path).is_absolute() or ".." in parts or parts[0] in (".git", "~"):
        raise ValueError("it must lie inside the repository, below its top and outside .git")
    return path


Inside = Annotated[str, AfterValidator(_inside)]


DATABASE, RESTORED, ACCESS, HELD = "the database", "the restored database", "access to the database", "what is frozen"


@dataclass(frozen=True)
class Touches:
    """What a step changes, and its undo changes back; and what must stay as it is while its effect is there."""

    changes: frozenset[str] = frozenset()
    rests_on: frozenset[str] = frozenset()


@dataclass(frozen=True, kw_only=True)
class About:
    """What a kind of step says of itself: plan, notebook, log, estimates and recovery path derive from it."""

    title: str  # where the plan gives none
    estimate: int  # seconds, where the plan gives none
    does: str  # what it does, a sentence for the notebook
    expect: str  # what is seen when all goes well
    if_not: str  # what to do when it does not
    preserves: str  # what it leaves alone, or keeps for the undo
    reversible: bool  # for the reference; where not, its undo changes nothing and its preview says why
    log_line: str  # its line in the rollback log, "" for none; may name {repository}
    starts: bool  # whether it starts the services that it names
    starts_on_undo: bool  # whether its undo does
    in_the_way: bool  # whether its effect can keep services from running, so that a recovery path undoes it
    on_table: Literal["", "data", "schema"]  # what it changes in place in the plan's table


class StepSpec(Model):
    """What a plan says of a step; `about`, `touches` and `after` are what its kind says."""

    kind: str
    title: str
    """What people call it."""
    estimate: Annotated[int, Field(gt=0)]
    """Seconds that it should take."""
    options: list[Name] = []
    """The options that it belongs to; none means every one."""

    about: ClassVar[About]
    requires: ClassVar[tuple[Part, ...]]  # the parts of the plan that it works with

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        """Refuse a kind that leaves out what it has to say of itself."""
        if get_origin(cls.model_fields["kind"].annotation) is not Literal:
            return  # a category of kinds
        lacking = [name for name in ("touches", "after") if getattr(getattr(cls, name), "__isabstractmethod__", False)]
        if lacking := [*lacking, *(name for name in ("about", "requires") if not hasattr(cls, name))]:
            raise TypeError(f"{cls.__name__} does not declare {', '.join(lacking)}")

    @model_validator(mode="before")
    @classmethod
    def _with_defaults_of_kind(cls, data: Any) -> Any:
        return {"title": cls.about.title, "estimate": cls.about.estimate, **data} if isinstance(data, dict) else data

    def parts(self) -> tuple[Part, ...]:
        """Return the parts of the plan that it works with. Pure."""
        return self.requires

    @abstractmethod
    def touches(self) -> Touches:
        """What it changes and what it rests on, which decides what must be undone before it. Pure."""

    @abstractmethod
    def after(self, state: State, rules: Rules) -> State:
        """What it makes of code, schema, data and services. Pure."""

    def seconds_to_undo(self, others: Iterable[StepSpec]) -> int:
        """Return how long its undo should take, next to the plan's other steps. Pure."""
        return self.estimate


class ServicesStep(StepSpec):
    """A step that works on services."""

    services: list[Name]
    """The services, in the order in which it works on them."""


class RepositoryStep(StepSpec):
    """A step that works on a repository."""

    repository: Name
    """The repository."""

    requires = ("repositories",)
    builds: ClassVar[bool] = False  # whether such a step puts a build in place

    @property
    def _code(self) -> frozenset[str]:
        return frozenset({f"code of {self.repository}"})


class RevertingStep(RepositoryStep):
    """A step that takes a repository's code back."""

    code: Literal["revert", "reset"] = "revert"
    """By reverting the feature's commits, or by a reset to before them (CODE)."""


class BuildingStep(RepositoryStep):
    """A step that builds a repository's code."""

    builds = True
    clear: list[Inside] = []
    """Caches inside the repository that are removed first."""


class DatabaseStep(StepSpec):
    """A step that works on the database."""


class ClearingStep(DatabaseStep):
    """A step that takes a backfill back."""

    backfill: str | None = None
    """Which of the plan's `backfills`, by its column; the only one where it is left out."""


class RestoringStep(DatabaseStep):
    """A step that restores a backup next to the live database."""

    missing_tables: Literal["refuse", "lose"] = "refuse"
    """Whether tables with rows that the backup lacks are refused or lost (MISSING_TABLES)."""
    on_uncountable: Literal["stop", "lose"] = "stop"
    """What to do where the loss of a table cannot be counted (ON_UNCOUNTABLE)."""
    not_here: Literal["refuse", "leave_out"] = "refuse"
    """Whether what the backup names and this server lacks stops the restore or is left out of it (NOT_HERE)."""
