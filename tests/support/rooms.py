"""The package's folders as rooms on floors, derived from what each module imports."""

import ast
from collections.abc import Iterator, Mapping
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

from .places import ROOT

PACKAGE = ROOT / "runbook_lib"

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


@cache
def modules() -> Graph:
    """Each module, and those that it imports."""
    known = paths()
    return {name: set(imports(path, known)) - {name} for name, path in known.items() if name != PACKAGE.name}


def room(module: str) -> str:
    """The room that a module is in; one outside all rooms is its own."""
    return module.split(".")[1] if "." in module else module


@cache
def rooms() -> Graph:
    """Each room, and those that its modules import from."""
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
