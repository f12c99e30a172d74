"""Handles enums that lose labels and composite types that lose fields, with the rows that hold one."""

from __future__ import annotations

from dataclasses import replace

from runbook_lib.config.plan.decide import KEEP
from runbook_lib.postgres.changes import fitting
from runbook_lib.postgres.changes.fitting import Back, of
from runbook_lib.postgres.changes.kinds import KINDS
from runbook_lib.postgres.changes.objects import Object, literal, quote, short
from runbook_lib.postgres.changes.rows import CELLS
from runbook_lib.postgres.changes.work import Work, is_value


def settle_labels(work: Work) -> None:
    """Apply decisions to rows that hold a removed enum label, or refuse; record the types to be recreated."""
    for goal in list(work.goal.values()):
        actual = work.live.get(goal.key) if goal else None
        if goal is None or actual is None or goal.kind != "type" or goal.definition["kind"] != "e":
            continue
        before, now = goal.definition["labels"] or [], actual.definition["labels"] or []
        going = [label for label in now if label not in before]
        kept = _settled(work, actual, going) if going else set()
        expected = goal
        if kept:
            left = [label for label in now if label in before or label in kept]
            expected = replace(goal, definition={**goal.definition, "labels": left})
        work.goal[goal.key] = expected
        if expected.like(actual):
            del work.goal[goal.key]
        elif KINDS["type"].alter(actual, expected, work.live) is None or _are_written(work, set(before) - set(now)):
            work.remade.append(actual)


def refuse_filled_fields(work: Work) -> None:
    """Refuse if rows hold a value in a removed field of a composite type."""
    for goal in list(work.goal.values()):
        actual = work.live.get(goal.key) if goal else None
        if goal is None or actual is None or goal.kind != "type" or goal.definition["kind"] != "c":
            continue
        left = [name for name, _ in goal.definition["fields"] or []]
        for name in (name for name, _ in actual.definition["fields"] or [] if name not in left):
            for column in _columns_of(work, actual):
                value, table = f"t.{quote(column.name)}", work.live[column.parent]
                is_list = column.definition["type"].endswith("[]")
                held = f"{value} IS NOT NULL" if is_list else f"({value}).{quote(name)} IS NOT NULL"
                if rows := work.keys_where(table, held):
                    why = f"{column.address} holds it, and {actual.address} did not have it"
                    work.reversal.refuse(name, why, rows)


def _columns_of(work: Work, kind: Object) -> list[Object]:
    """Find the columns of a type or its arrays, except those of partitions, which follow the partitioned table."""
    columns = [each for each in work.live.of("column") if each.definition["type"].removesuffix("[]") == kind.address]
    return [each for each in columns if not work.live[each.parent].definition["bound"]]


def _settled(work: Work, enum: Object, going: list[str]) -> set[str]:
    """Apply decisions to each column of an enum; return the labels that stay."""
    kept, replaced = set[str](), set[str]()
    for column in _columns_of(work, enum):
        goal, type_ = work.goal.get(column.key, column), column.definition["type"]
        back = _back(work, column, going)
        if (goal and goal.definition["type"] != type_) or not fitting.is_unfit(work, back):
            continue
        if goal is None:  # until it is dropped
            text = "text[]" if type_.endswith("[]") else "text"
            work.meanwhile[column.key] = replace(column, definition={**column.definition, "type": text, "default": None})
            continue
        table = work.live[column.parent]
        decided = work.misfits(table.address, column.name)
        held = {label: found for label in going if (found := _holding(work, column, label))[0]}
        values: Object | None = replace(goal, keeps={**goal.keeps, "using": back.values})
        if held and decided == KEEP:
            for label, (count, rows) in held.items():
                what = f"{short(enum.address)} keeps {label!r}"
                work.reversal.keep_misfits(what, f"rows of {short(table.address)} hold it", count, rows)
            kept |= {*held}
            left = _back(work, column, [label for label in going if label not in held])
            values = replace(goal, keeps={**goal.keeps, "using": left.values}) if fitting.is_unfit(work, left) else None
        elif held and is_value(decided):
            for label, (count, rows) in held.items():
                name = f"{table.address}.{column.name}"
                work.reversal.replace_misfits(name, f"are {label!r}", decided, count, rows)
            replaced |= {*held}
            values = fitting.replaced(work, goal, back, decided, f"NOT {back.fits}")
        elif held:
            for label, (_, rows) in held.items():
                work.reversal.refuse(label, f"rows hold {label!r}, which {enum.address} did not have", rows)
        if values:
            work.goal[column.key] = values
    for label in sorted(kept & replaced):
        work.reversal.refuse(label, f"a plan keeps it in one column of {short(enum.address)}, and replaces it in another")
    return kept


def _back(work: Work, column: Object, going: list[str]) -> Back:
    type_, labels = column.definition["type"], ", ".join(map(literal, going))
    text = "::text[]" if type_.endswith("[]") else "::text"
    held = f"{{0}}{text} {'&&' if type_.endswith('[]') else '= ANY'} (ARRAY[{labels}]::text[])"
    cast = f"({{0}}){text}::{type_}"
    fits = f"(({held}) IS NOT TRUE)"
    return Back(column, type_, cast, fits, fitting.keyed(work, column), cast, accepts=of(fits, cast))


def _holding(work: Work, column: Object, label: str) -> tuple[int, list[str]]:
    back = _back(work, column, [label])
    return fitting.found(work, back, f"NOT {back.fits}")


def _are_written(work: Work, labels: set[str]) -> bool:
    """Report whether a restored label is written again: a type that gets it in place cannot hold it at once."""
    named = " OR ".join(f"position({literal(label)} in value) > 0" for label in labels)
    return bool(named) and (bool(work.inserts) or bool(work.count(f"SELECT count(*) AS n FROM {CELLS} WHERE {named}")))
