"""What a feature changed and how it is taken back: pure data, read from one YAML file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from runbook_lib.errors import ParametersError
from runbook_lib.parameters import Model, load

Fraction = Annotated[float, Field(ge=0, le=1)]
Name = Annotated[str, Field(pattern=r"^[\w.-]+$")]
Scalar = str | int | bool | None


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


class Repository(Model):
    """A repository that holds commits of the feature."""


class Compatible(Model):
    """One combination of code, schema and data that works."""

    code: Literal["before", "feature"]
    schema_: Literal["before", "feature"] = Field(alias="schema")
    data: Literal["before", "feature"]


class Sample(Model):
    """Which groups of rows the checks look at: some values of a column, in rows where `having` is filled."""

    column: Name
    having: Name
    count: Annotated[int, Field(gt=0)]


class Api(Model):
    """The request that shows whether older clients are served."""

    service: Name
    path: str
    present: str
    absent_or_empty: str
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


class _Step(Model):
    title: str
    estimate: Annotated[int, Field(gt=0)]  # seconds
    options: list[Name] = []  # the options that it belongs to; none means every one


class ServicesStep(_Step):
    """Stop, start or restart services."""

    kind: Literal["stop", "start", "restart"]
    services: list[Name]


class RepositoryStep(_Step):
    """Take a repository's code back, or build it."""

    kind: Literal["revert", "build"]
    repository: Name


class FreezeStep(_Step):
    """Hold still what the target names, or let it go again."""

    kind: Literal["freeze", "release"]


class PurgeCacheStep(_Step):
    """Purge the caches in front of the services, where the target names a command for it."""

    kind: Literal["purge_cache"]


class DatabaseStep(_Step):
    """A step that works on the database."""


class BackupStep(DatabaseStep):
    """Back the database up."""

    kind: Literal["backup"]


class FenceStep(DatabaseStep):
    """Keep the application's role out of the database, or let it in again."""

    kind: Literal["fence", "let_in"]


class ClearBackfillStep(DatabaseStep):
    """Take what the backfill wrote out of the data."""

    kind: Literal["clear_backfill"]
    strategy: Literal["auto", "swap", "batched", "keyed"] = "auto"
    live: bool = False  # whether the application may go on using the table meanwhile


class RemoveColumnsStep(DatabaseStep):
    """Take the feature's columns, with their indexes and constraints, out of the table."""

    kind: Literal["remove_columns"]
    mode: Literal["drop", "quarantine"] = "quarantine"


class RestoreAsideStep(DatabaseStep):
    """Restore the newest backup into a database beside the live one, and count what its taking the place would lose."""

    kind: Literal["restore_aside"]
    jobs: Annotated[int, Field(gt=0)] = 2
    missing_tables: Literal["refuse", "lose"] = "refuse"  # tables with rows that the backup does not hold
    uncounted: Literal["stop", "lose"] = "stop"  # tables whose loss cannot be counted, as where they are corrupt


class SwapDatabaseStep(DatabaseStep):
    """Put the database restored aside in the place of the live one."""

    kind: Literal["swap_database"]
    salvage: Literal["carry", "nothing"] = "nothing"  # what becomes of rows written since the backup


StepSpec = Annotated[
    ServicesStep
    | RepositoryStep
    | FreezeStep
    | PurgeCacheStep
    | BackupStep
    | FenceStep
    | ClearBackfillStep
    | RemoveColumnsStep
    | RestoreAsideStep
    | SwapDatabaseStep,
    Field(discriminator="kind"),
]


class RollbackType(Model):
    """A way to roll back: its own steps, the type carried out in its place, or a word on why a person does it."""

    title: str
    notebook: str | None = None
    options: dict[Name, str] = {}  # what may happen to the data: name -> description
    steps: list[Name] = []
    checks: list[Name] = []
    budget: Annotated[int, Field(gt=0)] | None = None  # seconds
    escalates_to: Name | None = None
    escalates_on: list[Name] = []
    carried_out_as: Name | None = None
    because: str | None = None
    by_hand: str | None = None

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if sum(map(bool, (self.steps, self.carried_out_as, self.by_hand))) != 1:
            raise ValueError("exactly one of steps, carried_out_as and by_hand must stand here")
        return self


class _Check(Model):
    title: str


class SimpleCheck(_Check):
    """A check that needs nothing but the plan's own facts."""

    kind: Literal[
        "services",
        "schema",
        "api_present",
        "api_absent",
        "page_media",
        "page_console",
        "page_thread",
        "page_render",
        "page_returning",
        "proof",
        "integrity",
    ]


class LogsCheck(_Check):
    """The logs of services hold no errors."""

    kind: Literal["logs"]
    services: list[Name]


class LatencyCheck(_Check):
    """The API answers as fast as the plan says."""

    kind: Literal["latency"]
    requests: Annotated[int, Field(ge=10)]
    p95_ms: Annotated[float, Field(gt=0)]


CheckSpec = Annotated[SimpleCheck | LogsCheck | LatencyCheck, Field(discriminator="kind")]


class MatrixRow(Model):
    """A symptom, how the checks show it, and the rollback it asks for."""

    symptom: str
    severity: Literal["medium", "high", "critical"]
    action: str
    type: Name
    failing: list[Name]
    passing: list[Name] = []


class Plan(Model):
    """A feature's rollback plan."""

    feature: str
    title: str
    database: Database
    repositories: dict[Name, Repository]
    services: list[Name]
    compatibility: list[Compatible]
    api: Api
    page: Page
    steps: dict[Name, StepSpec]
    types: dict[Name, RollbackType]
    checks: dict[Name, CheckSpec]
    decision_matrix: list[MatrixRow]
    escalation: list[str]
    follow_ups: list[str]

    @model_validator(mode="after")
    def _names_are_defined(self) -> Self:
        def known(names: list[str], table: dict[str, object] | list[str], where: str, table_name: str) -> None:
            for name in names:
                if name not in table:
                    raise ValueError(f"{where} names {name!r}, which {table_name} does not define")

        options = [option for kind in self.types.values() for option in kind.options]
        for name, step in self.steps.items():
            known(step.options, options, f"steps.{name}", "the options of types")
            if isinstance(step, ServicesStep):
                known(step.services, self.services, f"steps.{name}", "services")
            if isinstance(step, RepositoryStep):
                known([step.repository], dict(self.repositories), f"steps.{name}", "repositories")
        for name, kind in self.types.items():
            known(kind.steps, dict(self.steps), f"types.{name}", "steps")
            for walked in kind.steps:
                if (of := self.steps[walked].options) and not set(of) & set(kind.options):
                    raise ValueError(f"types.{name} walks {walked!r}, which belongs to none of its options")
            known([*kind.checks, *kind.escalates_on], dict(self.checks), f"types.{name}", "checks")
            known([t for t in (kind.escalates_to, kind.carried_out_as) if t], dict(self.types), f"types.{name}", "types")
        for row in self.decision_matrix:
            known([row.type], dict(self.types), f"decision_matrix ({row.symptom})", "types")
            known([*row.failing, *row.passing], dict(self.checks), f"decision_matrix ({row.symptom})", "checks")
        known([self.api.service, self.page.service], self.services, "api and page", "services")
        known([self.database.migration.repository], dict(self.repositories), "database.migration", "repositories")
        return self

    def steps_of(self, type_name: str, option: str) -> list[str]:
        """The steps of a type, in order, without those of other options than `option`. Read-only."""
        return [n for n in self.types[type_name].steps if not self.steps[n].options or option in self.steps[n].options]

    def carried_out(self, type_name: str) -> str:
        """The name of the type whose steps are walked when `type_name` is chosen. Read-only.

        Raises:
            ParametersError: There is no such type, or a person has to carry it out.
        """
        if type_name not in self.types:
            raise ParametersError(
                f"The plan has no rollback type {type_name!r}.",
                state="Nothing was touched.",
                safe_next=f"Choose one of: {', '.join(self.types)}.",
            )
        chosen = self.types[type_name]
        if chosen.by_hand:
            raise ParametersError(
                f"{chosen.title} is not carried out here. {chosen.by_hand}",
                state="Nothing was touched.",
                safe_next=chosen.by_hand,
            )
        return self.carried_out(chosen.carried_out_as) if chosen.carried_out_as else type_name


def load_plan(path: Path) -> Plan:
    """Read a plan from its YAML file. Read-only.

    Raises:
        ParametersError: A key is unknown, missing or of the wrong type.
    """
    return load(path, Plan)
