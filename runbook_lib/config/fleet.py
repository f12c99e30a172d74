"""A fleet: one plan, many targets, and the waves in which they are rolled back."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from runbook_lib.config.loading import NOT_SHOWN, Model, load
from runbook_lib.config.plan.steps import Name

REST = "rest"
Seconds = Annotated[int, Field(gt=0)]


def _wave(size: object) -> object:
    if isinstance(size, int) and not isinstance(size, bool):
        if size < 1:
            raise ValueError("a wave has at least one target")
        return size
    share = re.fullmatch(r"(\d+(?:\.\d+)?) ?%", size) if isinstance(size, str) else None
    if size != REST and not (share and 0 < float(share[1]) <= 100):
        raise ValueError("it must be a number of targets, a share as 25 %, or rest")
    return size


def _listed(target: object) -> object:
    if not isinstance(target, str | dict | Member):
        raise ValueError("it must be a name, in quotes where YAML takes it for something else, or name and labels")
    return target


def _ends_with_the_rest(waves: list[int | str]) -> list[int | str]:
    if waves[-1:] != [REST] or waves.count(REST) > 1:
        raise ValueError("the last wave, and no other, must be rest: so no target is left out")
    return waves


def _safe_name(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}", name):
        raise ValueError("a name has letters, digits, _, . and -, at most 63, and begins with a letter or digit")
    return name


def _without_name(labels: dict[str, str]) -> dict[str, str]:
    if "name" in labels:
        raise ValueError("{target.name} is the target's name; call the label something else")
    return labels


def _file(path: str) -> str:
    if not Path(path).is_file():
        raise PydanticCustomError(
            NOT_SHOWN, "it must be the path of a file that exists here"
        )  # the text may be a key itself
    return path


PathOfFile = Annotated[str, AfterValidator(_file)]


class Query(Model):
    """A query that lists the targets: one row each; its column `name` names the target, each other column is a label."""

    service: Name
    """The libpq service of the directory's database."""
    sql: Annotated[str, Field(min_length=1)]
    """One query; it is executed in a transaction that may only read."""


class Member(Model):
    """One target of a list, with labels that its template and the waves may use."""

    name: Annotated[str, AfterValidator(_safe_name)]
    """Its name, unique in the fleet."""
    labels: Annotated[dict[Name, str], AfterValidator(_without_name)] = {}
    """What else the template fills in, as {target.database}."""


class Targets(Model):
    """Which targets the fleet has: exactly one of `list`, `glob` and `query`."""

    list_: Annotated[list[Annotated[Member | str, BeforeValidator(_listed)]], Field(min_length=1)] | None = Field(
        None, alias="list"
    )
    """Their names, or names with labels."""
    glob: Annotated[str, Field(min_length=1)] | None = None
    """Target files, one a target, as `targets/*.yaml`; they need no template."""
    query: Query | None = None
    """A query of a directory database."""

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if sum(each is not None for each in (self.list_, self.glob, self.query)) != 1:
            raise ValueError("name the targets by exactly one of list, glob and query")
        return self


class Soak(Model):
    """What happens between two waves: a wait, then a look at the targets of the wave that just ended."""

    seconds: Annotated[int, Field(ge=0)]
    """Seconds to wait after a wave."""
    checks: list[Name] = []
    """Checks of the plan that each target of the wave must pass after the wait; without any, the wait is all."""


class Shared(Model):
    """What all targets share, such as code and services: one run of its own, rolled back once."""

    target: str
    """The target file of the shared parts."""
    type: Name
    """The rollback type, whose steps leave the targets' databases alone."""
    option: str = "A"
    """Its option."""
    when: Literal["before", "after"]
    """Before the first wave or after the last; the plan's compatibility table must allow what runs in between."""


class Fleet(Model):
    """One plan for many targets."""

    name: Annotated[str, AfterValidator(_safe_name)]
    """What the fleet is called; on production it is typed before anything happens."""
    plan: str
    """The plan file."""
    type: Name
    """The rollback type that each target is rolled back by."""
    option: str = "A"
    """Its option."""
    choose: dict[Name, str] = {}
    """The choices of its steps for every target, as `STRATEGY: batched`."""
    template: str | None = None
    """A target file in which {target.name} and {target.LABEL} are filled in for each target."""
    per_target: dict[str, Any] = {}
    """Put over the plan for each target, with labels filled in, as `database: {schema: "{target.schema}"}`; a key that is
    null is left out."""
    targets: Targets
    """Which targets there are."""
    server: str | None = None
    """The server of a target, as "{target.host}", for `at_once`; else its libpq service."""
    canaries: list[str] = []
    """Targets of a first wave of their own, by name; no other target begins before one of them is rolled back."""
    waves: Annotated[list[Annotated[int | str, BeforeValidator(_wave)]], AfterValidator(_ends_with_the_rest)] = [REST]
    """The size of each wave, as [1, 5 %, 25 %, rest]; a share counts all targets but the canaries, rounded up."""
    at_once: Annotated[int, Field(gt=0, le=64)] = 2
    """How many targets of one server are rolled back at once, without those that wait for a lock for more than 10 s."""
    max_failures: Annotated[int, Field(ge=0)] = 0
    """How many targets may fail before no other is begun."""
    soak: Soak | None = None
    """What happens between two waves."""
    shared: Shared | None = None
    """What all targets share."""
    deadline: Seconds | None = None
    """Seconds from `runbook fleet run` after which no target is begun any more; after a kill they are counted on."""

    @model_validator(mode="after")
    def _template_or_files(self) -> Self:
        if (self.targets.glob is None) != (self.template is not None):
            raise ValueError("a list or a query needs a template; a glob names whole target files and takes none")
        return self


def load_fleet(path: Path) -> Fleet:
    """Read a fleet file. Read-only.

    Raises:
        ParametersError: It is missing, or a key is unknown, missing or of the wrong type.
    """
    return load(path, Fleet)


class Tls(Model):
    """The TLS files by which this machine connects to a team's Dask scheduler; keys are called as Dask calls them."""

    tls_ca_file: PathOfFile
    """The certificate of the authority that signed the scheduler's."""
    tls_client_cert: PathOfFile
    """The certificate of this machine."""
    tls_client_key: PathOfFile
    """The private key of that certificate."""


def load_tls(path: Path) -> Tls:
    """Read a file of TLS paths. Read-only.

    Raises:
        ParametersError: It is missing, a key is unknown or missing, or a file that it names does not exist.
    """
    return load(path, Tls)
