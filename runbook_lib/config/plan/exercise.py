"""What a plan says of the application's statements that are tried on a clone."""

from __future__ import annotations

import re
from datetime import date, datetime
from typing import Annotated, Self

from pydantic import Field, field_validator, model_validator

from runbook_lib.config.loading import Model

PARAMETER = re.compile(r"\$(\d+)")
Example = str | int | float | bool | date | datetime | None


class Exercise(Model):
    """A statement of the application."""

    sql: str
    """The statement, with its parameters as `$1`, `$2`."""
    with_: dict[Annotated[int, Field(ge=1)], Example] = Field(default={}, alias="with")
    """Example values by the number of the parameter; the others are drawn from existing rows."""

    @field_validator("sql")
    @classmethod
    def _is_one_statement(cls, text: str) -> str:
        from pglast import parse_sql
        from pglast.parser import ParseError

        try:
            count = len(parse_sql(text))
        except ParseError as error:
            raise ValueError(f"it cannot be read: {error.args[0]}; its parameters are written as $1, $2") from None
        if count != 1:
            raise ValueError(f"it must be one statement, and holds {count}")
        return text

    @model_validator(mode="after")
    def _has_the_parameters(self) -> Self:
        there = {int(number) for number in PARAMETER.findall(self.sql)}
        if unknown := sorted(set(self.with_) - there):
            raise ValueError(f"with gives a value for ${unknown[0]}, which sql does not have")
        return self

    @property
    def values(self) -> dict[int, str | None]:
        """The example values as text that the server reads, by number. Pure."""
        return {number: _text(value) for number, value in self.with_.items()}


def _text(value: Example) -> str | None:
    if value is None:
        return None
    return str(value).lower() if isinstance(value, bool) else str(value)
