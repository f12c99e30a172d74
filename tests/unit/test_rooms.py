"""The package's folders are rooms on floors: each imports from below alone, and no module needs itself."""

import ast
import re
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

from ..support.places import ROOT

PACKAGE = ROOT / "runbook_lib"
SQL = re.compile(r"\s*(SELECT|INSERT INTO|UPDATE|DELETE FROM|ALTER|CREATE|DROP|SET|LOCK) ")
MOST_MODULES = 200  # the packages' own counted, those of the sample application not
TOP = {"cli", "notebook", "documents", "reference", "errors", "results"}  # modules that stand in no room

Graph = Mapping[str, set[str]]


def paths() -> dict[str, Path]:
    """Each module by its full name; the sample application is no part of the library."""
    found = [path for path in PACKAGE.rglob("*.py") if PACKAGE / "rehearsal" / "application" not in path.parents]
    return {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in found}


def imports(path: Path, known: Mapping[str, Path]) -> Iterator[str]:
    """What a module imports of the package: when it is loaded, later, or for type checkers alone."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("runbook_lib"):
            for name in node.names:
                module = f"{node.module}.{name.name}"
                yield module if module in known else str(node.module)


def modules() -> Graph:
    known = paths()
    return {name: set(imports(path, known)) - {name} for name, path in known.items() if name != PACKAGE.name}


def room(module: str) -> str:
    return module.split(".")[1] if "." in module else module


def rooms() -> Graph:
    found: dict[str, set[str]] = {}
    for name, needed in modules().items():
        found.setdefault(room(name), set()).update({room(other) for other in needed} - {room(name)})
    return found


def floors(graph: Graph) -> list[set[str]]:
    """The rooms from the ground up: each stands on the floor above the highest that it imports from."""
    height: dict[str, int] = {}
    for name in TopologicalSorter(graph).static_order():
        height[name] = 1 + max((height[other] for other in graph.get(name, ())), default=-1)
    return [{name for name, at in height.items() if at == floor} for floor in range(max(height.values()) + 1)]


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


def test_outside_the_rooms_stand_few_modules() -> None:
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
