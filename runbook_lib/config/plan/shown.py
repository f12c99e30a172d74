"""What an API serves and a page shows of the rows: which of them, in how many pages, and which errors do not count."""

from __future__ import annotations

import re
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Discriminator, Field, model_validator

from runbook_lib.config.loading import Model, like
from runbook_lib.config.plan.answer_path import AnswerPath
from runbook_lib.config.plan.steps import Address, Identifier, Name


def _pattern(text: str) -> str:
    try:
        matches_nothing = re.compile(text).fullmatch("") is not None
    except re.error as error:
        raise ValueError(f"it is no regular expression: {error}") from None
    if matches_nothing:
        raise ValueError("it must not match an empty text, as it then matches anywhere")
    return text


Pattern = Annotated[str, AfterValidator(_pattern)]

_COLUMN = r'(?:[A-Za-z_]\w*|"[^"]+")(?: (?i:ASC|DESC))?(?: (?i:NULLS (?:FIRST|LAST)))?'
Order = Annotated[
    str,
    AfterValidator(like(rf"^{_COLUMN}(?:, ?{_COLUMN})*\Z", "columns, as created_at DESC, id DESC")),
]
TEXT_OR_ROWS = Discriminator(lambda value: "<text>" if isinstance(value, str) else "<rows>")


class Rows(Model):
    """Which rows of a sample are served or shown: those that meet a condition, or the first of an order."""

    where: Annotated[str, Field(min_length=1)] | None = None
    """SQL on the columns of one row, as `deleted_at IS NULL`."""
    order: Order | None = None
    """Columns, as `created_at DESC, id DESC`; with `limit`."""
    limit: Annotated[int, Field(gt=0)] | None = None
    """How many rows of a sample, the first of that order."""

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.where is None and self.limit is None:
            raise ValueError("`where`, or `order` and `limit`, is required")
        if (self.order is None) != (self.limit is None):
            raise ValueError("`order` and `limit` go together: without an order nobody knows which rows are the first")
        return self


class ShownText(Model):
    """A text that a page must show: of a column or a field for each row that is shown, or one that is always there."""

    column: Identifier | None = None
    """A column of the plan's table."""
    field: AnswerPath | None = None
    """A field of the items that the API serves, as a path."""
    text: Annotated[str, AfterValidator(like(r"\S", "a text"))] | None = None
    """The text itself."""

    @model_validator(mode="after")
    def _is_of_one_kind(self) -> Self:
        if sum(each is not None for each in (self.column, self.field, self.text)) != 1:
            raise ValueError("exactly one of column, field and text is required")
        return self


class NextPage(Model):
    """How the API is asked for what comes after its answer."""

    at: AnswerPath
    """Where the answer holds the cursor, or the address, of the next page; empty or absent on the last."""
    parameter: Annotated[str, Field(min_length=1)] | None = None
    """The query parameter that takes the cursor; none where the answer holds an address."""


class IgnoredError(Model):
    """An error of the console or the network that does not count, though the page causes it."""

    url: Pattern | None = None
    """A regular expression for the address that it concerns."""
    status: Annotated[int, Field(ge=400, le=599)] | None = None
    """The HTTP status of the answer, as 401."""
    text: Pattern | None = None
    """A regular expression for what it says."""
    because: Annotated[str, Field(min_length=1)]
    """Why it does not count."""

    @model_validator(mode="after")
    def _says_which(self) -> Self:
        if self.url is None and self.text is None:
            raise ValueError("`url` or `text` is required: a status alone would hide errors of every request")
        return self


class KnownBefore(Model):
    """A finding of a check that is no reason for a rollback, as it was there before the release."""

    check: Name
    """The check."""
    says: Pattern
    """A regular expression for the whole of a finding."""
    because: Annotated[str, Field(min_length=1)]
    """How it is known that it was there before."""


class Errors(Model):
    """Which errors of a page count."""

    ignore: list[IgnoredError] = []
    """Those that do not, such as what was there before the release."""
    own: list[Annotated[Address, AfterValidator(like(r"^\w+://[^/?#]+\Z", "an origin, as https://cdn.example.org"))]] = []
    """Origins that are ours next to those of the target's endpoints, such as a CDN's: their errors count."""
    third_parties: Literal["unknown", "ignore"] = "unknown"
    """What an error of any other origin is, where the page did not cause it before the rollback."""
