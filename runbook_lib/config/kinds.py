"""How kinds of step, check and manager are found: in a room of this library, and by entry points of other packages."""

import inspect
from collections.abc import Callable, Iterable, Iterator
from importlib import import_module
from importlib.metadata import entry_points
from pkgutil import iter_modules
from types import GenericAlias, ModuleType
from typing import Annotated, Any, TypeVar, Union, get_args

from pydantic import BaseModel, Field

from runbook_lib.config.plan.steps import Name
from runbook_lib.errors import ParametersError

K = TypeVar("K")


def modules_of(room: str, group: str) -> Iterator[ModuleType]:
    """Import every module of a room, and those that other packages name by an entry point `group`. Read-only.

    Raises:
        ParametersError: A module that another package names cannot be imported.
    """
    for found in iter_modules(import_module(room).__path__):
        yield import_module(f"{room}.{found.name}")
    for point in entry_points(group=group):
        try:
            yield import_module(point.value)
        except Exception as error:
            raise ParametersError(
                f"{point.value}, which the package {point.dist.name if point.dist else '?'} names in {group}, "
                f"cannot be imported: {error}",
                state="Nothing was touched.",
                safe_next="Correct that package, or uninstall it.",
            ) from error


def named(keys: type[BaseModel], by: str = "kind") -> str:
    """Return the name that plans and targets give a kind, by the model of its keys. Pure."""
    (name,) = get_args(keys.model_fields[by].annotation)
    return str(name)


def collected(
    room: str, group: str, declared: Callable[[ModuleType], Iterable[tuple[type[BaseModel], K]]], by: str = "kind"
) -> dict[str, K]:
    """Collect the kinds that are installed, by their names. Read-only.

    Args:
        room: The package whose modules declare kinds.
        group: The entry points by which other packages name theirs.
        declared: The kinds that a module declares, each with the model of its keys.
        by: The key that holds a kind's name.

    Raises:
        TypeError: Two have one name.
    """
    found: dict[str, K] = {}
    for module in modules_of(room, group):
        for keys, kind in declared(module):
            name = named(keys, by)
            if found.setdefault(name, kind) is not kind:
                raise TypeError(f"{module.__name__} declares the {by} {name}, which is declared already")
    return found


def classes_of(module: ModuleType) -> list[type[Any]]:
    """Return the classes that a module defines itself. Pure."""
    return [each for each in vars(module).values() if inspect.isclass(each) and each.__module__ == module.__name__]


def union(models: Iterable[type[BaseModel]], by: str = "kind") -> Any:
    """Return the type of a value that is one of some models, distinguished by a key. Pure."""
    return Annotated[Union[tuple(models)], Field(discriminator=by)]  # noqa: UP007  # a list of them cannot be written with |


def by_name(models: Iterable[type[BaseModel]]) -> Any:
    """Return the type of a mapping from names to values that are each one of some models. Pure."""
    return GenericAlias(dict, (Name, union(models)))
