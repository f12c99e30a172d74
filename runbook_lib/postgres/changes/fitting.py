"""Converts a column's values back to its earlier type: a cast if they fit, the plan's decision if they do not."""

from __future__ import annotations

from dataclasses import dataclass, replace

import psycopg

from runbook_lib.postgres.changes.objects import Object, literal, quote, short
from runbook_lib.postgres.changes.reading import require_expression
from runbook_lib.postgres.changes.rows import CELLS, PROVEN, Sides, execute
from runbook_lib.postgres.changes.work import MANY, Work

EVERY = "true"  # a condition that every value fulfils
TEXTS = ("character", "bit")  # the start of names of types that a cast shortens without an error


@dataclass(frozen=True)
class Back:
    """How a column's values get their type from before: a cast if they fit; templates are SQL with `{0}` for the value."""

    column: Object
    old: str
    cast: str
    fits: str
    sides: Sides | None  # if the rows have a key
    given: str  # the cast of a decided value
    accepts: str = "true"  # the condition that a decided value must fulfil
    exists: bool = True  # whether the type from before exists on the copy by now
    is_exact: bool = True  # whether values from before can show that the cast is right
    made: tuple[str, ...] = ()  # statements that create the function that `fits` calls
    dropped: tuple[str, ...] = ()  # statements that drop it

    @property
    def name(self) -> str:
        """Return the column's quoted name."""
        return quote(self.column.name)

    @property
    def values(self) -> str:
        """Return SQL of the value that each row gets, NULL if it does not fit."""
        return f"CASE WHEN {of(self.fits, self.name)} THEN {of(self.cast, self.name)} END"

    def since(self, condition: str) -> str:
        """Build a WHERE clause for values that fulfil a condition; with a key, only for those written since."""
        if self.sides is None:
            return f"t.{self.name} IS NOT NULL AND {of(condition, f't.{self.name}')}"
        value = f"n.{self.name}"
        same = f"{self.sides.of('made')} m WHERE {self.sides.on('n', 'm')} AND m.{self.name} IS NOT DISTINCT FROM {value}"
        typed = f"{value}::{self.column.definition['type']}"
        return f"{value} IS NOT NULL AND NOT EXISTS (SELECT FROM {same}) AND {of(condition, typed)}"


def of(template: str, value: str) -> str:
    """Fill a template's `{0}` with a value. Pure."""
    return template.replace("{0}", value)


def keyed(work: Work, column: Object) -> Sides | None:
    """Return the states of a column's table if its rows have a key and all states have the column."""
    sides = work.sides_of(column.parent)
    return sides if sides and sides.key and column.name in sides.columns else None


def found(work: Work, back: Back, condition: str) -> tuple[int, list[str]]:
    """Count the values that fulfil a condition (see `Back.since`), and return some of their keys. Read-only."""
    where = back.since(condition)
    if back.sides is None:
        table = work.live[back.column.parent]
        return work.count(f"SELECT count(*) AS n FROM {table.rows} t WHERE {where}"), work.keys_where(table, where)
    rows = f"FROM {back.sides.of('now')} n WHERE {where}"
    keys = work.keys_of(f"SELECT array_to_string({back.sides.keys('n')}, ' ') AS k {rows} LIMIT {MANY}")
    return work.count(f"SELECT count(*) AS n {rows}"), keys


def is_unfit(work: Work, back: Back) -> bool:
    """Report whether any row has a value that does not fit, whoever wrote it. Read-only."""
    return bool(unfit_rows(work, back))


def unfit_rows(work: Work, back: Back) -> list[str]:
    """Return the keys of some rows whose value does not fit, whoever wrote it. Read-only."""
    value = f"t.{back.name}"
    return work.keys_where(work.live[back.column.parent], f"{value} IS NOT NULL AND NOT {of(back.fits, value)}")


def is_rewritten(work: Work, back: Back) -> bool:
    """Report whether migrations changed any value beyond its type. Read-only."""
    if back.sides is None:
        return False
    pairs = f"{back.sides.of('made')} m JOIN {back.sides.of('was')} w ON {back.sides.on('m', 'w')}"
    same = f"(w.{back.name}::{back.old}::{back.column.definition['type']})::text" if back.exists else f"w.{back.name}"
    return bool(work.count(f"SELECT count(*) AS n FROM {pairs} WHERE m.{back.name} IS DISTINCT FROM {same}"))


def is_proven(work: Work, back: Back) -> bool:
    """Report whether every value that migrations converted fits and casts back to the earlier one. Read-only."""
    if back.sides is None or work.made[back.column.key].id in work.proven:
        return True
    made, value = f"m.{back.name}", f"m.{back.name}::{back.column.definition['type']}"
    fits = of(back.fits, value)
    values = f"CASE WHEN {fits} THEN {of(back.cast, value)} END"
    differs = f" OR ({values})::text IS DISTINCT FROM w.{back.name}" if back.is_exact else ""
    pairs = f"{back.sides.of('made')} m JOIN {back.sides.of('was')} w ON {back.sides.on('m', 'w')}"
    return not work.count(f"SELECT count(*) AS n FROM {pairs} WHERE {made} IS NOT NULL AND NOT {fits}{differs}")


def note_proven(work: Work, column: Object) -> None:
    """Record that a column's cast is proven, since decided values hide that from an undo. Changes the scratch copy."""
    execute(work.copy, f"CREATE TABLE IF NOT EXISTS {PROVEN} (col text)")
    execute(work.copy, f"INSERT INTO {PROVEN} VALUES ({literal(column.id)})")


def write_known(work: Work, column: Object) -> bool:
    """Restore the earlier value wherever the migrations' value is unchanged, if rows have a key of other columns.

    Changes the scratch copy.
    """
    sides, c, name = keyed(work, column), quote(column.name), literal(column.name)
    if sides is None or column.name in sides.key:
        return False
    was, made, now = (sides.of(state) for state in ("was", "made", "now"))
    execute(work.copy, f"DELETE FROM {CELLS} WHERE place = {sides.place} AND col = {name}")
    execute(
        work.copy,
        f"""INSERT INTO {CELLS} SELECT {sides.place}, {name}, {sides.keys("n")}, n.{c}, w.{c}
        FROM {now} n JOIN {made} m ON {sides.on("n", "m")} AND m.{c} IS NOT DISTINCT FROM n.{c}
        JOIN {was} w ON {sides.on("n", "w")}""",
    )
    return True


def replaced(work: Work, goal: Object, back: Back, value: str, condition: str) -> Object | None:
    """Return the column with a decided value in place of those that fulfil a condition; None if refused."""
    if not may_replace(work, back.column.parent, back.column.name, back.column.name):
        return None
    misfit = f"{back.name} IS NOT NULL AND {of(condition, back.name)}"
    if not _is_castable(work, back, value, misfit):
        return None
    others = "" if condition == EVERY else f" ELSE {back.values}"
    return replace(goal, keeps={**goal.keeps, "using": f"CASE WHEN {misfit} THEN {of(back.given, value)}{others} END"})


def may_replace(work: Work, table: str, column: str, thing: str) -> bool:
    """Report whether a value may replace others in a column of a table, by its catalog key; refuse if not."""
    sides = work.sides_of(table)
    if not sides or not sides.key:
        why = "its table has no key, so an undo could not restore what a value replaces"
    elif column in sides.key:
        why = f"{column} is in the key of {short(sides.name)}, so no value can replace another"
    else:
        return True
    work.reversal.refuse(thing, why)
    return False


def ruled(work: Work, goal: Object, back: Back, rule: str) -> Object | None:
    """Return the column with values restored by a person's rule; None if refused."""
    if not _is_castable(work, back, rule, "true"):
        return None
    return replace(goal, keeps={**goal.keeps, "using": of(back.given, rule)})


def _is_castable(work: Work, back: Back, value: str, condition: str) -> bool:
    """Report whether a person's SQL gives a fitting value in each row that fulfils a condition; refuse if not."""
    table, accepts = work.live[back.column.parent], of(back.accepts, f"({value})")
    if back.old.startswith(TEXTS):
        accepts = f"length(({value})::{back.old}::text) >= length(({value})::text)"
    rows = f"FROM {table.rows} AS {quote(table.name)} WHERE {condition}"
    why = f"{value} does not fit {back.old}"
    try:
        require_expression(value)
        with work.copy.transaction():
            unfit = work.count(f"SELECT count(*) AS n {rows} AND NOT coalesce({accepts}, true)")
            if back.exists:
                work.count(f"SELECT count({of(back.given, value)}) AS n {rows}")
    except (psycopg.Error, ValueError) as error:
        unfit, why = 1, str(error).strip().splitlines()[0]
    if unfit:
        work.reversal.refuse(back.column.name, f"the decision about it fails: {why}")
    return not unfit
