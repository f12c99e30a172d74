"""What else a feature touched: repositories, the API, the page, and which versions of it all work together."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from runbook_lib.parameters import Model
from runbook_lib.plan.values import Name


class Repository(Model):
    """A repository that holds commits of the feature: those that name it, and those listed here."""

    commits: list[Annotated[str, Field(pattern=r"^[0-9a-f]{7,40}$")]] = []
    range: Annotated[str, Field(pattern=r"^[^\s.-]\S*[^.]\.\.[^\s.-]\S*$")] | None = (
        None  # "a..b": what b holds and a does not
    )


class Compatible(Model):
    """One combination of code, schema and data that works."""

    code: Literal["before", "feature"]
    schema_: Literal["before", "feature"] = Field(alias="schema")
    data: Literal["before", "feature"]


class Need(Model):
    """A service whose code from one side runs only with another service's code from the side given."""

    service: Name
    code: Literal["before", "feature"]
    needs: Name
    version: Literal["before", "feature"]


class Sample(Model):
    """Which groups of rows the checks look at: some values of a column, in rows where `having` is filled."""

    column: Name
    having: Name
    count: Annotated[int, Field(gt=0)]


class Api(Model):
    """The request that shows whether older clients are served; fields may be paths, as media.url."""

    service: Name
    path: str
    present: str
    absent_or_empty: str
    key: str = "id"  # the field that names an item
    sample: Sample


class Page(Model):
    """The page that shows a user what was rolled back."""

    service: Name
    path: str
    ready: str
    items: str
    media: str
    forbidden_text: str
    samples: Annotated[int, Field(gt=0)]
    also: list[Annotated[str, Field(pattern=r"^/[^{}]*$")]] = []  # other pages, which must load without errors
