"""What a plan says of a change that was derived: which draft it is, and what only a person can decide."""

from __future__ import annotations

import re
from typing import Annotated, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from runbook_lib.config.loading import Model
from runbook_lib.config.plan.steps import Identifier, Inside

REFUSE, KEEP = "refuse", "keep"


def _text(given: object) -> object:
    """Return a number, true or false as SQL writes it. Pure."""
    return str(given).lower() if isinstance(given, bool | int | float) else given


def _word_or_sql(text: str) -> str:
    is_word = re.fullmatch(r"([^\W\d]\w*)?", text.strip()) and text.strip().lower() not in ("null", "true", "false")
    if is_word and text not in (REFUSE, KEEP):
        raise ValueError(f"misfits is {REFUSE}, {KEEP} or SQL of a value; a text has quotes of its own, as \"'open'\"")
    return text


Misfits = Annotated[str, BeforeValidator(_text), AfterValidator(_word_or_sql)]


def _decided(given: object) -> object:
    if given is None:
        raise PydanticCustomError(
            "undecided", "how does it come back? {value: SQL}, {rows: QUERY}, {misfits: keep} or {columns, from, match}"
        )
    return given


class Draft(Model):
    """The draft of a feature's migrations, in the directory of the target's backups."""

    changes: Inside
    """Its file, `ID.changes.yaml`; the states lie next to it."""
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    """The SHA-256 of that file."""
    drift_tolerance: Annotated[float, Field(ge=0, le=1)] = 0.01
    """By what share what users lose may differ from what was approved."""


class Decision(Model):
    """How something comes back that cannot be derived, in one of four ways.

    SQL in it uses the names from before of all that the migrations renamed, and of what they created the names that it has.
    """

    columns: list[Identifier] = []
    """Columns of a table whose values follow back from another one, where they have the same names."""
    from_: Identifier | None = Field(default=None, alias="from")
    """The table that the values of `columns` come from."""
    match: str | None = None
    """The condition by which a row of that table belongs to one of this."""
    value: str | None = None
    """Of a column: an expression on its row, for each row that does not get its value from before."""
    rows: str | None = None
    """Of a table that was dropped: a query whose columns are the table's."""
    misfits: Misfits | None = None
    """Of a column or constraint: what is done where values do not fit what comes back. `refuse` is what happens undecided.
    An expression on the row is put in their place, and they count as lost. With `keep` the enum keeps its label, the
    constraint comes back NOT VALID, the column keeps its wider type or comes back without NOT NULL."""

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        follows = (bool(self.columns), self.from_ is not None, self.match is not None)
        if any(follows) and not all(follows):
            raise ValueError("columns, from and match go together")
        ways = (all(follows), *(each is not None for each in (self.value, self.rows, self.misfits)))
        if sum(ways) != 1:
            raise ValueError("exactly one of columns (with from and match), value, rows and misfits is required")
        return self


Decided = Annotated[Decision, BeforeValidator(_decided)]
