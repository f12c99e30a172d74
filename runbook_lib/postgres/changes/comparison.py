"""Compares the rows of three states of a database, and records in tables of the scratch copy what must be written."""

from __future__ import annotations

from dataclasses import replace

from runbook_lib.postgres import Connection
from runbook_lib.postgres.changes import moved
from runbook_lib.postgres.changes.objects import Object, literal, quote
from runbook_lib.postgres.changes.rows import (
    CELLS,
    GONE,
    ORIGINAL,
    RULED,
    Sides,
    Source,
    candidates,
    execute,
    is_key,
    load,
    rekeyed,
    row_sums,
    same_rows,
)
from runbook_lib.postgres.changes.work import MANY, Work, column_of, type_in


def compare(work: Work, before: Connection) -> None:
    """Find what must be written in each table, or refuse. Changes the scratch copy."""
    execute(work.copy, f"CREATE TABLE {CELLS} (place int, col text, k text[], expected text, value text)")
    execute(work.copy, f"CREATE TABLE {GONE} (place int, k text[])")
    execute(work.copy, f"CREATE TABLE {RULED} (place int, col text, k text[])")
    work.reversal.staged += [CELLS, GONE, RULED]
    same = _untouched(work, before)
    for place, table in enumerate(work.was.of("table")):
        if table.key not in same and (sides := _sides(work, before, place, table)):
            work.sides.append(sides)
            _compare(work, sides)


def _untouched(work: Work, before: Connection) -> set[str]:
    """Find the tables, by key, that the change left alone: neither their definition nor any of their rows differs."""
    changes = work.reversal.changes
    if any(each.before and each.after and each.before.kind == "type" for each in changes):
        return set()  # any column may hold such values
    sides = [side for change in changes for side in (change.before, change.after) if side]
    touched, found = set[str](), {key for side in sides for key in (side.key, side.parent)}
    parents: dict[str, set[str]] = {}
    for table in [*work.was.of("table"), *work.made.of("table")]:
        parents.setdefault(table.key, set()).update(f"table {parent}" for parent in table.definition["inherits"] or [])
    while found:
        touched |= found
        found = {parent for key in found for parent in parents.get(key, ())} - touched
    left = [each for each in work.was.of("table") if each.key not in touched and work.made.get(each.key)]
    was, made = row_sums(before, left), row_sums(work.after, [work.made[each.key] for each in left])
    return {each.key for each in left if was[each.address] == made[each.address]}


def _sides(work: Work, before: Connection, place: int, table: Object) -> Sides | None:
    """Load the states of a table from before; None if there is nothing to compare."""
    if table.definition["bound"]:
        return None  # its rows belong to the partitioned table
    was = {each.name: each.name for each in work.was.parts(table, "column") if not each.definition["generated"]}
    made, live = work.made.get(table.key), work.live.get(table.key)
    if made is None and live is None:
        sides = Sides(table.address, place, table, (), tuple(was))
        load(work.copy, sides.of("was"), Source(before, table.rows, was))
        return sides
    if made is None or live is None:
        return None
    common = [name for name in was if column_of(work.made, table, name) and column_of(work.live, table, name)]
    sides = Sides(table.address, place, table, tuple(common), tuple(name for name in was if name not in common))
    load(work.copy, sides.of("was"), Source(before, table.rows, was))
    for state, connection, its in (("made", work.after, made), ("now", work.copy, live)):
        load(work.copy, sides.of(state), Source(connection, its.rows, {name: name for name in common}))
    _follow_keys(work, sides)
    tables = [sides.of(state) for state in ("was", "made", "now")]
    for catalog in (work.was, work.made):
        for key in candidates(catalog, catalog[table.key]):
            if set(key) <= set(common) and is_key(work.copy, tables, key):
                return replace(sides, key=tuple(key))
    return sides


def _follow_keys(work: Work, sides: Sides) -> None:
    """Give the rows of the first state the keys that the change gave them; extra columns keep the earlier keys."""
    primary = [each for each in work.was.parts(sides.table, "constraint") if each.definition["type"] == "p"]
    if not primary or not set(primary[0].keeps["columns"]) <= set(sides.columns):
        return
    key, was = primary[0].keeps["columns"], sides.of("was")
    for column in key:
        execute(work.copy, f"ALTER TABLE {was} ADD COLUMN {quote(ORIGINAL + column)} text")
    execute(work.copy, f"UPDATE {was} SET {', '.join(f'{quote(ORIGINAL + c)} = {quote(c)}' for c in key)}")
    made = work.made[sides.table.key]
    for before, after in rekeyed(work.after, made):
        given = ", ".join(f"{quote(c)} = {literal(value)}" for c, value in zip(key, after, strict=True))
        had = " AND ".join(f"{quote(ORIGINAL + c)} = {literal(value)}" for c, value in zip(key, before, strict=True))
        execute(work.copy, f"UPDATE {was} SET {given} WHERE {had}")
    work.followed.update({(sides.table.key, column): ORIGINAL + column for column in key})


def _compare(work: Work, sides: Sides) -> None:
    if not sides.columns:
        work.inserts.append(sides)
        return
    if not sides.key:
        if not same_rows(work.copy, sides, "was", "made"):
            work.reversal.refuse(sides.table.name, "its rows were written, and the table has no key: it has no key")
        elif sides.dropped:
            work.reversal.refuse(sides.table.name, "a column was dropped, and its rows cannot be identified: it has no key")
        return
    for column in sides.columns:
        _written(work, sides, column)
    for column in sides.dropped:
        _dropped(work, sides, column)
    _inserted(work, sides)
    _deleted(work, sides)


def _dropped(work: Work, sides: Sides, column: str) -> None:
    if work.rule(sides.name, column):
        return
    was, now, c = sides.of("was"), sides.of("now"), quote(column)
    execute(
        work.copy,
        f"""INSERT INTO {CELLS} SELECT {sides.place}, {literal(column)}, {sides.keys("n")}, NULL, w.{c}
        FROM {now} n JOIN {was} w ON {sides.on("n", "w")} WHERE w.{c} IS NOT NULL""",
    )
    missing = f"SELECT count(*) AS n FROM {now} n WHERE NOT EXISTS (SELECT FROM {was} w WHERE {sides.on('n', 'w')})"
    if count := work.count(missing):
        work.reversal.unfilled[f"{sides.name}.{column}"] = count


def _written(work: Work, sides: Sides, column: str) -> None:
    was, made, now = (sides.of(state) for state in ("was", "made", "now"))
    c, o = quote(column), quote(work.followed.get((sides.table.key, column), column))
    wrote = f"{made} m JOIN {was} w ON {sides.on('m', 'w')} AND m.{c} IS DISTINCT FROM w.{o}"
    if not (count := work.count(f"SELECT count(*) AS n FROM {wrote}")):
        return
    execute(
        work.copy,
        f"""INSERT INTO {CELLS} SELECT {sides.place}, {literal(column)}, {sides.keys("n")}, m.{c}, w.{o}
        FROM {wrote} JOIN {now} n ON {sides.on("n", "m")} WHERE n.{c} IS NOT DISTINCT FROM m.{c}""",
    )
    if type_in(work.was, sides, column) != type_in(work.made, sides, column):
        return  # later values are converted
    work.reversal.wrote[f"{sides.name}.{column}"] = count
    since = f"""FROM {wrote} JOIN {now} n ON {sides.on("n", "m")}
        WHERE n.{c} IS DISTINCT FROM m.{c} AND n.{c} IS DISTINCT FROM w.{o}"""
    new = f"FROM {now} n WHERE NOT EXISTS (SELECT FROM {made} m WHERE {sides.on('n', 'm')})"
    if edited := work.count(f"SELECT count(*) AS n {since}"):
        work.reversal.edited[f"{sides.name}.{column}"] = edited
    if rule := work.rule(sides.name, column):
        keys = sides.keys("n")
        for part in (since, new):
            execute(work.copy, f"INSERT INTO {RULED} SELECT {sides.place}, {literal(column)}, {keys} {part}")
        work.ruled[sides.place, column] = rule
        return
    if work.type_of(sides, column).removesuffix("[]") in moved.DOCUMENTS:
        filled = f"{new} AND n.{c} IS NOT NULL"
        listed = f"SELECT array_to_string({sides.keys('n')}, ' ') AS k"
        if rows := [key for part in (since, filled) for key in work.keys_of(f"{listed} {part} LIMIT {MANY}")]:
            why = f"documents in {sides.name}.{column} were changed in place, and rows were written since"
            work.reversal.refuse(column, why, rows)
    moved.refuse_moved_to_a_new_column(work, sides, column, wrote, (new, since))


def _inserted(work: Work, sides: Sides) -> None:
    was, made, now = (sides.of(state) for state in ("was", "made", "now"))
    inserted = f"FROM {made} m WHERE NOT EXISTS (SELECT FROM {was} w WHERE {sides.on('m', 'w')})"
    if not (count := work.count(f"SELECT count(*) AS n {inserted}")):
        return
    work.reversal.inserted[sides.name] = count
    there = f"EXISTS (SELECT FROM {now} n WHERE {sides.on('n', 'm')})"
    execute(work.copy, f"INSERT INTO {GONE} SELECT {sides.place}, {sides.keys('m')} {inserted} AND {there}")
    alike = " AND ".join(f"n.{quote(c)} IS NOT DISTINCT FROM m.{quote(c)}" for c in sides.columns)
    edited = f"EXISTS (SELECT FROM {now} n WHERE {sides.on('n', 'm')} AND NOT ({alike}))"
    if count := work.count(f"SELECT count(*) AS n {inserted} AND {edited}"):
        work.reversal.lost[sides.name] = count


def _deleted(work: Work, sides: Sides) -> None:
    was, made, now = (sides.of(state) for state in ("was", "made", "now"))
    deleted = f"FROM {was} w WHERE NOT EXISTS (SELECT FROM {made} m WHERE {sides.on('m', 'w')})"
    if not (count := work.count(f"SELECT count(*) AS n {deleted}")):
        return
    work.reversal.deleted[sides.name] = count
    taken = f"EXISTS (SELECT FROM {now} n WHERE {sides.on('n', 'w')})"
    if rows := work.keys_of(f"SELECT array_to_string({sides.keys('w')}, ' ') AS k {deleted} AND {taken} LIMIT {MANY}"):
        work.reversal.refuse(sides.table.name, "rows were deleted, and others have their keys since", rows)
    execute(work.copy, f"DELETE FROM {was} w WHERE EXISTS (SELECT FROM {made} m WHERE {sides.on('m', 'w')})")
    work.inserts.append(sides)
