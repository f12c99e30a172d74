"""Columns that get another type, and enums that lose a label: how values come back, and which do not fit."""

from __future__ import annotations

from dataclasses import replace

from runbook_lib.postgres.changes.kinds import KINDS
from runbook_lib.postgres.changes.objects import Object, literal, quote
from runbook_lib.postgres.changes.rows import CELLS, execute
from runbook_lib.postgres.changes.work import MANY, Work


def refuse_used_labels(work: Work) -> None:
    """Refuse where rows hold a label of an enum that goes; note the types that have to be made again."""
    for goal in list(work.goal.values()):
        there = work.live.get(goal.key) if goal else None
        if goal is None or there is None or goal.kind != "type" or goal.definition["kind"] != "e":
            continue
        labels = goal.definition["labels"] or []
        for label in (each for each in there.definition["labels"] or [] if each not in labels):
            if rows := _holding(work, there, label):
                work.reversal.refuse(label, f"rows hold {label!r}, which {there.address} did not have", rows)
        if KINDS["type"].alter(there, goal, work.live) is None:
            work.remade.append(there)


def refuse_filled_fields(work: Work) -> None:
    """Refuse where rows hold something in a field of a composite type that goes."""
    for goal in list(work.goal.values()):
        there = work.live.get(goal.key) if goal else None
        if goal is None or there is None or goal.kind != "type" or goal.definition["kind"] != "c":
            continue
        left = [name for name, _ in goal.definition["fields"] or []]
        for name in (name for name, _ in there.definition["fields"] or [] if name not in left):
            for column in work.live.of("column"):
                if column.definition["type"].removesuffix("[]") != there.address:
                    continue
                value, table = f"t.{quote(column.name)}", work.live[column.parent]
                is_list = column.definition["type"].endswith("[]")
                held = f"{value} IS NOT NULL" if is_list else f"({value}).{quote(name)} IS NOT NULL"
                if rows := work.keys_where(table, held):
                    why = f"{column.address} holds it, and {there.address} did not have it"
                    work.reversal.refuse(name, why, rows)


def find_conversions(work: Work) -> None:
    """Find, for each column that gets its type from before, what turns its values back; refuse where values do not fit."""
    for key, goal in list(work.goal.items()):
        there = work.live.get(key)
        if goal is None or there is None or goal.kind != "column" or goal.definition["type"] == there.definition["type"]:
            continue
        old, zone = goal.definition["type"], work.script.zones.get(there.name)
        through = "::text" if f"type {there.definition['type'].removesuffix('[]')}" in work.live.objects else ""
        through += "[]" if through and old.endswith("[]") else ""
        expression = f"{{0}} AT TIME ZONE {literal(zone)}" if zone else f"({{0}}){through}::{old}"
        if rows := _misfits(work, there, old, expression, has_zone=bool(zone)):
            if _all_known(work, there):
                expression = f"NULL::{old}"
            else:
                work.reversal.refuse(there.name, f"values of {there.address} do not fit {old}", rows)
        work.goal[key] = replace(goal, keeps={**goal.keeps, "using": expression.format(quote(there.name))})


def _all_known(work: Work, column: Object) -> bool:
    """Whether every value is still what migrations made of one from before; then all of those are written back."""
    sides = work.sides_of(column.parent)
    if sides is None or not sides.key or column.name in sides.key:
        return False
    was, made, now, c = sides.of("was"), sides.of("made"), sides.of("now"), quote(column.name)
    same = f"{made} m JOIN {was} w ON {sides.on('m', 'w')} WHERE {sides.on('n', 'm')} AND m.{c} IS NOT DISTINCT FROM n.{c}"
    if work.count(f"SELECT count(*) AS n FROM {now} n WHERE n.{c} IS NOT NULL AND NOT EXISTS (SELECT FROM {same})"):
        return False
    name = literal(column.name)
    execute(work.copy, f"DELETE FROM {CELLS} WHERE place = {sides.place} AND col = {name}")
    execute(
        work.copy,
        f"""INSERT INTO {CELLS} SELECT {sides.place}, {name}, {sides.keys("n")}, n.{c}, w.{c}
        FROM {now} n JOIN {was} w ON {sides.on("n", "w")} WHERE n.{c} IS NOT NULL""",
    )
    return True


def _holding(work: Work, enum: Object, label: str) -> list[str]:
    found = []
    for column in work.live.of("column"):
        kind, value = column.definition["type"], f"t.{quote(column.name)}"
        if kind.removesuffix("[]") == enum.address:
            holds = (
                f"{literal(label)} = ANY ({value}::text[])" if kind.endswith("[]") else f"{value}::text = {literal(label)}"
            )
            found += work.keys_where(work.live[column.parent], holds)
    return found


def _misfits(work: Work, column: Object, old: str, expression: str, *, has_zone: bool) -> list[str]:
    """Rows whose value cannot be turned back, or would not be what it was."""
    if not work.count(f"SELECT (to_regtype({literal(old)}) IS NOT NULL)::int AS n"):
        return _unknown_labels(work, column, old)
    new, table = column.definition["type"], work.live[column.parent]
    same = f"RETURN (({expression.format('v')})::{new})::text IS NOT DISTINCT FROM v::text;"
    body = f"PERFORM {expression.format('v')}; RETURN true;" if has_zone else same
    execute(
        work.copy,
        f"CREATE FUNCTION pg_temp.fits(v {new}) RETURNS boolean LANGUAGE plpgsql AS "
        f"$fits$ BEGIN {body} EXCEPTION WHEN OTHERS THEN RETURN false; END $fits$",
    )
    value = f"t.{quote(column.name)}"
    found = work.keys_where(table, f"{value} IS NOT NULL AND NOT pg_temp.fits({value})")
    execute(work.copy, f"DROP FUNCTION pg_temp.fits({new})")
    return found if found or has_zone else _unlike(work, column, expression, new)


def _unlike(work: Work, column: Object, expression: str, new: str) -> list[str]:
    """Rows written since, where the rows from before show that a cast does not give what was there."""
    sides = work.sides_of(column.parent)
    if sides is None or not sides.key:
        return []
    was, made, now, c = sides.of("was"), sides.of("made"), sides.of("now"), quote(column.name)
    back = expression.format(f"m.{c}::{new}")
    both = f"{made} m JOIN {was} w ON {sides.on('m', 'w')} WHERE ({back})::text IS DISTINCT FROM w.{c}"
    if not work.count(f"SELECT count(*) AS n FROM {both}"):
        return []
    return work.keys_of(
        f"""SELECT array_to_string({sides.keys("n")}, ' ') AS k FROM {now} n WHERE n.{c} IS NOT NULL AND NOT EXISTS (
        SELECT FROM {made} m WHERE {sides.on("n", "m")} AND m.{c} IS NOT DISTINCT FROM n.{c}) LIMIT {MANY}"""
    )


def _unknown_labels(work: Work, column: Object, old: str) -> list[str]:
    """Rows that hold what an enum that is made again does not have."""
    enum = work.goal.get(f"type {old.removesuffix('[]')}")
    if enum is None or enum.definition["kind"] != "e":
        return []
    labels, value = ", ".join(map(literal, enum.definition["labels"] or [])), f"t.{quote(column.name)}"
    unknown = (
        f"NOT ({value}::text[] <@ ARRAY[{labels}]::text[])" if old.endswith("[]") else f"{value}::text NOT IN ({labels})"
    )
    return work.keys_where(work.live[column.parent], unknown)
