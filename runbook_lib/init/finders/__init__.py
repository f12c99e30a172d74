"""What reads a team's repository; each finder is a module here, with `find` and what it is trusted over others."""

from collections.abc import Callable, Iterable
from functools import cache
from importlib import import_module
from pkgutil import iter_modules

from runbook_lib.init.found import Folder, Found

Finder = Callable[[Folder], Iterable[Found]]


@cache
def finders() -> list[Finder]:
    """Return the finders, those first whose word counts where two say the same. Read-only."""
    modules = [import_module(f"{__name__}.{each.name}") for each in iter_modules(__path__)]
    return [module.find for module in sorted(modules, key=lambda module: (module.RANK, module.__name__))]


def look(folder: Folder) -> list[Found]:
    """Return all that is found in a repository, what counts most first. Read-only."""
    return [found for find in finders() for found in find(folder) if found.words]
