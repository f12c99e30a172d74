"""The feature's migrations: how their tool names files and records what it applied, and what a plan says of them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from runbook_lib.config.loading import Model, load
from runbook_lib.config.plan.steps import Identifier, Name, Scalar

TOOLS = Path(__file__).with_name("migration_tools.yaml")
BASE = "base"  # as Alembic calls the state before the first migration
DEFAULT_SCHEMA = "public"  # of a plan that names no table


def _pattern(text: str) -> str:
    try:
        re.compile(text)
    except re.error as error:
        raise ValueError(f"it is no regular expression: {error}") from None
    return text


Pattern = Annotated[str, AfterValidator(_pattern)]


class Journal(Model):
    """A file in which a tool keeps what the history holds of each migration, where that is not its version."""

    file: str
    """The JSON file, below the migrations' folder."""
    list: str
    """Its key that holds the list of migrations."""
    version: str
    """The key of an entry that names its version."""
    value: str
    """The key of an entry that holds what the history does."""


class Companion(Model):
    """A file that all migrations share: what happens to it when the code goes back."""

    file: str
    """Where it is: a path or pattern, from the migrations' folder."""
    follows: Literal["migration", "code", "nothing"]
    """What it goes back or stays with; nothing: no migration changes it."""
    because: str
    """Why."""


class Lock(Model):
    """The table by which a tool keeps another of its processes away; its row stays as it is."""

    table: Identifier
    """Its name, in the schema of the history."""
    held: dict[Identifier, Scalar]
    """What its row holds while a process migrates, or after one that was killed."""
    freed_by: list[str]
    """The tool's own command that frees it."""


class MigrationSql(Model):
    """Where the SQL of a migration is: in its files, or in what the tool prints.

    Patterns and commands are filled in for {version}; commands for {previous}, the version before, and what `where` has too.
    """

    files: Pattern | None = None
    """Which of its files apply it, by their path from the migrations' folder."""
    begins: Pattern | None = None
    """What comes before the part of a file that applies it."""
    ends: Pattern | None = None
    """What comes after that part."""
    printed_by: list[str] = []
    """The command that prints it, run in the checkout."""
    incomplete: Pattern | None = None
    """What it prints in place of what is code."""
    shown_by: list[str] = []
    """The command that shows it while it applies the migration, where none prints it alone."""
    shown_where: str = ""
    """Where that shows it, or what it needs to do so."""


class MigrationTool(Model):
    """How a migration tool names its files and records what it applied."""

    title: str
    """What people call it."""
    schema_: Identifier | None = Field(default=None, alias="schema")
    """The schema of its history; left out, that of the plan's table."""
    table: Identifier
    """The table of its history."""
    column: Identifier
    """The column that names a migration."""
    where: dict[Identifier, Scalar] = {}
    """Further columns that name a row, with their values."""
    named_by: list[Identifier] = []
    """Those of them that a plan must give."""
    rows: Literal["each", "one"] = "each"
    """Whether each migration has a row, or one row says where the schema is and is set to the version before."""
    order: Identifier | None = None
    """The column by which later rows are known; left out, that of the version."""
    out_of_order: str = ""
    """What lets it apply a migration below later ones, which it refuses or leaves out by itself."""
    half_applied: dict[Identifier, Scalar] = {}
    """What a row holds whose migration stopped midway."""
    settled: dict[Identifier, Scalar] = {}
    """What the one row holds once it is set to the version before."""
    related: dict[Identifier, Identifier] = {}
    """Tables whose rows go with a row -> the column that both have."""
    referred: list[Identifier] = []
    """Tables that the history refers to."""
    lock: Lock | None = None
    """The table by which it keeps another of its processes away."""
    recorded: Journal | None = None
    """Where to read what the history holds, if it is not the version."""
    directory: str
    """The folder of its files."""
    files: list[Pattern] = []
    """How a file's path, from that folder, shows its `version`."""
    without: str = ""
    """Characters of it that the history leaves out."""
    content: Pattern | None = None
    """How a file's text shows it, where the name need not."""
    parents: Pattern | None = None
    """How the text names the versions before; of a tool with one row else the next smaller number is."""
    sql: MigrationSql = MigrationSql()
    """Where the SQL of a migration is."""
    companions: list[Companion] = []
    """Files that all migrations share."""
    validator: list[str] = []
    """The tool's own command that compares history and files."""


class _Tools(Model):
    tools: dict[Name, MigrationTool]

    @model_validator(mode="before")
    @classmethod
    def _wrapped(cls, data: Any) -> Any:
        return {"tools": data}


@cache
def migration_tools() -> Mapping[str, MigrationTool]:
    """Return the tools that are known, by the names that plans use. Read-only."""
    return load(TOOLS, _Tools).tools


class Migration(MigrationTool):
    """The feature's migrations. Every key of its tool can be overridden here."""

    left_out: ClassVar[Mapping[str, str]] = dict.fromkeys(MigrationTool.model_fields, "as the tool has it")

    tool: str
    """The tool that applied them."""
    repository: Name
    """The repository that holds their files."""
    versions: Annotated[list[str], Field(min_length=1)]
    """Their versions, as the files or the history show them."""
    previous: str | None = None
    """Of a tool that keeps one row: the version before, or `base` where there is none; left out, the files say it."""
    validate_: Literal[True] | Annotated[list[str], Field(min_length=1)] | None = Field(default=None, alias="validate")
    """A command that fails unless history and files agree, run after the rollback; true: the tool's own."""

    @model_validator(mode="before")
    @classmethod
    def _with_what_the_tool_has(cls, data: Any) -> Any:
        if not isinstance(data, dict) or not isinstance(name := data.get("tool"), str):
            return data
        if name not in migration_tools():
            raise ValueError(f"there is no migration tool {name!r}; known are {', '.join(migration_tools())}")
        known = migration_tools()[name].model_dump(by_alias=True, exclude_unset=True)
        where = data.get("where", {})
        return {**known, **data, "where": {**known.get("where", {}), **where} if isinstance(where, dict) else where}

    @model_validator(mode="after")
    def _names_one_row(self) -> Self:
        if missing := [name for name in self.named_by if name not in self.where]:
            raise ValueError(f"{self.title} names a migration by {', '.join(missing)} too: give it under `where`")
        if self.previous is not None and self.rows == "each":
            raise ValueError("`previous` is of a tool that keeps one row; where this one does, say `rows: one`")
        if len(set(self.versions)) != len(self.versions):
            raise ValueError("`versions` names one of them twice")
        return self

    @property
    def validation(self) -> list[str]:
        """The command that is to compare history and files, if any."""
        return self.validator if self.validate_ is True else self.validate_ or []

    @property
    def named(self) -> str:
        """The migrations, in words."""
        return f"{'migrations' if self.versions[1:] else 'migration'} {', '.join(self.versions)}"
