"""A plan: what a feature changed and how to roll it back, as pure data from one YAML file."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import timedelta
from typing import Annotated, Any, ClassVar, Literal, Self, get_origin

from pydantic import AfterValidator, Field, model_validator

from runbook_lib.config.compatibility import BEFORE, FEATURE, alone, contradictions
from runbook_lib.config.loading import Misplaced, Model, like
from runbook_lib.config.plan.backfills import (
    AnyBackfill,
    Backfill,
    BackfillOfColumn,
    ColumnOfRow,
    Expression,
    HasTable,
    ScalarBackfill,
    parts_of,
    path_of,
)
from runbook_lib.config.plan.decide import Decided, Decision, Draft
from runbook_lib.config.plan.earlier import of_earlier_plan
from runbook_lib.config.plan.exercise import Exercise
from runbook_lib.config.plan.feature import (
    Api,
    Compatible,
    Database,
    MatrixRow,
    Monitor,
    Need,
    Page,
    Repository,
    RollbackType,
    Sample,
    Trouble,
)
from runbook_lib.config.plan.migration import DEFAULT_SCHEMA, Companion, Migration, MigrationTool
from runbook_lib.config.plan.parts import Part, Unfit, there
from runbook_lib.config.plan.shown import KnownBefore, Rows
from runbook_lib.config.plan.steps import (
    BuildingStep,
    ClearingStep,
    DatabaseStep,
    Name,
    RepositoryStep,
    RestoringStep,
    RevertingStep,
    ServicesStep,
    StepSpec,
)
from runbook_lib.errors import ParametersError

__all__ = [
    "Api",
    "Area",
    "Backfill",
    "BackfillOfColumn",
    "BuildingStep",
    "CheckSpec",
    "ClearingStep",
    "ColumnOfRow",
    "Companion",
    "Compatible",
    "Database",
    "DatabaseStep",
    "Decision",
    "Draft",
    "Exercise",
    "Expression",
    "HasTable",
    "MatrixRow",
    "Migration",
    "MigrationTool",
    "Monitor",
    "Page",
    "Part",
    "Plan",
    "Repository",
    "RepositoryStep",
    "RestoringStep",
    "RevertingStep",
    "RollbackType",
    "Rows",
    "Sample",
    "ScalarBackfill",
    "ServicesStep",
    "StepSpec",
    "Trouble",
    "path_of",
]

AGE = r"^([1-9]\d*)([hdw])\Z"
UNITS = {"h": "hours", "d": "days", "w": "weeks"}
Area = Literal["Services", "Database", "API", "Frontend"]  # of the rollback log


class CheckSpec(Model):
    """What a plan says of any check; each kind adds its keys and its facts in its own module of `checks`."""

    kind: str
    title: str
    """What people call it."""

    area: ClassVar[Area]  # under which the rollback log reports it
    requires: ClassVar[tuple[Part, ...]]  # the parts of the plan that it works with
    opens: ClassVar[Literal["", "page", "page and returning page"]] = ""  # what is opened while other checks are made
    of_recovery: ClassVar[bool] = False  # whether it looks at what a recovery and an undo of the whole run have to bring up
    last: ClassVar[bool] = False  # whether it looks at what the other checks of its round have caused

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        """Refuse a kind that leaves out what it has to say of itself."""
        if get_origin(cls.model_fields["kind"].annotation) is not Literal:
            return  # a category of kinds
        if lacking := [name for name in ("area", "requires") if not hasattr(cls, name)]:
            raise TypeError(f"{cls.__name__} does not declare {', '.join(lacking)}")

    def parts(self) -> tuple[Part, ...]:
        """Return the parts of the plan that it works with. Pure."""
        return self.requires

    def of_target(self) -> tuple[str, ...]:
        """Return the keys that a target must have for it, as endpoints.shop. Pure."""
        return ()

    def of_services(self) -> tuple[str, ...]:
        """Return the services of the plan that it names. Pure."""
        return ()


class Plan(Model):
    """A feature's rollback plan; the models of its steps and checks are those of the kinds that are installed."""

    extends: Literal["standard"] | None = None
    """The plan that this one is put over: the usual types, steps, checks, matrix and troubles for what it has."""
    without: list[Name] = []
    """The steps, checks, types and troubles of that plan to leave out."""
    feature: str
    """The id that the feature's commits bear in their messages."""
    title: str
    """A name for people."""
    database_: Database | None = Field(default=None, alias="database")
    """The table that the feature changed."""
    backfills_: list[AnyBackfill] = Field(default=[], alias="backfills")
    """What jobs wrote, of which no migration file shows anything, by the column that each filled."""
    migration: Migration | None = None
    """The feature's migrations, by the tool that applied them."""
    repositories: dict[Name, Repository] = {}
    """The repositories that hold the feature's code."""
    services: list[Name] = []
    """The services that are built from them."""
    compatibility: list[Compatible] = []
    """The allowed combinations of code, schema and data; no other may run. Without any: what was released together."""
    needs: list[Need] = []
    """Which services run only next to a certain version of another."""
    draft_: Draft | None = Field(default=None, alias="draft")
    """What the migrations changed, as `runbook draft` derived it."""
    api_: Api | None = Field(default=None, alias="api")
    """The request that shows whether older clients are served."""
    page_: Page | None = Field(default=None, alias="page")
    """The page that users see."""
    steps: dict[Name, StepSpec]
    """The steps, by names that types use."""
    types: dict[Name, RollbackType]
    """The rollback types, by name."""
    checks: dict[Name, CheckSpec] = {}
    """The checks, by names that types and matrix use."""
    decision_matrix: list[MatrixRow] = []
    """Which symptom asks for which type."""
    known_before: list[KnownBefore] = []
    """What checks find that was there before the release, so that no rollback is recommended for it."""
    decide: dict[str, Decided] = {}
    """What cannot be derived of the change, by table or table.column."""
    exercise: list[Exercise] = []
    """Statements of the application that are tried on a clone before and after each change of the schema; without any, the
    most frequent ones of pg_stat_statements."""
    troubles: dict[Name, Trouble] = {}
    """What can be wrong with a rollback itself."""
    escalation: list[str] = []
    """The ladder of types and people, lowest first."""
    contacts: list[str] = []
    """The roles that are called; each target says who they are."""
    follow_ups: list[str] = []
    """What has to be done after the rollback."""
    rehearsed_within: Annotated[str, AfterValidator(like(AGE, "a number of hours, days or weeks, as 30d"))] | None = None
    """How old the green rehearsal of exactly this may be for a run on production: 12h, 30d, 4w; None asks for none."""

    @model_validator(mode="before")
    @classmethod
    def _of_an_earlier_version(cls, data: Any) -> Any:
        return of_earlier_plan(data)

    @model_validator(mode="after")
    def _has_what_its_kinds_require(self) -> Self:
        kinds: dict[tuple[str, str], StepSpec | CheckSpec] = {("steps", name): step for name, step in self.steps.items()}
        kinds |= {("checks", name): check for name, check in self.checks.items()}
        lacking = {
            (table, name): f"{table}.{name} is of the kind {spec.kind}, which requires {' and '.join(absent)}"
            for (table, name), spec in kinds.items()
            if (absent := [part for part in spec.parts() if part not in self.parts])
        }
        if lacking:
            raise Unfit(f"{'; '.join(lacking.values())}, which the plan does not have", lacking)
        return self

    @model_validator(mode="after")
    def _names_are_defined(self) -> Self:
        def known(names: list[str], table: dict[str, object] | list[str], table_name: str, *keys: int | str) -> None:
            for name in names:
                if name not in table:
                    where = ".".join(key for key in keys if isinstance(key, str))
                    raise Misplaced(f"{where} names {name!r}, which {table_name} does not define", *keys)

        checks: dict[str, object] = dict(self.checks)
        for name, repository in self.repositories.items():
            known(list(repository.paths), self.services, "services", "repositories", name, "paths")
        options = [option for kind in self.types.values() for option in kind.options]
        for name, step in self.steps.items():
            known(step.options, options, "the options of types", "steps", name)
            if isinstance(step, ClearingStep) and step.backfill:
                known([step.backfill], [each.column for each in self.backfills], "backfills", "steps", name)
            if isinstance(step, ServicesStep):
                known(step.services, self.services, "services", "steps", name)
            if isinstance(step, RepositoryStep):
                known([step.repository], dict(self.repositories), "repositories", "steps", name)
        for name, check in self.checks.items():
            known([*check.of_services()], self.services, "services", "checks", name)
        for name, kind in self.types.items():
            known(kind.steps, dict(self.steps), "steps", "types", name)
            for walked in kind.steps:
                if (of := self.steps[walked].options) and not set(of) & set(kind.options):
                    said = f"types.{name} walks {walked!r}, which belongs to none of its options"
                    raise Misplaced(said, "types", name, "steps")
            known(kind.changes, ["data", "schema", *self.repositories], "data, schema and repositories", "types", name)
            known([*kind.checks, *kind.escalates_on], checks, "checks", "types", name)
            known([t for t in (kind.escalates_to, kind.carried_out_as) if t], dict(self.types), "types", "types", name)
        for number, row in enumerate(self.decision_matrix):
            known([row.type], dict(self.types), "types", "decision_matrix", number)
            named = [*row.failing, *row.passing, *row.confirmed_by, *row.findings]
            known(named, checks, "checks", "decision_matrix", number)
        for number, each in enumerate(self.known_before):
            known([each.check], checks, "checks", "known_before", number)
        for name, trouble in self.troubles.items():
            known([trouble.fix], dict(self.types), "types", "troubles", name)
            known([*trouble.signs, *trouble.passing], checks, "checks", "troubles", name)
        for part, found_part in (("api", self.api_), ("page", self.page_)):
            known([found_part.service] if found_part else [], self.services, "services", part)
        for number, need in enumerate(self.needs):
            known([need.service, need.needs], self.services, "services", "needs", number)
        if self.migration:
            known([self.migration.repository], dict(self.repositories), "repositories", "migration")
        if found := contradictions(self):
            unsaid = "; the plan has no `compatibility`, so that only what was released together may run"
            said = "; ".join(found.values()) + ("" if self.compatibility else unsaid)
            raise Unfit(said, (("types", name) for name in found))
        return self

    @model_validator(mode="after")
    def _each_backfill_is_cleared(self) -> Self:
        columns = [each.column for each in self.backfills]
        for each in self.backfills_:
            if len(parts_of(each.column)) == 1:
                raise ValueError(f"backfills names {each.column!r} without its table: it must be table.column")
        if twice := [column for number, column in enumerate(columns) if column in columns[:number]]:
            raise ValueError(f"backfills names {twice[0]!r} twice")
        clearing = [(name, step) for name, step in self.steps.items() if isinstance(step, ClearingStep)]
        unsaid = [name for name, step in clearing if step.backfill is None]
        if len(columns) > 1 and unsaid:
            raise ValueError(f"steps.{unsaid[0]} must say which `backfill` it takes back: {', '.join(columns)}")
        named = {step.backfill or columns[0] for _, step in clearing if columns}
        if clearing and (forgotten := [column for column in columns if column not in named]):
            raise ValueError(f"no step takes the backfill of {', '.join(forgotten)} back")
        return self

    @property
    def backfills(self) -> list[Backfill | ScalarBackfill]:
        """What jobs wrote, the one that an earlier plan has under `database` among them."""
        database = self.database_
        if not database or not database.backfill_:
            return self.backfills_
        column = path_of(database.schema_, database.table, database.backfill_.name)
        return [database.backfill_.model_copy(update={"column": column}), *self.backfills_]

    @property
    def tables(self) -> list[tuple[str, str]]:
        """The tables that the plan names rows of, each by schema and name."""
        own = [(self.database_.schema_, self.database_.table)] if self.database_ else []
        return list(dict.fromkeys([*own, *((each.place.schema_, each.place.table) for each in self.backfills)]))

    @property
    def parts(self) -> frozenset[Part]:
        """The optional parts that the plan has."""
        found: dict[Part, object] = {
            "api": self.api_,
            "page": self.page_,
            "repositories": self.repositories,
            "database": self.database_,
            "migration": self.migration,
            "backfill": self.database_ and self.database.backfill_,
            "backfills": self.backfills,
            "draft": self.draft_,
        }
        return frozenset(name for name, part in found.items() if part)

    @property
    def database(self) -> Database:
        """The table that the feature changed, for what declares that it requires it.

        Raises:
            ParametersError: The plan has none.
        """
        database = there(self.database_, "database")
        lists = [each for each in self.backfills_ if isinstance(each, Backfill) and each.is_on(database)]
        return database.model_copy(update={"backfill": lists[0]}) if lists and not database.backfill_ else database

    @property
    def draft(self) -> Draft:
        """What the migrations changed, for what declares that it requires it.

        Raises:
            ParametersError: The plan has none.
        """
        return there(self.draft_, "draft")

    @property
    def api(self) -> Api:
        """The request of older clients, for what declares that it requires it.

        Raises:
            ParametersError: The plan has none.
        """
        return there(self.api_, "api")

    @property
    def page(self) -> Page:
        """The page that users see, for what declares that it requires it.

        Raises:
            ParametersError: The plan has none.
        """
        return there(self.page_, "page")

    def was_there_before(self, check: str, findings: Sequence[str]) -> str:
        """Why all that a check finds was there before the release, "" where any of it is not known to have been. Pure."""
        of_check = [each for each in self.known_before if each.check == check]
        known = [next((e.because for e in of_check if re.fullmatch(e.says, one, re.DOTALL)), "") for one in findings]
        return "; ".join(dict.fromkeys(known)) if known and all(known) else ""

    @property
    def rows_shown(self) -> Rows | Literal["all", "served"] | None:
        """Which rows of a sample a page shows: what the plan says of the page, else of the API; None where of neither."""
        of_page = self.page_.rows if self.page_ else None
        return of_page or (self.api_.rows if self.api_ else None)

    @property
    def drift_tolerance(self) -> float:
        """By what share affected rows may differ from those approved: none where nothing says so."""
        part = self.database_ or self.draft_
        return part.drift_tolerance if part else min((each.drift_tolerance for each in self.backfills), default=0.0)

    @property
    def rehearsal_age(self) -> timedelta:
        """How old a rehearsal may be; none at all where the plan does not say."""
        found = re.match(AGE, self.rehearsed_within or "")
        return timedelta(**{UNITS[found[2]]: int(found[1])}) if found else timedelta.max

    @property
    def combinations(self) -> frozenset[tuple[str, str, str]]:
        """The allowed combinations of code, schema and data: those listed, else what was released together.

        Where the feature changed nothing in a database, its schema and data are the same for all code.
        """
        if self.compatibility:
            return frozenset((row.code, row.schema_, row.data) for row in self.compatibility)
        if self.parts & {"database", "migration", "draft"}:
            return frozenset({(BEFORE, BEFORE, BEFORE), (FEATURE, FEATURE, FEATURE)})
        data = BEFORE if self.backfills else FEATURE
        return frozenset({(BEFORE, FEATURE, data), (FEATURE, FEATURE, FEATURE)})

    @property
    def history_schema(self) -> str:
        """The schema of the migration history."""
        named = self.migration.schema_ if self.migration else None
        return named or (self.database_.schema_ if self.database_ else DEFAULT_SCHEMA)

    @property
    def history_tables(self) -> list[tuple[str, str]]:
        """The migration tool's own tables, each by schema and name: the history and what goes with it."""
        found = self.migration
        names = (found.table, *found.related, *found.referred) if found else ()
        return [(self.history_schema, name) for name in names]

    @property
    def rollbacks(self) -> dict[str, str]:
        """The types that a rollback may be chosen from, with their titles: not those that a person or only a fleet executes,
        or that only fix a trouble."""
        fixes = {trouble.fix for trouble in self.troubles.values()} - {row.type for row in self.decision_matrix}
        return {
            name: kind.title
            for name, kind in self.types.items()
            if not kind.by_hand and not kind.in_fleet and name not in fixes
        }

    def alone(self, type_name: str) -> str:
        """Return why the compatibility table refuses a type on its own; "" if it does not. Read-only."""
        kind = self.types[type_name]
        return alone(self, kind.changes) if kind.carried_out_as else ""

    def steps_of(self, type_name: str, option: str) -> list[str]:
        """Return the steps of a type, in order, without those of other options than `option`. Read-only."""
        return [n for n in self.types[type_name].steps if not self.steps[n].options or option in self.steps[n].options]

    def carried_out(self, type_name: str) -> str:
        """Return the name of the type whose steps are walked when `type_name` is chosen. Read-only.

        Raises:
            ParametersError: There is no such type, or a person has to execute it.
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
                f"{chosen.title} is not executed here. {chosen.by_hand}",
                state="Nothing was touched.",
                safe_next=chosen.by_hand,
            )
        return self.carried_out(chosen.carried_out_as) if chosen.carried_out_as else type_name
