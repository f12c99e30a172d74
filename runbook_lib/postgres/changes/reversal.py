"""Undoes, on a scratch copy of the live database, the change from one state to another; the result can be applied.

The same merge does a rollback (states before and after the migrations) and its undo (states before and after the rollback).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import psycopg

from runbook_lib.config.plan.decide import Decision
from runbook_lib.postgres import Connection
from runbook_lib.postgres.changes import comparison, flow, labels, misfits, moved, reading, retyping, writing
from runbook_lib.postgres.changes.concerned import bodies, concerned
from runbook_lib.postgres.changes.kinds import KINDS, catalog_of, catalogs_of
from runbook_lib.postgres.changes.net_change import (
    IN_A_TABLE,
    Rename,
    Renames,
    differences,
    in_turn,
    merge,
    net_changes,
    renames,
)
from runbook_lib.postgres.changes.objects import Catalog, Object, quote, short
from runbook_lib.postgres.changes.reconcile import Reconciler
from runbook_lib.postgres.changes.rows import SCRATCH, execute
from runbook_lib.postgres.changes.work import Reversal, Work, said

LOOSE = ("constraint", "index", "view", "trigger", "rule", "policy", "statistics")  # dropped while values are restored
FIRST = ("schema", "extension", "type", "table", "column", "sequence")  # created before values are restored


def reverse(
    before: Connection,
    after: Connection,
    copy: Connection,
    scripts: Sequence[str] = (),
    renamed: Renames = renames,
    decide: Mapping[str, Decision] | None = None,
) -> Reversal:
    """Undo the change from `before` to `after` on a copy of the live database. Changes `copy`, which is scratch.

    Args:
        before: The state before.
        after: The state after, a scratch copy; its objects get their earlier names during the work.
        copy: A copy of the live database, outside of a transaction.
        scripts: The migrations' SQL, which shows whether values moved.
        renamed: Finds the renames; by OIDs if `after` is a copy of `before`.
        decide: What a person decided, by table or column.
    """
    reversal = Reversal()
    execute(copy, f"CREATE SCHEMA IF NOT EXISTS {SCRATCH}")
    for connection in (after, copy):
        execute(connection, "SET check_function_bodies = off")
        execute(connection, "SET search_path = ''")
    was, made, live = catalogs_of(before, after, copy)
    reconciler = Reconciler(copy, live)
    try:
        with after.transaction(force_rollback=True), copy.transaction():
            made = _rename(was, made, after, reconciler, reversal, renamed)
            texts = bodies(was) | bodies(made)
            script, followed = reading.read(scripts, texts), flow.read(scripts, texts.values())
            work = Work(copy, after, script, followed, was, made, reconciler.catalog(), reversal, reconciler)
            work.decide = decide or {}
            _tried(work, before)
            reversal.locks = reconciler.locks(live)
    except psycopg.Error as error:
        reversal.refuse("the rollback", f"the server refused what was tried on the copy: {said(error)}")
    reversal.statements, reversal.seconds = reconciler.statements, reconciler.seconds
    return reversal


def _tried(work: Work, before: Connection) -> None:
    reversal = work.reversal
    _refuse_unknown(work)
    reversal.changes = net_changes(work.was, work.made)
    merged = merge(reversal.changes, work.live)
    reversal.refusals += merged.refusals
    reversal.notes += merged.since + merged.left
    work.goal = dict(merged.goal)
    comparison.compare(work, before)
    labels.settle_labels(work)
    labels.refuse_filled_fields(work)
    retyping.find_conversions(work)
    moved.refuse_moved(work)
    moved.note_key_copies(work)
    reversal.concerned = concerned(work)
    if not reversal.refusals:
        _act(work)


def _refuse_unknown(work: Work) -> None:
    """Refuse decisions about objects that did not exist before."""
    there = {short(each.address) for kind in ("table", "column") for each in work.was.of(kind)}
    fitted = {short(each.address) for each in work.was.of("column")} | {
        short(f"{each.parent.partition(' ')[2]}.{quote(each.name)}")
        for kind in ("constraint", "index")
        for each in work.was.of(kind)
    }
    for name, decision in work.decide.items():
        if decision.misfits is not None and name not in fitted:
            work.reversal.refuse(name, "a plan decides its misfits, but no column, constraint or index had this name before")
        elif decision.misfits is None:
            for thing in (name, *(f"{name}.{column}" for column in decision.columns)):
                if thing not in there:
                    work.reversal.refuse(thing, "a plan decides it, but it did not exist before")


def _rename(
    was: Catalog, made: Catalog, after: Connection, reconciler: Reconciler, reversal: Reversal, renamed: Renames
) -> Catalog:
    """Restore all earlier names, tables first; return the second state's resulting catalog."""
    if not renamed(was, made):
        return made
    for kinds in (("schema",), tuple(KINDS.keys() - {"schema", *IN_A_TABLE}), IN_A_TABLE):
        found, live = [each for each in renamed(was, made) if each.before.kind in kinds], reconciler.catalog()
        if not found:
            continue
        _make_schemas(found, after, reconciler)
        reversal.renames += found
        there = {each.before.id: live.get(each.after.key) for each in found}
        for statement in in_turn((each, each.after) for each in found):
            execute(after, statement)
        try:
            reconciler.run(*in_turn((each, now) for each in found if (now := there[each.before.id])))
        except psycopg.Error as error:
            reversal.refuse(", ".join(each.after.name for each in found), said(error))
        for each in found:
            if there[each.before.id] is None and live.get(each.before.key) is None:
                reversal.refuse(each.after.name, f"{each.after.key} was renamed, and no longer exists")
        made = catalog_of(after)
    return made


def _make_schemas(found: Sequence[Rename], after: Connection, reconciler: Reconciler) -> None:
    """Create the schemas that objects move back to."""
    for schema in {each.before.schema for each in found if each.before.schema != each.after.schema and each.before.schema}:
        made = f"CREATE SCHEMA {quote(schema)}"
        if f"schema {schema}" not in reconciler.catalog().objects:
            reconciler.run(made)
        if f"schema {schema}" not in catalog_of(after).objects:
            execute(after, made)


def _act(work: Work) -> None:
    for sides in work.sides:
        goal, there = work.goal.get(sides.table.key), work.live.get(sides.table.key)
        if goal and there and goal.definition["kind"] != there.definition["kind"]:
            work.reconciler.run(f"ALTER TABLE {there.quoted} SET SCHEMA {SCRATCH}")
            work.replaced.append(sides)
    for each in work.remade:
        work.reconciler.run(f"ALTER TYPE {each.quoted} SET SCHEMA {SCRATCH}")
    work.reconciler.reach(_loosened(work), whole=False)
    work.reconciler.run(*work.helpers)
    writing.take_over(work)
    with writing.triggers_off(work):
        writing.put_back(work)
        misfits.settle(work)
    work.reversal.goal = _expected(work)
    work.reconciler.reach(work.reversal.goal, whole=True)
    failures = dict(work.reconciler.failures)
    if not failures:
        writing.continue_sequences(work)
        for each in work.remade:
            try:
                work.reconciler.run(f"DROP TYPE {SCRATCH}.{quote(each.name)}")
            except psycopg.Error as error:
                work.reversal.refuse(each.name, f"it cannot be recreated: {said(error)} {error.diag.message_detail}")
    for key, failure in failures.items():
        _refuse(work, key, failure)
    if not work.reversal.refusals and (left := differences(work.reversal.goal, work.reconciler.catalog().objects)):
        work.reversal.refuse(left[0].partition(" ")[2], f"the catalog would not be as it was: {', '.join(left)}")


def _expected(work: Work) -> dict[str, Object]:
    """Return all objects expected in the catalog afterwards."""

    def goes(each: Object) -> bool:
        with_it = each.kind in ("rights", "comment", "sequence")
        return with_it and each.parent in work.goal and work.goal[each.parent] is None

    kept = {key: each for key, each in work.live.objects.items() if key not in work.goal and not goes(each)}
    return kept | {key: each for key, each in work.goal.items() if each is not None}


def _loosened(work: Work) -> dict[str, Object]:
    """Return the catalog for restoring values: without what they could violate, with all that may hold them."""
    found: dict[str, Object] = {}
    for key, each in work.live.objects.items():
        goal = work.goal.get(key, each)
        if goal is each:
            found[key] = each
        elif each.kind in LOOSE:
            continue
        elif goal is None:
            found[key] = _as_plain_table(each) if each.kind == "table" else work.meanwhile.get(key, each)
        elif each.kind == "column":
            found[key] = _bare(goal, each)
        else:
            found[key] = goal if each.kind in FIRST else each
    for key, goal in work.goal.items():
        if goal is None or key in found or goal.kind not in FIRST:
            continue
        if goal.kind == "column":
            in_place = goal.parent in work.live.objects and not any(each.table.key == goal.parent for each in work.replaced)
            without = replace(goal, definition={**goal.definition, "default": None})
            found[key] = _bare(goal, None) if in_place else without
        elif goal.kind == "table" and not writing.is_replaced(work, goal.definition["inherits"] or []):
            found[key] = _as_plain_table(goal)
        elif goal.kind == "sequence":
            found[key] = replace(goal, definition={**goal.definition, "owned by": None})
        else:
            found[key] = goal
    return found


def _as_plain_table(table: Object) -> Object:
    """Return a partition as a plain table; any other table as it is."""
    if not table.definition["bound"]:
        return table
    return replace(table, definition={**table.definition, "bound": None, "inherits": None})


def _bare(column: Object, there: Object | None) -> Object:
    """Return a column as it can be before it is filled."""
    of = column.definition
    if there is not None and there.definition["identity"] != of["identity"]:
        return replace(column, definition={**of, "identity": None, "sequence": None, "default": None})
    if of["identity"] or of["generated"]:
        return column
    return replace(column, definition={**of, "not null": False, "default": None})


def _refuse(work: Work, key: str, error: psycopg.Error) -> None:
    goal = work.goal.get(key) or work.live.get(key)
    name = goal.name if goal and goal.name else key.partition(" ")[2]
    if isinstance(error, psycopg.IntegrityError) and goal is not None:
        detail = f" ({error.diag.message_detail})" if error.diag.message_detail and goal.kind == "index" else ""
        work.reversal.refuse(name, f"rows do not satisfy it: {said(error)}{detail}", _violating(work, goal))
    elif key in work.live.objects and key not in work.goal:
        work.reversal.refuse(name, f"it is not the feature's, and depends on what would be dropped: {said(error)}")
    else:
        action = "dropped" if work.goal.get(key) is None else "brought back"
        detail = (error.diag.message_detail or "").replace("\n", "; ")
        work.reversal.refuse(name, f"it cannot be {action}: {said(error)} {detail}".strip())


def _violating(work: Work, goal: Object) -> list[str]:
    """Return the keys of rows that violate a constraint, a unique index, or a column's NOT NULL."""
    table = work.was.get(goal.parent) or work.live.get(goal.parent)
    condition = misfits.violation(goal, table) if table else ""
    return work.keys_where(table, condition) if table and condition else []
