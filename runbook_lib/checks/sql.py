"""A query on the target's database gives the plan's value."""

import json
import math
from datetime import date, datetime, time
from decimal import Decimal
from typing import Annotated, Any, Literal, Self
from uuid import UUID

from pydantic import AfterValidator, Field, model_validator

from runbook_lib.checks import CheckContext, check
from runbook_lib.config.plan import CheckSpec, DatabaseStep
from runbook_lib.config.plan.steps import Number, Scalar
from runbook_lib.context import Context
from runbook_lib.postgres import plan_query
from runbook_lib.postgres.plan_query import MOST, Rows
from runbook_lib.redaction import redact
from runbook_lib.results import Found, Result, Status

SHOWN = 120  # characters of a value


def _query(text: str) -> str:
    if why := plan_query.problem(text):
        raise ValueError(f"{why}; write one query that only reads")
    return text


class SqlKeys(CheckSpec):
    """Whether a query on the target's database gives the expected value, or no row."""

    kind: Literal["sql"]
    sql: Annotated[str, AfterValidator(_query)]
    """One query; it runs as the runbook's role, in a read-only transaction."""
    equals: Scalar = None
    """The expected single value."""
    at_least: Number | None = None
    """The lowest allowed number."""
    at_most: Number | None = None
    """The highest allowed number."""
    no_rows: Literal[True] | None = None
    """Whether it must give no row."""
    seconds: Annotated[float, Field(gt=0, le=600)] = 10.0
    """The time limit in seconds."""

    area = "Database"
    requires = ()

    @model_validator(mode="after")
    def _expects_one_thing(self) -> Self:
        bounded = self.at_least is not None or self.at_most is not None
        if [("equals" in self.model_fields_set), bounded, bool(self.no_rows)].count(True) != 1:
            raise ValueError("it must have one of equals, no_rows, and at_least or at_most (or both of these)")
        if self.at_least is not None and self.at_most is not None and self.at_least > self.at_most:
            raise ValueError("no number is at_least that and at_most this")
        return self

    @property
    def expected(self) -> str:
        """The expected value, in words."""
        if self.no_rows:
            return "no row"
        if "equals" in self.model_fields_set:
            return _shown(self.equals)
        bounds = (("at least", self.at_least), ("at most", self.at_most))
        return " and ".join(f"{word} {bound:g}" for word, bound in bounds if bound is not None)


def _beforehand(context: Context, name: str) -> Found:
    """Check that every object in the query exists; one that a step changes may exist later. Read-only."""
    spec = context.plan.checks[name]
    assert isinstance(spec, SqlKeys)
    with context.adapters.postgres.connect() as connection:
        missing = plan_query.explained(connection, spec.sql, spec.seconds)
    if not missing:
        return Status.PASS, "the query can be executed"
    if any(isinstance(step, DatabaseStep) for step in context.specs.values()):
        return Status.PASS, f"the query cannot run now, but may once the database is changed: {missing}"
    return Status.FAIL, f"the query cannot be executed: {missing}"


@check(SqlKeys, beforehand=_beforehand)
def gives(checked: CheckContext, name: str) -> Result:
    """Check that the query gives the expected value; UNKNOWN if it fails or gives no single value. Read-only."""
    spec = checked.context.plan.checks[name]
    assert isinstance(spec, SqlKeys)
    with checked.context.adapters.postgres.connect() as connection:
        found = plan_query.queried(connection, spec.sql, spec.seconds)
    count = f"{'at least ' * (len(found.rows) == MOST)}{len(found.rows)}"
    if spec.no_rows:
        if not found.rows:
            return checked.result(name, Status.PASS, "it gives no row, as expected")
        return checked.result(name, Status.FAIL, f"it gives {count} rows and must give none; first {_row(found)}")
    if len(found.rows) != 1 or len(found.columns) != 1:
        summary = f"it gives {count} rows of {len(found.columns)} columns and must give one value; correct the query"
        return checked.result(name, Status.UNKNOWN, summary)
    value = found.rows[0][0]
    status = _judged(value, spec)
    summary = f"it gives {_shown(value)}, and must give {spec.expected}"
    if status is Status.UNKNOWN:
        alike = "equals" in spec.model_fields_set
        summary += "; let the query give it in the same form" if alike else "; it is neither above nor below a number"
    return checked.result(name, status, summary, value=_shown(value))


def _judged(value: Any, spec: SqlKeys) -> Status:
    if "equals" in spec.model_fields_set:
        same = _same(value, spec.equals)
        return Status.UNKNOWN if same is None else Status.PASS if same else Status.FAIL
    if not isinstance(value, int | float | Decimal) or isinstance(value, bool) or value != value:
        return Status.UNKNOWN  # NULL, text, or NaN is not below or above a number
    low = spec.at_least is None or value >= spec.at_least
    return Status.PASS if low and (spec.at_most is None or value <= spec.at_most) else Status.FAIL


def _same(value: Any, named: Scalar) -> bool | None:
    """Check whether a database value equals the plan's, as text for types that YAML lacks; None if unknown."""
    if isinstance(value, bool) or isinstance(named, bool):
        return value is named
    if isinstance(value, float) and isinstance(named, int | float):
        return math.isclose(value, named)
    if value is None or named is None or isinstance(value, int | float | Decimal):
        return bool(value == (Decimal(repr(named)) if isinstance(value, Decimal) and isinstance(named, float) else named))
    if str(value).rstrip() == str(named).rstrip():  # char(n) is filled with spaces
        return isinstance(named, str)
    if not isinstance(named, str) or isinstance(value, str | UUID):
        return False
    try:
        other: Any = type(value).fromisoformat(named) if isinstance(value, date | time) else json.loads(named)
    except ValueError:
        return None  # for example an interval, which has many spellings
    if isinstance(value, datetime) and (value.tzinfo is None) is not (other.tzinfo is None):
        return None
    return bool(value == other)


def _shown(value: Any) -> str:
    """Format a value briefly, with a text in quotes to distinguish '1' from 1."""
    text = "NULL" if value is None else f"'{value.rstrip()}'" if isinstance(value, str) else str(value)
    found = redact(text)
    return found if len(found) <= SHOWN else f"{found[: SHOWN - 1]}…"


def _row(found: Rows) -> str:
    return ", ".join(f"{name} {_shown(value)}" for name, value in zip(found.columns, found.rows[0], strict=True))[
        : SHOWN * 2
    ]
