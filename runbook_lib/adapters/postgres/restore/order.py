"""In what order tables are filled, so that a row's references find what they refer to."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter

from runbook_lib.adapters.postgres.restore.shape import ForeignKey, Name


@dataclass(frozen=True)
class Order:
    """In what order the tables of a circle are filled, and which references are left empty at first or checked last."""

    tables: tuple[Name, ...]
    emptied: tuple[ForeignKey, ...] = ()
    deferred: tuple[ForeignKey, ...] = ()


def components(tables: Collection[Name], keys: Iterable[ForeignKey]) -> list[tuple[Name, ...]]:
    """Tables that refer to one another in a circle belong together; those that are referred to come first."""
    targets = {table: sorted({key.target for key in keys if key.table == table} & set(tables)) for table in sorted(tables)}
    number: dict[Name, int] = {}
    lowest: dict[Name, int] = {}
    path: list[Name] = []
    found: list[tuple[Name, ...]] = []

    def visit(table: Name) -> None:  # Tarjan's algorithm
        number[table] = lowest[table] = len(number)
        path.append(table)
        for target in targets[table]:
            if target not in number:
                visit(target)
                lowest[table] = min(lowest[table], lowest[target])
            elif target in path:
                lowest[table] = min(lowest[table], number[target])
        if lowest[table] == number[table]:
            place = path.index(table)
            found.append(tuple(sorted(path[place:])))
            del path[place:]

    for table in targets:
        if table not in number:
            visit(table)
    return found


def order(component: Collection[Name], keys: Iterable[ForeignKey], can_be_empty: Collection[ForeignKey]) -> Order | None:
    """How to fill tables that refer to one another; None where no reference between them can wait."""
    within = [k for k in keys if k.table in component and k.target in component and k.table != k.target]
    emptied: list[ForeignKey] = []
    deferred: list[ForeignKey] = []
    while True:
        kept = [key for key in within if key not in emptied and key not in deferred]
        graph = {table: {key.target for key in kept if key.table == table} for table in sorted(component)}
        try:
            return Order(tuple(TopologicalSorter(graph).static_order()), tuple(emptied), tuple(deferred))
        except CycleError as error:
            circle: list[Name] = error.args[1]
            steps = set(zip(circle[1:], circle, strict=False))  # each table and one that it refers to
        closing = [key for key in kept if (key.table, key.target) in steps]
        empty, late = (next(filter(test, closing), None) for test in (can_be_empty.__contains__, _deferrable))
        if empty:
            emptied.append(empty)
        elif late:
            deferred.append(late)
        else:
            return None


def _deferrable(key: ForeignKey) -> bool:
    return key.deferrable
