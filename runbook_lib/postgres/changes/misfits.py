"""Handles rows that violate a restored constraint or NOT NULL, as a plan decides."""

from __future__ import annotations

from dataclasses import replace

from runbook_lib.config.plan.decide import KEEP, REFUSE
from runbook_lib.postgres.changes.fitting import TEXTS, may_replace
from runbook_lib.postgres.changes.objects import Object, literal, quote, short
from runbook_lib.postgres.changes.rows import CELLS, RULED, Sides, execute, quoted_list
from runbook_lib.postgres.changes.work import Work, column_of, is_value
from runbook_lib.postgres.changes.writing import on, run_decided


def settle(work: Work) -> None:
    """Apply decisions to rows that violate what is restored, after all other writes. Changes the scratch copy."""
    for goal in [each for each in work.goal.values() if each]:
        table = work.was.get(goal.parent) or work.live.get(goal.parent)
        if table is None or not (condition := violation(goal, table)):
            continue
        named = [goal.name] if goal.kind == "column" else [goal.name, *_columns(goal)]
        decided = {name: work.misfits(table.address, name) for name in named}
        if set(decided.values()) <= {REFUSE}:
            continue
        if not (count := work.count(f"SELECT count(*) AS n FROM {table.rows} t WHERE {condition}")):
            continue
        rows = work.keys_where(table, condition)
        if KEEP in decided.values():
            _keep(work, goal, count, rows)
            continue
        for name in (name for name, each in decided.items() if is_value(each)):
            _replace(work, goal, table, name, decided[name])


def violation(goal: Object, table: Object, row: str = "t") -> str:
    """Build a condition for rows that violate a restored object; "" if none can be built. Pure."""
    if goal.kind == "column":
        return f"{row}.{quote(goal.name)} IS NULL" if goal.definition["not null"] else ""
    if _is_unique(goal):
        listed = quoted_list(_columns(goal))
        twice = f"SELECT {listed} FROM {table.rows} GROUP BY {listed} HAVING count(*) > 1"
        return f"({', '.join(f'{row}.{quote(c)}' for c in _columns(goal))}) IN ({twice})"
    match goal.kind, goal.definition.get("type"):
        case "constraint", "c":
            return f"NOT ({goal.keeps['expression']})"
        case "constraint", "f":
            pairs = zip(_columns(goal), goal.keeps["referred"], strict=True)
            alike = " AND ".join(f'"its parent".{quote(there)} = {row}.{quote(here)}' for here, there in pairs)
            filled = " AND ".join(f"{row}.{quote(c)} IS NOT NULL" for c in _columns(goal))
            return f'{filled} AND NOT EXISTS (SELECT FROM {goal.keeps["references"]} "its parent" WHERE {alike})'
    return ""


def _is_unique(goal: Object) -> bool:
    return bool(goal.keeps["key"]) if goal.kind == "index" else goal.kind == "constraint" and goal.definition["type"] in "pu"


def _columns(goal: Object) -> list[str]:
    """Return the columns of a constraint or an index. Pure."""
    return list(goal.keeps.get("columns") or goal.keeps.get("key") or [])


def _keep(work: Work, goal: Object, count: int, rows: list[str]) -> None:
    if goal.kind == "column":
        work.goal[goal.key] = replace(goal, definition={**goal.definition, "not null": False})
        work.reversal.keep_misfits(f"{short(goal.address)} comes back without NOT NULL", "rows hold none", count, rows)
    elif _is_unique(goal):
        work.reversal.refuse(goal.name, "rows do not satisfy it, and what is unique cannot come back NOT VALID", rows)
    else:
        text = f"{goal.definition['text']} NOT VALID"
        work.goal[goal.key] = replace(goal, definition={**goal.definition, "text": text})
        work.reversal.keep_misfits(f"{goal.name} comes back NOT VALID", "rows do not satisfy it", count, rows)


def _replace(work: Work, goal: Object, table: Object, column: str, value: str) -> None:
    """Write a decided value into a column of the violating rows; of equal rows, only into those written since."""
    found, sides = column_of(work.was, table, column), work.sides_of(table.key)
    if found is None:
        work.reversal.refuse(goal.name, "rows do not satisfy it, and a value needs a column: decide one of its columns")
    if found is None or sides is None or not may_replace(work, table.key, column, goal.name):
        return
    name, type_ = quote(table.name), found.definition["type"]
    if _is_unique(goal):
        _note_since(work, sides, goal)
        ruled = f"SELECT FROM {RULED} r WHERE r.place = {sides.place} AND r.col = {literal(goal.key)}"
        here, there = (f"EXISTS ({ruled} AND {on(work, sides, 'r', row)})" for row in ("t", name))
    else:
        here, there = violation(goal, table), violation(goal, table, name)
    count, rows = work.count(f"SELECT count(*) AS n FROM {table.rows} t WHERE {here}"), work.keys_where(table, here)
    given = value if type_.startswith(TEXTS) else f"({value})::{type_}"  # a cast would shorten it
    if count and run_decided(
        work, table, column, value, f"UPDATE {table.rows} AS {name} SET {quote(column)} = {given} WHERE {there}"
    ):
        address = f"{table.address}.{column}"
        if goal.kind == "column" and work.reversal.unfilled.pop(address, 0):
            work.reversal.notes.append(f"{count} rows without a value of {short(address)} from before; decided: {value}")
            return
        what = f"do not satisfy {goal.name}" if goal.kind != "column" else "are NULL"
        work.reversal.replace_misfits(address, what, value, count, rows)


def _note_since(work: Work, sides: Sides, goal: Object) -> None:
    """Record which duplicate rows do not hold what they held before. Changes the scratch copy."""
    key = f"ARRAY[{', '.join(f't.{quote(k)}::text' for k in sides.key)}]"
    made = " AND ".join(f"m.{quote(c)} IS NOT DISTINCT FROM t.{quote(c)}::text" for c in (*sides.key, *_columns(goal)))
    cells = f"SELECT FROM {CELLS} c WHERE c.place = {sides.place} AND c.k = {key}"
    execute(
        work.copy,
        f"""INSERT INTO {RULED} SELECT {sides.place}, {literal(goal.key)}, {key} FROM {sides.table.rows} t
        WHERE {violation(goal, sides.table)} AND NOT EXISTS (SELECT FROM {sides.of("made")} m WHERE {made})
        AND NOT EXISTS ({cells} AND c.col = ANY (ARRAY[{", ".join(map(literal, _columns(goal)))}]))""",
    )
