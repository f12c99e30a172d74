"""The part of the database that a feature touched, and what its backfill wrote there."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from runbook_lib.parameters import Model
from runbook_lib.plan.values import Name, Scalar

Fraction = Annotated[float, Field(ge=0, le=1)]


class ColumnOfRow(Model):
    """A value that each row takes from one of its own columns."""

    column: Name


class Migration(Model):
    """The migration that added the columns: its row in the history and its file in a repository."""

    version: str
    history_table: Name
    history_column: Name
    repository: Name
    directory: str
    validate_: list[str] | None = Field(default=None, alias="validate", min_length=1)  # fails unless history and files agree


class Backfill(Model):
    """The elements that the feature's backfill put into a JSON list column, and what clearing them means."""

    column: Name
    source: Name  # the older column that the media were copied from
    marker: dict[str, Scalar]
    written: dict[str, ColumnOfRow | Scalar]
    cleared: Literal["[]", "null", "dump"]  # "dump": NULL where the backup from before the backfill has NULL, else "[]"
    edited: Literal["keep", "clear", "list"]  # "list": row by row, by a file of decisions
    touch: Name | None


class Database(Model):
    """The part of the database that the feature touched."""

    schema_: Name = Field(alias="schema")
    table: Name
    key: Name
    columns: dict[Name, str]
    kept_columns: dict[Name, str]
    indexes: list[Name]
    constraints: list[Name]
    migration: Migration
    backfill: Backfill
    drift_tolerance: Fraction
