"""What only a person can decide of a change: where values that migrations moved come back from."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from runbook_lib.config.loading import Model
from runbook_lib.config.plan.steps import Identifier


class Decision(Model):
    """How something comes back that cannot be derived, in one of three ways.

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

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        follows = (bool(self.columns), self.from_ is not None, self.match is not None)
        if any(follows) and not all(follows):
            raise ValueError("columns, from and match go together")
        if sum([all(follows), self.value is not None, self.rows is not None]) != 1:
            raise ValueError("exactly one of columns (with from and match), value and rows must stand here")
        return self
