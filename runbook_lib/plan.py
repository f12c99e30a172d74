"""What a feature changed and how it is taken back: pure data, read from one YAML file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from runbook_lib.compatibility import alone, contradiction
from runbook_lib.errors import ParametersError
from runbook_lib.parameters import Model, load

Fraction = Annotated[float, Field(ge=0, le=1)]
Name = Annotated[str, Field(pattern=r"^[\w.-]+$")]
Scalar = str | int | bool | None


def _inside(path: str) -> str:
    parts = Path(path).parts
    if not parts or Path(path).is_absolute() or ".." in parts or parts[0] in (".git", "~"):
        raise ValueError("it must lie inside the repository, below its top and outside .git")
    return path


Inside = Annotated[str, AfterValidator(_inside)]


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


class _Step(Model):
    title: str
    estimate: Annotated[int, Field(gt=0)]  # seconds
    options: list[Name] = []  # the options that it belongs to; none means every one


class ServicesStep(_Step):
    """Stop, start or restart services."""

    kind: Literal["stop", "start", "restart"]
    services: list[Name]


class RepositoryStep(_Step):
    """A step that works on a repository."""

    repository: Name


class RevertStep(RepositoryStep):
    """Take a repository's code back."""

    kind: Literal["revert"]
    code: Literal["revert", "reset"] = "revert"


class BuildStep(RepositoryStep):
    """Build a repository's code."""

    kind: Literal["build"]
    clear: list[Inside] = []  # caches to be removed before it


class PushStep(RepositoryStep):
    """Push a repository's code to where the next deployment takes it from."""

    kind: Literal["push"]


class RebuildStep(RepositoryStep):
    """Build a repository's code anew, its caches cleared, though it may be built already."""

    kind: Literal["rebuild"]
    clear: list[Inside]


class EndSessionsStep(_Step):
    """End the sessions that others hold on the database."""

    kind: Literal["end_sessions"]


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


class RestorePartStep(DatabaseStep):
    """Restore one column of a table from the backup, or the table's missing rows, or the table where it is gone."""

    kind: Literal["restore_part"]
    table: Name
    column: Name | None = None
    fill: Literal["missing", "differing"] = "missing"  # the rows of the column that are written


StepSpec = Annotated[
    ServicesStep
    | RevertStep
    | BuildStep
    | PushStep
    | RebuildStep
    | EndSessionsStep
    | FreezeStep
    | PurgeCacheStep
    | BackupStep
    | FenceStep
    | ClearBackfillStep
    | RemoveColumnsStep
    | RestoreAsideStep
    | SwapDatabaseStep
    | RestorePartStep,
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
    changes: list[Name] = []  # with carried_out_as: what it would change by itself: data, schema, repositories
    by_hand: str | None = None

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if sum(map(bool, (self.steps, self.carried_out_as, self.by_hand))) != 1:
            raise ValueError("exactly one of steps, carried_out_as and by_hand must stand here")
        if bool(self.carried_out_as) != bool(self.changes):
            raise ValueError("carried_out_as and changes, what the type would change by itself, go together")
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
        "page_served",
        "page_console",
        "page_thread",
        "page_render",
        "page_returning",
        "proof",
        "integrity",
        "sessions",
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


class FreshCheck(_Check):
    """A service runs a build of what is checked out, without the feature."""

    kind: Literal["fresh"]
    service: Name


class SlowQueriesCheck(_Check):
    """No statement of the application takes longer, on average, than the plan says."""

    kind: Literal["slow_queries"]
    mean_ms: Annotated[float, Field(gt=0)]
    unmeasured: Literal["unknown", "leave out"] = "unknown"  # on a checklist, where the server measures no statements


class ReferenceCheck(_Check):
    """The media that were visible before are visible now, measured against a named reference."""

    kind: Literal["reference"]
    reference: Literal["backup", "api"]  # "api": the API from before the feature, which the target names
    where: Literal["shown", "source"]  # in what the deployed page reads, or in what older code does, whatever is deployed


CheckSpec = Annotated[
    SimpleCheck | LogsCheck | LatencyCheck | SlowQueriesCheck | ReferenceCheck | FreshCheck, Field(discriminator="kind")
]


class Trouble(Model):
    """A trouble with a rollback: the checks of which any shows it, those that pass meanwhile, and the type that mends it."""

    title: str
    cause: str
    signs: Annotated[list[Name], Field(min_length=1)]
    passing: list[Name] = []
    fix: Name


class Monitor(Model):
    """How a symptom is watched before a rollback is recommended; both times in seconds."""

    every: Annotated[int, Field(gt=0)]
    lasts: Annotated[int, Field(gt=0)]
    failures: Annotated[int, Field(gt=0)]  # failed rounds in a row that end the watch early


class MatrixRow(Model):
    """A symptom, how the checks show it, and the rollback it asks for; the first check under `failing` is its own."""

    symptom: str
    severity: Literal["medium", "high", "critical"]
    action: Literal["immediate", "investigate first", "monitor"]
    type: Name
    failing: Annotated[list[Name], Field(min_length=1)]
    passing: list[Name] = []
    confirmed_by: list[
        Name
    ] = []  # what must pass for the rollback to be the remedy; made where the action is to investigate
    findings: list[Name] = []  # what is shown beside, and decides nothing
    monitor: Monitor | None = None

    @model_validator(mode="after")
    def _action_has_its_means(self) -> Self:
        if (self.action == "monitor") != (self.monitor is not None):
            raise ValueError("`monitor` must stand where the action is to monitor, and nowhere else")
        if (self.action == "investigate first") != bool(self.confirmed_by):
            raise ValueError("`confirmed_by` must stand where the action is to investigate first, and nowhere else")
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


class Plan(Model):
    """A feature's rollback plan."""

    feature: str
    title: str
    database: Database
    repositories: dict[Name, Repository]
    services: list[Name]
    compatibility: list[Compatible]
    needs: list[Need] = []
    api: Api
    page: Page
    steps: dict[Name, StepSpec]
    types: dict[Name, RollbackType]
    checks: dict[Name, CheckSpec]
    decision_matrix: list[MatrixRow]
    troubles: dict[Name, Trouble] = {}
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
            known(kind.changes, ["data", "schema", *self.repositories], f"types.{name}", "data, schema and repositories")
            known([*kind.checks, *kind.escalates_on], dict(self.checks), f"types.{name}", "checks")
            known([t for t in (kind.escalates_to, kind.carried_out_as) if t], dict(self.types), f"types.{name}", "types")
        for row in self.decision_matrix:
            known([row.type], dict(self.types), f"decision_matrix ({row.symptom})", "types")
            named = [*row.failing, *row.passing, *row.confirmed_by, *row.findings]
            known(named, dict(self.checks), f"decision_matrix ({row.symptom})", "checks")
        for name, trouble in self.troubles.items():
            known([trouble.fix], dict(self.types), f"troubles.{name}", "types")
            known([*trouble.signs, *trouble.passing], dict(self.checks), f"troubles.{name}", "checks")
        known([self.api.service, self.page.service], self.services, "api and page", "services")
        known([name for need in self.needs for name in (need.service, need.needs)], self.services, "needs", "services")
        known([self.database.migration.repository], dict(self.repositories), "database.migration", "repositories")
        if found := contradiction(self):
            raise ValueError(found)
        return self

    @property
    def rollbacks(self) -> dict[str, str]:
        """The types that a rollback may be chosen from, with their titles: not those that a person carries out or that
        only mend a trouble."""
        fixes = {trouble.fix for trouble in self.troubles.values()} - {row.type for row in self.decision_matrix}
        return {name: kind.title for name, kind in self.types.items() if not kind.by_hand and name not in fixes}

    def alone(self, type_name: str) -> str:
        """Why a type cannot be carried out by itself, by the compatibility table; "" where it can. Read-only."""
        kind = self.types[type_name]
        return alone(self, kind.changes) if kind.carried_out_as else ""

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
