"""Refuses, by name, values that a migration may have moved elsewhere: only a person knows how to restore them."""

from __future__ import annotations

import re

from runbook_lib.postgres import Connection
from runbook_lib.postgres.changes.objects import Object, literal, quote, short
from runbook_lib.postgres.changes.rows import SCRATCH, Sides, Source, execute, load
from runbook_lib.postgres.changes.work import MANY, Work

_WHERE = re.compile(r"\sWHERE ")
DOCUMENTS = ("json", "jsonb", "xml", "hstore")  # types whose values have their own structure
HOLDING = ("column ", "table ")  # the start of keys of objects that hold values


def refuse_moved(work: Work) -> None:
    """Refuse if migrations, while writing rows, read what they dropped and created something that can hold it."""
    if not any(each.what == "created" and each.key.startswith(HOLDING) for each in work.reversal.changes):
        return
    for change in work.reversal.changes:
        if change.what != "dropped" or not change.key.startswith(HOLDING) or change.before is None:
            continue
        thing = change.before
        is_column = thing.kind == "column"
        if is_column and work.made.get(thing.parent) is None:
            continue  # it was dropped with its table
        table = work.was[thing.parent].name if is_column else thing.name
        if _is_decided(work, thing):
            continue
        if not work.script.reads(table, thing.name if is_column else None):
            continue
        why = f"the migration read {thing.address} while it wrote elsewhere: its values may have moved there"
        work.reversal.refuse(thing.name, why)
        if is_column:
            _name_unknown_values(work, thing)


def note_key_copies(work: Work) -> None:
    """Record which columns of created tables hold keys of tables restored by a query, which may give other keys."""
    created = {each.after.name: each.after for each in work.reversal.changes if each.what == "created" and each.after}
    for name, decision in work.decide.items():
        table = next((each for each in work.was.of("table") if short(each.address) == name and decision.rows), None)
        keys = (
            [each.keeps["columns"] for each in work.was.parts(table, "constraint") if each.definition["type"] == "p"]
            if table
            else []
        )
        for copied in work.script.copied:
            into = created.get(copied.into)
            if not table or not into or copied.source != table.name or [copied.of] not in keys:
                continue
            parts = sorted(work.made.parts(into, "column"), key=lambda each: each.keeps["place"])
            names = [each.name for each in parts]
            column = copied.column if isinstance(copied.column, str) else "".join(names[copied.column : copied.column + 1])
            if column in names:
                work.reversal.key_copies.setdefault(into.address, set()).add(column)


def _is_decided(work: Work, thing: Object) -> bool:
    if thing.kind == "column":
        return bool(work.rule(thing.parent.partition(" ")[2], thing.name))
    found = work.decide.get(short(thing.address))
    return bool(found and found.rows)


def refuse_moved_to_a_new_column(work: Work, sides: Sides, column: str, wrote: str, since: tuple[str, str]) -> None:
    """Refuse if values may have moved to a created column, in rows written since.

    If the statements show that they did not move, another run of the migrations must leave those rows alone.

    Args:
        work: The reversal.
        sides: The table.
        column: A column from before that migrations wrote.
        wrote: The rows that they wrote, as a FROM list with `m` and `w`.
        since: The rows that are new or changed since, as FROM clauses with `n`.
    """
    for created in created_columns(work, sides.table):
        if created.definition["generated"]:
            continue
        c, default = quote(created.name), _default(created)
        made = _loaded(work, "made", work.after, sides, created)
        filled = (
            f"SELECT count(*) AS n FROM {wrote} JOIN {made} x ON {sides.on('x', 'm')} WHERE x.{c} IS DISTINCT FROM {default}"
        )
        if not work.count(filled):
            continue
        now = _loaded(work, "now", work.copy, sides, created)
        held = f"JOIN {now} x ON {sides.on('x', 'n')} AND x.{c} IS DISTINCT FROM {default}"
        listed = f"SELECT array_to_string({sides.keys('n')}, ' ') AS k"
        parts = [f"{begin} {held} WHERE {end}" for begin, end in (_WHERE.split(part, maxsplit=1) for part in since)]
        if not (rows := [key for part in parts for key in work.keys_of(f"{listed} {part} LIMIT {MANY}")]):
            continue
        if work.flow.keeps_apart(sides.table.name, column, created.name):
            work.reversal.repeatable.append((sides.table.address, column, sides.key))
        else:
            why = f"values of {sides.name}.{column} may have moved to {created.name}, and rows were written since"
            work.reversal.refuse(column, why, rows)


def created_columns(work: Work, table: Object) -> list[Object]:
    """Return the columns that migrations added to a table from before. Pure."""
    was = {each.name for each in work.was.parts(table, "column")}
    return [each for each in work.made.parts(work.made[table.key], "column") if each.name not in was]


def _name_unknown_values(work: Work, dropped: Object) -> None:
    """Name the values of a new column for which no row shows the dropped column's value."""
    sides = work.sides_of(dropped.parent)
    if sides is None or not sides.key:
        return
    states = (("made", work.after), ("now", work.copy))
    for created in created_columns(work, sides.table):
        if created.definition["type"] in DOCUMENTS:
            continue
        made, now = (_loaded(work, state, source, sides, created) for state, source in states)
        c, d = quote(created.name), quote(dropped.name)
        pairs = f"SELECT DISTINCT m.{c} AS new, w.{d} AS old FROM {made} m JOIN {sides.of('was')} w ON {sides.on('m', 'w')}"
        values = [row["new"] for row in execute(work.copy, pairs)]
        if len(set(values)) < len(values) or len(values) > MANY:
            continue  # one value has several earlier ones
        known = ", ".join(literal(str(value)) for value in values if value is not None) or "''"
        asked = f"""SELECT n.{c} AS value, array_agg(array_to_string({sides.keys("n")}, ' ')) AS k FROM {now} n
            WHERE n.{c} NOT IN ({known}) GROUP BY 1 LIMIT {MANY}"""
        for row in execute(work.copy, asked):
            keys = row["k"] if isinstance(row["k"], list) else []
            why = f"{created.address} holds it, and {dropped.address} has no value for it"
            work.reversal.refuse(str(row["value"]), why, keys)


def _loaded(work: Work, state: str, source: Connection, sides: Sides, column: Object) -> str:
    name = f'"{SCRATCH}"."{state}_{sides.place}_{column.keeps["place"]}"'
    catalog = work.made if source is work.after else work.live
    if not work.count(f"SELECT (to_regclass({literal(name)}) IS NOT NULL)::int AS n"):
        columns = {each: each for each in (*sides.key, column.name)}
        load(work.copy, name, Source(source, catalog[sides.table.key].rows, columns))
    return name


def _default(column: Object) -> str:
    text = column.definition["default"]
    return f"({text})::text" if text and "nextval(" not in text else "NULL"
