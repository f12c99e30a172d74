"""What jobs wrote into the database that no migration file shows: the kinds of backfill, each with its keys."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Protocol, Self

from pydantic import AfterValidator, Discriminator, Field, Tag, model_validator

from runbook_lib.config.loading import Model
from runbook_lib.config.plan.steps import Identifier, Scalar

_PART = r'"(?:[^"]|"")+"|[^".]+'
_PATH = re.compile(rf"(?:{_PART})(?:\.(?:{_PART})){{0,2}}")
DEFAULT_SCHEMA = "public"
RENAMED = {"touch": "touch_column"}  # keys of earlier plans


@dataclass(frozen=True)
class Place:
    """The column that a backfill wrote into."""

    schema_: str
    table: str
    column: str


def parts_of(path: str) -> list[str]:
    """Return the names in `[schema.]table.column`; one with a dot is in double quotes. Pure."""
    return [part[1:-1].replace('""', '"') if part.startswith('"') else part for part in re.findall(_PART, path)]


def path_of(*names: str) -> str:
    """Return the path of some names. Pure."""
    return ".".join('"{}"'.format(name.replace('"', '""')) if set(name) & {".", '"'} else name for name in names)


def place_of(path: str) -> Place:
    """Return where `[schema.]table.column` is. Pure."""
    *before, table, column = ["", *parts_of(path)][-3:]
    return Place("".join(before) or DEFAULT_SCHEMA, table, column)


def _path(path: str) -> str:
    if not _PATH.fullmatch(path):
        raise ValueError("it must be table.column or schema.table.column")
    return path


class HasTable(Protocol):
    """What says of which table it is."""

    @property
    def schema_(self) -> str:
        """The schema."""

    @property
    def table(self) -> str:
        """The table."""


class ColumnOfRow(Model):
    """A value that each row takes from one of its own columns."""

    column: Identifier
    """The column of the same row."""


class Expression(Model):
    """A value that is computed from the other columns of a row."""

    sql: str
    """An SQL expression; it names columns without their table."""


class BackfillOfColumn(Model):
    """What every kind of backfill says."""

    column: Annotated[str, AfterValidator(_path)]
    """The column that was filled, as `table.column` or `schema.table.column`."""
    key: Identifier | None = None
    """The table's key: one column, unique and never NULL; else the one that the catalog shows."""
    edited: Literal["keep", "clear", "list"] = "keep"
    """What users edited since: kept, cleared, or "list": decided row by row in a file."""
    touch_column: Identifier | None = None
    """A timestamp column that is set with each change, or null."""
    triggers: dict[Identifier, list[Identifier]] = {}
    """Those that may fire -> the tables that they write."""
    drift_tolerance: Annotated[float, Field(ge=0, le=1)] = 0.01
    """By what share the affected rows may differ from those approved, in a plan without `database`."""

    @model_validator(mode="before")
    @classmethod
    def _of_an_earlier_version(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        data = {RENAMED.get(key, key): value for key, value in data.items()}
        return {**data, "cleared": "from_backup"} if data.get("cleared") == "dump" else data

    @property
    def name(self) -> str:
        """The column's own name."""
        return parts_of(self.column)[-1]

    @property
    def place(self) -> Place:
        """Where the column is, of one with a table."""
        return place_of(self.column)

    def is_on(self, other: HasTable) -> bool:
        """Check whether it is on the same table as something else."""
        return (self.place.schema_, self.place.table) == (other.schema_, other.table)


class Backfill(BackfillOfColumn):
    """The elements that a backfill put into a JSON list column, known by a marker, and what clearing them means."""

    source: Identifier
    """The older column that the media were copied from."""
    marker: dict[str, Scalar]
    """What each written element holds, by which it is recognised."""
    written: dict[str, ColumnOfRow | Scalar]
    """The whole element; {column: x} is the row's own value."""
    cleared: Literal["[]", "null", "from_backup"] = "[]"
    """What a row holds again once nothing is left in it; from_backup: NULL where the backup has NULL, else "[]"."""

    @model_validator(mode="before")
    @classmethod
    def _with_null(cls, data: Any) -> Any:
        return {**data, "cleared": "null"} if isinstance(data, dict) and data.get("cleared", "") is None else data


class ScalarBackfill(BackfillOfColumn):
    """The values that a job wrote into a plain column, of any type, and what its rows hold again."""

    written: ColumnOfRow | Expression | Scalar
    """What the job wrote: a value, {column: x} for the row's own value, or {sql: EXPRESSION} on the row."""
    where: str | None = None
    """The condition, in SQL on the row, for the rows that the job touched; all without it."""
    cleared: Scalar
    """What a row holds again: null, a value, or from_backup: the value that this row has in the backup."""

    @property
    def from_backup(self) -> bool:
        """Whether each row gets its own value out of the backup."""
        return self.cleared == "from_backup"

    @model_validator(mode="after")
    def _is_cleared(self) -> Self:
        if self.cleared == self.written and type(self.cleared) is type(self.written):
            raise ValueError("cleared and written are the same, so that nothing would change")
        return self


def _kind(data: Any) -> str:
    marked = "marker" in data if isinstance(data, dict) else isinstance(data, Backfill)
    return "json_list" if marked else "scalar"


AnyBackfill = Annotated[
    Annotated[Backfill, Tag("json_list")] | Annotated[ScalarBackfill, Tag("scalar")],
    Discriminator(_kind),
]
