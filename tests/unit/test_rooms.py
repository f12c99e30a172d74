"""The package's folders are rooms on floors: each imports from below alone, and no module needs itself."""

import ast
import re
from graphlib import CycleError, TopologicalSorter

from ..support.places import ROOT
from ..support.rooms import PACKAGE, Graph, floors, modules, paths, rooms

SQL = re.compile(r"\s*(SELECT|INSERT INTO|UPDATE|DELETE FROM|ALTER|CREATE|DROP|SET|LOCK) ")
MOST_MODULES = (
    425  # the packages' own counted, those of the sample application not; 200 but for what plans can say of any feature
)
TOP = {"__main__", "cli", "notebook", "documents", "reference", "errors", "results"}  # modules that stand in no room


def cycles(graph: Graph) -> list[str]:
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def test_no_room_imports_upward_and_no_module_needs_itself() -> None:
    of_rooms, of_modules = cycles(rooms()), cycles(modules())
    assert (of_rooms, of_modules) == ([], [])

    found = floors(rooms())
    print(f"{len(modules())} modules, {len(rooms())} rooms, {len(found)} floors, 0 cycles, 0 imports upward")
    for number, names in enumerate(found):
        print(f"{number:3} {', '.join(sorted(names))}")


def test_a_module_is_one_concept_so_there_are_not_many() -> None:
    assert len(paths()) <= MOST_MODULES


def test_few_modules_are_outside_the_rooms() -> None:
    outside = {path.stem for path in PACKAGE.glob("*.py")} - {"__init__"}

    assert outside == TOP
    assert len(outside) <= 8


def test_an_import_upward_is_noticed() -> None:
    assert cycles({"low": {"high"}, "high": {"low"}}) != []
    assert floors({"high": {"low"}, "low": set()}) == [{"low"}, {"high"}]


def test_all_sql_is_in_the_room_of_postgresql() -> None:
    """The rehearsal's own databases apart."""
    outside = [p for p in paths().values() if not {"postgres", "rehearsal"} & set(p.relative_to(PACKAGE).parts)]
    found = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in outside
        for node in ast.walk(ast.parse(path.read_text()))
        if (isinstance(node, ast.Constant) and isinstance(node.value, str) and SQL.match(node.value))
        or (isinstance(node, ast.Attribute) and ast.unparse(node) == "sql.SQL")
    ]

    assert len(outside) > 100
    assert found == []
