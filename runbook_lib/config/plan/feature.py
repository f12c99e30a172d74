"""What a feature touched: repositories, API, page and database, and which versions work together."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, Tag, model_validator

from runbook_lib.config.loading import Model
from runbook_lib.config.plan.answer_path import AnswerPath
from runbook_lib.config.plan.backfills import Backfill, path_of
from runbook_lib.config.plan.media_rules import MediaRule
from runbook_lib.config.plan.parts import there
from runbook_lib.config.plan.shown import TEXT_OR_ROWS, Errors, NextPage, Rows, ShownText
from runbook_lib.config.plan.steps import Identifier, Inside, Name, UrlPath

CommitId = Annotated[str, Field(pattern=r"^[0-9a-f]{7,64}$")]


class Repository(Model):
    """A repository that holds commits of the feature: those that name it, and those listed here."""

    commits: list[CommitId] = []
    """Commits of the feature that do not name it."""
    exclude: list[CommitId] = []
    """What is not the feature's, though it names it."""
    decide: dict[CommitId, Literal["feature", "other"]] = {}
    """Of commits that may be the feature's: whether each is; the same as listing it under `commits` or `exclude`."""
    paths: dict[Name, list[Inside]] = {}
    """Service -> what it is built from, where the repository holds several."""
    range: Annotated[str, Field(pattern=r"^[^\s.-]\S*[^.]\.\.[^\s.-]\S*$")] | None = (
        None  # "a..b": what b holds and a does not
    )
    """A range of such commits, `a..b`: what b holds and a does not."""

    @model_validator(mode="before")
    @classmethod
    def _with_what_was_decided(cls, data: Any) -> Any:
        decided = data.get("decide") if isinstance(data, dict) else None
        if not isinstance(decided, dict):
            return data
        found = dict(data)
        for key, answer in (("commits", "feature"), ("exclude", "other")):
            listed = found.get(key, [])
            if isinstance(listed, list):
                found[key] = [*listed, *(id for id, given in decided.items() if given == answer and id not in listed)]
        return found


class Compatible(Model):
    """One combination of code, schema and data that works."""

    code: Literal["before", "feature"]
    """The version of the code."""
    schema_: Literal["before", "feature"] = Field(alias="schema")
    """The version of the schema."""
    data: Literal["before", "feature"]
    """The version of the data."""


class Need(Model):
    """A service whose code from one side runs only with another service's code from the side given."""

    service: Name
    """The service that needs another."""
    code: Literal["before", "feature"]
    """The version of it that does."""
    needs: Name
    """The service that it needs."""
    version: Literal["before", "feature"]
    """The version that this one must have."""


class Sample(Model):
    """Which groups of rows the checks look at: some values of a column, in rows where `having` is filled."""

    column: Name
    """The column whose values are asked for."""
    having: Name
    """Only rows that hold something in this column."""
    count: Annotated[int, Field(gt=0)]
    """How many values are asked for."""


class Api(Model):
    """The request that shows whether older clients are served; fields may be paths, as media.url."""

    service: Name
    """The service that serves it."""
    path: UrlPath
    """The path; {sample} is filled in."""
    items: AnswerPath | None = None
    """Where the answer holds its items, as a path; left out, the answer is a list, or an object with one list."""
    present: AnswerPath
    """The field that older clients read, as a path."""
    omitted: Literal["empty", "missing"] | None = None
    """What it is where an item lacks it: empty, as serializers that omit nulls have it, or missing; left out, UNKNOWN."""
    absent_or_empty: AnswerPath
    """The field of the feature, as a path."""
    key: AnswerPath = "id"
    """The field that names an item."""
    next: NextPage | None = None
    """How further pages of an answer are asked for."""
    rows: Annotated[Annotated[Rows, Tag("<rows>")] | Annotated[Literal["all"], Tag("<text>")], TEXT_OR_ROWS] | None = None
    """Which rows of a sample it serves."""
    sample: Sample
    """What is asked for."""


class Page(Model):
    """The page that shows a user what was rolled back."""

    service: Name
    """The service that serves it."""
    path: UrlPath
    """The path; {sample} is filled in."""
    ready: str
    """The CSS selector that matches once it is ready."""
    items: str
    """The selector of its items."""
    media: str
    """The selector of its pictures and videos."""
    media_rules: list[MediaRule] | None = None
    """How an address on the page becomes the stored one, in order; an empty list: it is shown as it is stored."""
    rows: (
        Annotated[Annotated[Rows, Tag("<rows>")] | Annotated[Literal["all", "served"], Tag("<text>")], TEXT_OR_ROWS] | None
    ) = None
    """Which rows of a sample it shows: a condition, all, or what the API serves; left out, those of `api.rows`."""
    texts: list[ShownText] = []
    """Which texts it must show."""
    errors: Errors = Errors()
    """Which errors of its console and network count."""
    forbidden_text: str
    """A text that the page must not show."""
    samples: Annotated[int, Field(gt=0)]
    """How many samples are opened."""
    also: list[Annotated[str, Field(pattern=r"^/[^{}]*$")]] = []
    """Other pages, which must load without errors."""


Fraction = Annotated[float, Field(ge=0, le=1)]


class Database(Model):
    """The part of the database that the feature touched."""

    schema_: Identifier = Field(alias="schema")
    """The schema of the table."""
    table: Identifier
    """The table."""
    key: Identifier
    """Its key: one column, unique and never NULL."""
    columns: dict[Identifier, str]
    """The columns that the feature added, with their types."""
    kept_columns: dict[Identifier, str]
    """Older columns that must be there, with their types."""
    indexes: list[Identifier]
    """The indexes that the feature added."""
    constraints: list[Identifier]
    """The constraints that the feature added."""
    backfill_: Backfill | None = Field(default=None, alias="backfill")
    """An earlier form of the one entry of `backfills` on this table, whose `column` has no table."""
    drift_tolerance: Fraction
    """By what share the affected rows may differ from those approved."""
    triggers: dict[Identifier, list[Identifier]] = {}
    """Those that may fire -> the tables that they write."""
    unmanaged: list[str] = []
    """What came since the backup and is not the feature's, as a preview names it."""

    @model_validator(mode="before")
    @classmethod
    def _of_an_earlier_version(cls, data: Any) -> Any:
        found = data.get("backfill") if isinstance(data, dict) else None
        if not isinstance(found, dict) or not isinstance(found.get("column"), str):
            return data
        return {**data, "backfill": {**found, "column": path_of(found["column"])}}

    @property
    def backfill(self) -> Backfill:
        """What the backfill wrote, for what declares that it requires it.

        Raises:
            ParametersError: The plan has none.
        """
        return there(self.backfill_, "backfill")


class RollbackType(Model):
    """A way to roll back: its own steps, the type that is executed in its place, or what a person has to do."""

    title: str
    """What people call it."""
    notebook: str | None = None
    """The notebook that walks it."""
    options: dict[Name, str] = {}
    """What may happen to the data: name -> description."""
    steps: list[Name] = []
    """Its steps, in order."""
    checks: list[Name] = []
    """What must pass at the end."""
    budget: Annotated[int, Field(gt=0)] | None = None
    """Seconds."""
    escalates_to: Name | None = None
    """The type to escalate to if this one was not sufficient."""
    escalates_on: list[Name] = []
    """The checks whose failure says so."""
    carried_out_as: Name | None = None
    """The type that is executed in its place."""
    because: str | None = None
    """Why."""
    changes: list[Name] = []
    """With carried_out_as: what it would change by itself: data, schema, repositories."""
    by_hand: str | None = None
    """What a person has to do, where the runbook does not do it."""
    in_fleet: bool = False
    """Whether only a fleet walks it, which takes the rest back by another type: both together keep to `compatibility`."""

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if sum(map(bool, (self.steps, self.carried_out_as, self.by_hand))) != 1:
            raise ValueError("give exactly one of steps, carried_out_as and by_hand")
        if bool(self.carried_out_as) != bool(self.changes):
            raise ValueError("carried_out_as and changes, what the type would change by itself, go together")
        return self


class Trouble(Model):
    """A trouble with a rollback: the checks that show it, those that still pass, and the type that fixes it."""

    title: str
    """What is seen."""
    cause: str
    """The usual cause."""
    signs: Annotated[list[Name], Field(min_length=1)]
    """The checks of which any shows it."""
    passing: list[Name] = []
    """The checks that pass meanwhile."""
    fix: Name
    """The type that fixes it."""


class Monitor(Model):
    """How a symptom is watched before a rollback is recommended; both times in seconds."""

    every: Annotated[int, Field(gt=0)]
    """Seconds between two looks."""
    lasts: Annotated[int, Field(gt=0)]
    """Seconds for which it is watched."""
    failures: Annotated[int, Field(gt=0)]
    """Failed rounds in a row that end the watch early."""


class MatrixRow(Model):
    """A symptom, how the checks show it, and the rollback it asks for; the first check under `failing` is its own."""

    symptom: str
    """What is seen."""
    severity: Literal["medium", "high", "critical"]
    """How bad it is."""
    action: Literal["immediate", "investigate first", "monitor"]
    """What to do when it is seen."""
    type: Name
    """The rollback type that it asks for."""
    failing: Annotated[list[Name], Field(min_length=1)]
    """The checks that fail; the first fails with no other symptom."""
    passing: list[Name] = []
    """The checks that pass meanwhile."""
    confirmed_by: list[Name] = []
    """What must pass for the rollback to be the remedy; made where the action is to investigate."""
    findings: list[Name] = []
    """What is shown too, and decides nothing."""
    monitor: Monitor | None = None
    """How long it is watched, where the action is monitor."""

    @model_validator(mode="after")
    def _action_has_its_means(self) -> Self:
        if (self.action == "monitor") != (self.monitor is not None):
            raise ValueError("`monitor` is required if the action is to monitor, and not allowed otherwise")
        if (self.action == "investigate first") != bool(self.confirmed_by):
            raise ValueError("`confirmed_by` is required if the action is to investigate first, and not allowed otherwise")
        return self

    @property
    def own(self) -> str:
        """The name of the check that is this row's own."""
        return self.failing[0]

    @property
    def asks(self) -> str:
        """The action in words, as "monitor 1 h"."""
        if self.monitor is None:
            return self.action
        minutes = self.monitor.lasts / 60
        return f"monitor {minutes / 60:g} h" if minutes >= 60 else f"monitor {minutes:g} min"
