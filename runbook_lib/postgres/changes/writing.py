"""Restores values and rows on the scratch copy, and deletes those that migrations inserted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import psycopg

from runbook_lib.postgres.changes.objects import Object, literal, quote, short
from runbook_lib.postgres.changes.reading import require_expression
from runbook_lib.postgres.changes.rows import CELLS, GONE, RULED, SCRATCH, Sides, execute, quoted_list
from runbook_lib.postgres.changes.work import MANY, Work, column_of, said

ENABLE = {"O": "ENABLE", "D": "DISABLE", "R": "ENABLE REPLICA", "A": "ENABLE ALWAYS"}


@contextmanager
def triggers_off(work: Work) -> Iterator[None]:
    """Disable the users' triggers while a block writes. Changes the scratch copy."""
    triggers = work.reconciler.catalog().of("trigger")
    quiet = {each.parent for each in triggers if each.parent.startswith("table ")}
    tables = [each for each in work.reconciler.catalog().of("table") if each.key in quiet]
    work.reconciler.run(*(f"ALTER TABLE {each.quoted} DISABLE TRIGGER USER" for each in tables))
    yield
    for each in triggers:
        if each.parent in quiet:
            how = ENABLE[each.definition["enabled"]]
            work.reconciler.run(f"ALTER TABLE {each.keeps['table']} {how} TRIGGER {quote(each.name)}")


def take_over(work: Work) -> None:
    """Copy rows into tables whose kind changes, from those they replace. Changes the scratch copy."""
    for sides in work.replaced:
        columns, replaced = quoted_list(sides.columns), f"{SCRATCH}.{quote(sides.table.name)}"
        work.reconciler.run(
            f"INSERT INTO {sides.table.quoted} ({columns}) OVERRIDING SYSTEM VALUE SELECT {columns} FROM {replaced}",
            f"DROP TABLE {replaced} CASCADE",
        )


def put_back(work: Work) -> None:
    """Write all restored values and rows. Changes the scratch copy."""
    _leave_partitions(work)
    _join_partitions(work)
    _insert(work)
    for sides in work.sides:
        _update(work, sides)
        _decided(work, sides)
    _delete(work)


def continue_sequences(work: Work) -> None:
    """Set recreated sequences to continue after the highest present value. Changes the scratch copy."""
    now = work.reconciler.catalog()
    for column in now.of("column"):
        before, default = work.live.get(column.key), column.definition["default"] or ""
        same = before is not None and all(before.definition[a] == column.definition[a] for a in ("default", "identity"))
        if same or not ("nextval(" in default or column.definition["identity"]):
            continue
        table = now[column.parent]
        name = f"pg_get_serial_sequence({literal(table.quoted)}, {literal(column.name)})"
        if "nextval(" in default:
            name = default.partition("nextval(")[2].partition(")")[0].partition("::")[0]
        highest = f"SELECT max({quote(column.name)}) FROM {table.rows}"
        work.reconciler.run(f"SELECT setval({name}::regclass, ({highest})) WHERE ({highest}) IS NOT NULL")


def is_replaced(work: Work, parents: Sequence[str]) -> bool:
    """Report whether a partition's parent is recreated too. Pure."""
    new = any(f"table {parent}" not in work.live.objects for parent in parents)
    return new or any(each.table.address in parents for each in work.replaced)


def _leave_partitions(work: Work) -> None:
    """Move the rows of removed partitions to their partitioned table."""
    for key, goal in work.goal.items():
        there = work.live.get(key)
        if goal is not None or there is None or there.kind != "table" or not there.definition["bound"]:
            continue
        parent = work.live[f"table {there.definition['inherits'][0]}"]
        columns = quoted_list(each.name for each in work.live.parts(parent, "column") if not each.definition["generated"])
        sides = work.sides_of(parent.key)
        staying = ""
        if sides and sides.key:
            staying = f" WHERE NOT EXISTS (SELECT FROM {GONE} g WHERE g.place = {sides.place} AND {on(work, sides, 'g')})"
        try:
            work.reconciler.run(
                f"INSERT INTO {parent.quoted} ({columns}) OVERRIDING SYSTEM VALUE "
                f"SELECT {columns} FROM {there.rows} t{staying}"
            )
        except psycopg.Error as error:
            work.reversal.refuse(there.name, f"its rows fit no other partition: {said(error)}")


def _join_partitions(work: Work) -> None:
    """Move matching rows into restored partitions, and attach them."""
    for key, goal in work.goal.items():
        if goal is None or goal.kind != "table" or not goal.definition["bound"] or key in work.live.objects:
            continue
        if is_replaced(work, goal.definition["inherits"]):
            continue
        parent = work.live[f"table {goal.definition['inherits'][0]}"]
        parts = work.reconciler.catalog().parts(goal, "column")
        columns = quoted_list(each.name for each in parts if not each.definition["generated"])
        work.reconciler.run(
            f"WITH gone AS (DELETE FROM {parent.quoted} WHERE {goal.keeps['belongs']} RETURNING {columns}) "
            f"INSERT INTO {goal.quoted} ({columns}) OVERRIDING SYSTEM VALUE SELECT {columns} FROM gone",
            f"ALTER TABLE {parent.quoted} ATTACH PARTITION {goal.quoted} {goal.definition['bound']}",
        )


def _update(work: Work, sides: Sides) -> None:
    for column in sorted((*sides.columns, *sides.dropped), key=lambda each: each in sides.key):
        cells = f"FROM {CELLS} c WHERE c.place = {sides.place} AND c.col = {literal(column)}"
        if sides.key and work.count(f"SELECT count(*) AS n {cells}"):
            value = f"c.value::{work.type_of(sides, column)}"
            work.reconciler.run(
                f"UPDATE {sides.table.rows} t SET {quote(column)} = {value} {cells} AND {on(work, sides, 'c')}"
            )
    if sides.key:
        _note_keys(work, sides)
    _fill_defaults(work, sides)


def _decided(work: Work, sides: Sides) -> None:
    """Write the values that a person decided."""
    where = {column: "" for column in sides.dropped}
    for place, column in work.ruled:
        if place == sides.place:
            same = on(work, sides, "r", quote(sides.table.name))
            where[column] = (
                f" WHERE EXISTS (SELECT FROM {RULED} r WHERE r.place = {place} AND r.col = {literal(column)} AND {same})"
            )
    for column, condition in where.items():
        rule = work.rule(sides.name, column)
        if not rule:
            continue
        value, name = f"({rule})::{work.type_of(sides, column)}", quote(sides.table.name)
        run_decided(
            work, sides.table, column, rule, f"UPDATE {sides.table.rows} AS {name} SET {quote(column)} = {value}{condition}"
        )
    _fill_defaults(work, sides)


def run_decided(work: Work, table: Object, thing: str, rule: str, statement: str) -> bool:
    """Execute a statement with a person's SQL, which names objects without their schema; refuse if it fails.

    Changes the scratch copy.
    """
    path = f"{quote(table.schema)}, public"
    to, back = (f"SELECT set_config('search_path', {literal(each)}, true)" for each in (path, ""))
    try:
        require_expression(rule)
        work.reconciler.run(to, statement, back)
    except (psycopg.Error, ValueError) as error:
        work.reversal.refuse(thing, f"the decision about it fails: {str(error).strip().splitlines()[0]}")
        return False
    return True


def _fill_defaults(work: Work, sides: Sides) -> None:
    """Fill restored NOT NULL columns with their default where they are NULL."""
    for column in sides.dropped:
        found = column_of(work.was, sides.table, column)
        if found and found.definition["not null"] and found.definition["default"]:
            work.reconciler.run(
                f"UPDATE {sides.table.rows} SET {quote(column)} = {found.definition['default']} "
                f"WHERE {quote(column)} IS NULL"
            )


def _note_keys(work: Work, sides: Sides) -> None:
    """Record which rows get another key, for an undo."""
    columns = ", ".join(map(literal, sides.key))
    asked = f"SELECT k, col, value FROM {CELLS} WHERE place = {sides.place} AND col IN ({columns})"
    found: dict[tuple[str, ...], list[str]] = {}
    for row in execute(work.copy, asked):
        before = tuple(map(str, row["k"] if isinstance(row["k"], list) else []))
        found.setdefault(before, list(before))[sides.key.index(str(row["col"]))] = str(row["value"])
    if found:
        work.reversal.rekeyed[work.live[sides.table.key].id] = [(list(before), after) for before, after in found.items()]


def on(work: Work, sides: Sides, staged: str, row: str = "t") -> str:
    """Build the condition that a table's row has the key of a text table's row. Pure."""
    keys = enumerate(sides.key, 1)
    return " AND ".join(f"{row}.{quote(k)} = {staged}.k[{place}]::{work.type_of(sides, k)}" for place, k in keys)


def _insert(work: Work) -> None:
    """Insert restored rows, parents first."""
    waiting = {sides.place: sides for sides in work.inserts}
    work.reversal.staged += [sides.of("was") for sides in work.inserts]
    while waiting:
        tables = {each.table.key for each in waiting.values()}
        ready = [each for each in waiting.values() if not _parents(work, each) & tables - {each.table.key}]
        for sides in ready or list(waiting.values())[:1]:
            _insert_into(work, sides)
            del waiting[sides.place]


def _foreign_keys(work: Work, table: Object) -> list[Object]:
    return [each for each in work.was.parts(table, "constraint") if each.definition["type"] == "f"]


def _parents(work: Work, sides: Sides) -> set[str]:
    return {f"table {each.keeps['references']}" for each in _foreign_keys(work, sides.table)}


def _insert_into(work: Work, sides: Sides) -> None:
    """Insert a table's rows whose parents exist; repeat if rows are each other's parents."""
    decided = work.decide.get(short(sides.name))
    if decided and decided.rows:
        listed = quoted_list(sides.dropped)
        inserted = (
            f"INSERT INTO {sides.table.quoted} ({listed}) OVERRIDING SYSTEM VALUE SELECT {listed} FROM ({decided.rows}) q"
        )
        run_decided(work, sides.table, sides.table.name, decided.rows, inserted)
        return
    names = {*sides.columns, *sides.dropped}
    columns = [each.name for each in work.was.parts(sides.table, "column") if each.name in names]
    terms = ", ".join(f"w.{quote(c)}::{work.type_of(sides, c)}" for c in columns)
    conditions = ["true"]
    for each in _foreign_keys(work, sides.table):
        pairs = list(zip(each.keeps["columns"], each.keeps["referred"], strict=True))
        match = " AND ".join(f"p.{quote(there)} = w.{quote(here)}::{work.type_of(sides, here)}" for here, there in pairs)
        nulls = " OR ".join(f"w.{quote(here)} IS NULL" for here, _ in pairs)
        conditions.append(f"({nulls} OR EXISTS (SELECT FROM {each.keeps['references']} p WHERE {match}))")
    in_itself = sides.table.key in _parents(work, sides)
    statement = (
        f"INSERT INTO {sides.table.quoted} ({quoted_list(columns)}) OVERRIDING SYSTEM VALUE SELECT {terms} "
        f"FROM {sides.of('was')} w WHERE {' AND '.join(conditions)}{' ON CONFLICT DO NOTHING' if in_itself else ''}"
    )
    waiting = work.count(f"SELECT count(*) AS n FROM {sides.of('was')}")
    before = work.count(f"SELECT count(*) AS n FROM {sides.table.rows}")
    while True:
        try:
            work.reconciler.run(statement)
        except psycopg.Error as error:
            work.reversal.refuse(sides.table.name, f"rows cannot be inserted again: {said(error)}")
            return
        now = work.count(f"SELECT count(*) AS n FROM {sides.table.rows}")
        waiting -= now - before
        if not in_itself or now == before or not waiting:
            break
        before = now
    if waiting:
        work.reversal.notes.append(f"{waiting} rows of {sides.name} do not come back: what they refer to is gone")


def _delete(work: Work) -> None:
    """Delete the rows that migrations inserted, children first; never rows of users that refer to them."""
    left = [each for each in work.sides if work.count(f"SELECT count(*) AS n FROM {GONE} WHERE place = {each.place}")]
    for sides in left:
        if rows := _referring(work, sides):
            work.reversal.refuse(sides.table.name, "rows that the migration inserted are referred to", rows)
            return
    while left:
        failed: list[tuple[Sides, psycopg.Error]] = []
        for sides in left:
            try:
                work.reconciler.run(
                    f"DELETE FROM {sides.table.rows} t USING {GONE} g WHERE g.place = {sides.place} "
                    f"AND {on(work, sides, 'g')}"
                )
            except psycopg.Error as error:
                failed.append((sides, error))
        if len(failed) == len(left):
            for sides, why in failed:
                work.reversal.refuse(sides.table.name, f"rows that the migration inserted stay: {said(why)}")
            return
        left = [sides for sides, _ in failed]


def _referring(work: Work, sides: Sides) -> list[str]:
    found, now = list[str](), work.reconciler.catalog()
    for each in now.of("constraint"):
        child = now[each.parent]
        if each.definition["type"] != "f" or each.keeps["references"] != sides.table.address:
            continue
        if work.goal.get(child.key, child) is None:
            continue
        pairs = zip(each.keeps["columns"], each.keeps["referred"], strict=True)
        match = " AND ".join(f"x.{quote(here)} = t.{quote(there)}" for here, there in pairs)
        also, going = work.sides_of(child.key), "false"
        if also and also.key:
            key = ", ".join(f"x.{quote(k)}::text" for k in also.key)
            going = f"EXISTS (SELECT FROM {GONE} h WHERE h.place = {also.place} AND h.k = ARRAY[{key}])"
        listed = ", ".join(f"x.{quote(c)}" for c in each.keeps["columns"])
        found += work.keys_of(
            f"""SELECT concat_ws(' ', {listed}) AS k FROM {child.rows} x, {sides.table.rows} t, {GONE} g
            WHERE g.place = {sides.place} AND {on(work, sides, "g")} AND {match} AND NOT {going} LIMIT {MANY}"""
        )
    return found
