"""How values of a column come back in what it was: a cast where they fit, and what is decided where they do not."""

from __future__ import annotations

from dataclasses import dataclass, replace

import psycopg

from runbook_lib.postgres.changes.objects import Object, literal, quote, short
from runbook_lib.postgres.changes.reading import require_expression
from runbook_lib.postgres.changes.rows import CELLS, PROVEN, Sides, execute
from runbook_lib.postgres.changes.work import MANY, Work

EVERY = "true"  # the condition that each value fulfils
TEXTS = ("character", "bit")  # how types begin that a cast shortens without a word


@dataclass(frozen=True)
class Back:
    """How values of a column get the type from before: by a cast where they fit; templates are SQL of `{0}`."""

    column: Object
    old: str
    cast: str
    fits: str
    sides: Sides | None  # where the rows have a key
    given: str  # the cast of a decided value
    accepts: str = "true"  # the condition that a decided value fits
    is_there: bool = True  # whether the type from before can be named on the copy by now
    is_exact: bool = True  # whether values from before can show that the cast is right
    made: tuple[str, ...] = ()  # what makes the function that `fits` calls
    dropped: tuple[str, ...] = ()  # what drops it

    @property
    def name(self) -> str:
        """The column, quoted."""
        return quote(self.column.name)

    @property
    def values(self) -> str:
        """SQL of the value that each row gets, NULL where it does not fit."""
        return f"CASE WHEN {of(self.fits, self.name)} THEN {of(self.cast, self.name)} END"

    def since(self, condition: str) -> str:
        """The condition that a value fulfils another; where rows have a key, of those written since alone."""
        if self.sides is None:
            return f"t.{self.name} IS NOT NULL AND {of(condition, f't.{self.name}')}"
        value = f"n.{self.name}"
        same = f"{self.sides.of('made')} m WHERE {self.sides.on('n', 'm')} AND m.{self.name} IS NOT DISTINCT FROM {value}"
        typed = f"{value}::{self.column.definition['type']}"
        return f"{value} IS NOT NULL AND NOT EXISTS (SELECT FROM {same}) AND {of(condition, typed)}"


def of(template: str, value: str) -> str:
    """SQL of `{0}` with a value for it. Pure."""
    return template.replace("{0}", value)


def keyed(work: Work, column: Object) -> Sides | None:
    """The states of a column's table where its rows have a key, and all states have the column."""
    sides = work.sides_of(column.parent)
    return sides if sides and sides.key and column.name in sides.columns else None


def found(work: Work, back: Back, condition: str) -> tuple[int, list[str]]:
    """How many values fulfil a condition, as `Back.since` has it, and the keys of some. Read-only."""
    where = back.since(condition)
    if back.sides is None:
        table = work.live[back.column.parent]
        return work.count(f"SELECT count(*) AS n FROM {table.rows} t WHERE {where}"), work.keys_where(table, where)
    rows = f"FROM {back.sides.of('now')} n WHERE {where}"
    keys = work.keys_of(f"SELECT array_to_string({back.sides.keys('n')}, ' ') AS k {rows} LIMIT {MANY}")
    return work.count(f"SELECT count(*) AS n {rows}"), keys


def is_unfit(work: Work, back: Back) -> bool:
    """Whether any row has a value that does not fit, whoever wrote it. Read-only."""
    return bool(unfit_rows(work, back))


def unfit_rows(work: Work, back: Back) -> list[str]:
    """The keys of some rows whose value does not fit, whoever wrote it. Read-only."""
    value = f"t.{back.name}"
    return work.keys_where(work.live[back.column.parent], f"{value} IS NOT NULL AND NOT {of(back.fits, value)}")


def is_rewritten(work: Work, back: Back) -> bool:
    """Whether migrations changed any value but for its type. Read-only."""
    if back.sides is None:
        return False
    pairs = f"{back.sides.of('made')} m JOIN {back.sides.of('was')} w ON {back.sides.on('m', 'w')}"
    same = f"(w.{back.name}::{back.old}::{back.column.definition['type']})::text" if back.is_there else f"w.{back.name}"
    return bool(work.count(f"SELECT count(*) AS n FROM {pairs} WHERE m.{back.name} IS DISTINCT FROM {same}"))


def is_proven(work: Work, back: Back) -> bool:
    """Whether every value that migrations made of one from before fits, and is cast to that. Read-only."""
    if back.sides is None or work.made[back.column.key].id in work.proven:
        return True
    made, value = f"m.{back.name}", f"m.{back.name}::{back.column.definition['type']}"
    fits = of(back.fits, value)
    values = f"CASE WHEN {fits} THEN {of(back.cast, value)} END"
    differs = f" OR ({values})::text IS DISTINCT FROM w.{back.name}" if back.is_exact else ""
    pairs = f"{back.sides.of('made')} m JOIN {back.sides.of('was')} w ON {back.sides.on('m', 'w')}"
    return not work.count(f"SELECT count(*) AS n FROM {pairs} WHERE {made} IS NOT NULL AND NOT {fits}{differs}")


def note_proven(work: Work, column: Object) -> None:
    """Note that a column's cast is proven, though decided values hide it from an undo. Changes the scratch copy."""
    execute(work.copy, f"CREATE TABLE IF NOT EXISTS {PROVEN} (col text)")
    execute(work.copy, f"INSERT INTO {PROVEN} VALUES ({literal(column.id)})")


def write_known(work: Work, column: Object) -> bool:
    """Let each value that is still what migrations made be the one from before, where rows have a key of other columns.

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
    """A column in which values that fulfil a condition of `{0}` give way to a decided one; None where it is refused."""
    if not may_replace(work, back.column.parent, back.column.name, back.column.name):
        return None
    misfit = f"{back.name} IS NOT NULL AND {of(condition, back.name)}"
    if not _is_castable(work, back, value, misfit):
        return None
    others = "" if condition == EVERY else f" ELSE {back.values}"
    return replace(goal, keeps={**goal.keeps, "using": f"CASE WHEN {misfit} THEN {of(back.given, value)}{others} END"})


def may_replace(work: Work, table: str, column: str, thing: str) -> bool:
    """Whether a value may take the place of others in a column of a table, by its key in the catalogs; refused where not."""
    sides = work.sides_of(table)
    if not sides or not sides.key:
        why = "its table has no key, so that an undo could not bring back what a value replaces"
    elif column in sides.key:
        why = f"{column} is in the key of {short(sides.name)}, so that no value can take the place of another"
    else:
        return True
    work.reversal.refuse(thing, why)
    return False


def ruled(work: Work, goal: Object, back: Back, rule: str) -> Object | None:
    """A column whose values come back by a rule that a person decided; None where it is refused."""
    if not _is_castable(work, back, rule, "true"):
        return None
    return replace(goal, keeps={**goal.keeps, "using": of(back.given, rule)})


def _is_castable(work: Work, back: Back, value: str, condition: str) -> bool:
    """Whether SQL of a person's gives a value that fits in each row that fulfils a condition; refused where not."""
    table, accepts = work.live[back.column.parent], of(back.accepts, f"({value})")
    if back.old.startswith(TEXTS):
        accepts = f"length(({value})::{back.old}::text) >= length(({value})::text)"
    rows = f"FROM {table.rows} AS {quote(table.name)} WHERE {condition}"
    why = f"{value} does not fit {back.old}"
    try:
        require_expression(value)
        with work.copy.transaction():
            unfit = work.count(f"SELECT count(*) AS n {rows} AND NOT coalesce({accepts}, true)")
            if back.is_there:
                work.count(f"SELECT count({of(back.given, value)}) AS n {rows}")
    except (psycopg.Error, ValueError) as error:
        unfit, why = 1, str(error).strip().splitlines()[0]
    if unfit:
        work.reversal.refuse(back.column.name, f"what was decided of it fails: {why}")
    return not unfit
