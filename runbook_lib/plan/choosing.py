"""The rollback types of a plan, and what asks for which: symptoms, and troubles with a rollback itself."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from runbook_lib.parameters import Model
from runbook_lib.plan.values import Name


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
