"""Restores columns' earlier types: converts their values, and handles those that do not fit."""

from __future__ import annotations

import re
from dataclasses import replace

from runbook_lib.config.plan.decide import KEEP
from runbook_lib.postgres.changes import fitting
from runbook_lib.postgres.changes.fitting import Back, of
from runbook_lib.postgres.changes.objects import Object, literal, short
from runbook_lib.postgres.changes.rows import SCRATCH, execute
from runbook_lib.postgres.changes.work import Work, is_value

OF_TYPE = ("type", "collation", "storage", "compression", "sequence")  # a column's attributes that depend on its type
CHARACTERS = ("character varying", "character")
_LENGTHS = re.compile(r"\((\d+)(?:,(\d+))?\)")


def find_conversions(work: Work) -> None:
    """Find the conversion of each column that gets its earlier type; refuse if values do not fit."""
    for key, goal in list(work.goal.items()):
        actual = work.live.get(key)
        if goal is None or actual is None or goal.kind != "column" or goal.definition["type"] == actual.definition["type"]:
            continue
        back = _back(work, goal, actual)
        work.goal[key] = expected = _converted(work, goal, back)
        if back.fits in expected.keeps.get("using", "").replace(back.name, "{0}"):
            work.reconciler.statements += back.made
            work.helpers += back.dropped
        else:
            for statement in back.dropped:
                execute(work.copy, statement)
        if expected.like(actual):
            del work.goal[key]


def _back(work: Work, goal: Object, actual: Object) -> Back:
    """Find how to convert a column's values. Changes the scratch copy's own schema."""
    old, new, zone = goal.definition["type"], actual.definition["type"], work.script.zones.get(actual.name)
    through = "::text" if f"type {new.removesuffix('[]')}" in work.live.objects else ""
    through += "[]" if through and old.endswith("[]") else ""
    sides, given = fitting.keyed(work, actual), f"({{0}}){through}::{old}"
    cast = f"{{0}} AT TIME ZONE {literal(zone)}" if zone else given
    if not work.count(f"SELECT (to_regtype({literal(old)}) IS NOT NULL)::int AS n"):
        known = _is_label(work, old)
        return Back(actual, old, cast, known, sides, given, accepts=known, exists=False, is_exact=False)
    same = f"RETURN (({of(cast, 'v')})::{new})::text IS NOT DISTINCT FROM v::text;"
    body = f"PERFORM {of(cast, 'v')}; RETURN true;" if zone else same
    name = f"{SCRATCH}.fits_{actual.id.replace(':', '_')}"
    made = (
        f"CREATE FUNCTION {name}(v {new}) RETURNS boolean LANGUAGE plpgsql AS "
        f"$fits$ BEGIN {body} EXCEPTION WHEN OTHERS THEN RETURN false; END $fits$"
    )
    execute(work.copy, made)
    dropped = (f"DROP FUNCTION {name}({new})",)
    return Back(actual, old, cast, f"{name}({{0}})", sides, given, is_exact=not zone, made=(made,), dropped=dropped)


def _is_label(work: Work, old: str) -> str:
    """Build the condition that a value is a label of a recreated enum."""
    enum = work.goal.get(f"type {old.removesuffix('[]')}")
    if enum is None or enum.definition["kind"] != "e":
        return "true"
    labels = ", ".join(map(literal, enum.definition["labels"] or []))
    return (
        f"{{0}}::text[] <@ ARRAY[{labels}]::text[]" if old.endswith("[]") else f"{{0}}::text = ANY (ARRAY[{labels}]::text[])"
    )


def _converted(work: Work, goal: Object, back: Back) -> Object:
    """Return the column with its conversion, or with its present type if so decided; refuse if undecided."""
    actual, table = back.column, work.live[back.column.parent]
    if table.definition["bound"]:
        return goal  # it follows the partitioned table's
    using = replace(goal, keeps={**goal.keeps, "using": of(back.cast, back.name)})
    if rule := work.rule(table.address, actual.name):
        fitting.write_known(work, actual)
        return fitting.ruled(work, goal, back, rule) or using
    is_proven = fitting.is_proven(work, back)
    misfit = f"NOT {back.fits}" if is_proven else fitting.EVERY
    count, rows = fitting.found(work, back, misfit)
    decided = work.misfits(table.address, actual.name)
    if not count and not fitting.is_unfit(work, back):
        return using
    if back.made and back.column.definition["type"].removesuffix("[]") in [each.address for each in work.remade]:
        rows = rows or fitting.unfit_rows(work, back)  # fit is unknown once the type is recreated
    elif not count:
        if fitting.write_known(work, actual):
            values = back.values if is_proven else f"NULL::{back.old}"  # a cast may not exist
            return replace(goal, keeps={**goal.keeps, "using": values})
        rows = fitting.unfit_rows(work, back)
    elif decided == KEEP:
        return _kept(work, goal, back, (count, rows), is_proven=is_proven)
    elif is_value(decided):
        if not (found := fitting.replaced(work, goal, back, decided, misfit)):
            return using
        fitting.note_proven(work, actual) if is_proven else fitting.write_known(work, actual)
        what = f"do not fit {back.old}" if is_proven else f"cannot be turned into {back.old} by a cast"
        work.reversal.replace_misfits(f"{table.address}.{actual.name}", what, decided, count, rows)
        return found
    work.reversal.refuse(actual.name, f"values of {actual.address} do not fit {back.old}", rows)
    return using


def _kept(work: Work, goal: Object, back: Back, found: tuple[int, list[str]], *, is_proven: bool) -> Object:
    """Return the column with its present type, if that holds all earlier values; refuse otherwise."""
    actual, new = back.column, back.column.definition["type"]
    count, rows = found
    why = f"values do not fit {back.old}"
    if not is_proven or fitting.is_rewritten(work, back):
        problem = "the migration changed its values too"
    elif not back.exists or not _is_wider(work, back.old, new):
        problem = f"old code cannot use {new} as it does {back.old}"
    else:
        work.reversal.keep_misfits(f"{short(actual.address)} keeps its type {new}", why, count, rows)
        return replace(goal, definition={**goal.definition, **{part: actual.definition[part] for part in OF_TYPE}})
    work.reversal.refuse(actual.name, f"{why}, and it cannot keep its type: {problem}", rows)
    return goal


def _is_wider(work: Work, old: str, new: str) -> bool:
    """Report whether a type holds all values of another: it is longer, or the server casts to it implicitly."""
    if old.endswith("[]") != new.endswith("[]"):
        return False
    names = [_LENGTHS.sub("", each.removesuffix("[]")) for each in (old, new)]
    shorter, longer = (
        [int(n or 0) for n in found.groups()] if (found := _LENGTHS.search(each)) else [] for each in (old, new)
    )
    alike = names[0] == names[1] or set(names) <= set(CHARACTERS)
    if longer:
        whole = [each[0] - each[1] for each in (shorter, longer) if each]
        return alike and bool(shorter) and shorter[0] <= longer[0] and shorter[1] <= longer[1] and whole[0] <= whole[-1]
    cast = f"castsource = {literal(names[0])}::regtype AND casttarget = {literal(names[1])}::regtype"
    return alike or bool(work.count(f"SELECT count(*) AS n FROM pg_cast WHERE {cast} AND castcontext = 'i'"))
