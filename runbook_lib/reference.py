"""The reference of all keys of plans, targets, stacks and fleets: python -m runbook_lib.reference > docs/reference.md."""

import ast
import inspect
import json
import textwrap
from collections.abc import Iterator
from itertools import pairwise
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from runbook_lib.config.fleet import Fleet, Tls
from runbook_lib.config.plan.migration import migration_tools
from runbook_lib.documents import plan_model, target_model
from runbook_lib.rehearsal.stack_file import stack_model

HEAD = """\
# Reference: every key

Made from the models by `python -m runbook_lib.reference`; [parameters.md](parameters.md) says what the keys are for.
Kinds of step, check and service manager of other packages are not in here.
"""


def reference() -> str:
    """Return the reference: a table for each model, those of plans first. Read-only."""
    parts = [HEAD]
    models = (("Plan", plan_model()), ("Target", target_model()), ("Stack", stack_model()))
    for title, model in (*models, ("Fleet", Fleet), ("A fleet's cluster", Tls)):
        parts += [f"## {title}\n", *(_section(each) for each in _reached(model))]
    return "\n".join([*parts, _of_tools()])


def _reached(model: type[BaseModel]) -> list[type[BaseModel]]:
    """Return a model and those of its fields, each once, in the order in which they are met."""
    found = {model: None}
    for each in (m for field in model.model_fields.values() for m in _models(field.annotation)):
        found.update(dict.fromkeys(_reached(each)))
    return list(found)


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from _models(inner)


def _of_tools() -> str:
    """Return the table of migration tools, by the names that plans use."""
    lines = [
        "## Migration tools\n",
        "What `tool` under `migration` brings; a plan overrides any of it. A file's name shows its version by these",
        "patterns, from that folder; where there are none, its text does. Files that all migrations share go or stay",
        "with the migration, go with the code, or stay as they are.\n",
        "| `tool` | History | Row of a migration | Stopped midway | Files | SQL | Shared files | Command |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, tool in migration_tools().items():
        table = ".".join(filter(None, (tool.schema_, tool.table)))
        row = f"one for all: `{tool.column}`" if tool.rows == "one" else f"by `{'`, `'.join([tool.column, *tool.named_by])}`"
        row += f", with rows of `{'`, `'.join(tool.related)}`" if tool.related else ""
        half = ", ".join(f"`{column}` is {json.dumps(value)}" for column, value in tool.half_applied.items())
        shown = ", ".join(f"`{pattern.replace('|', chr(92) + '|')}`" for pattern in tool.files) or "by their text"
        others = ", ".join(f"`{each.file}` ({each.follows})" for each in tool.companions)
        command = f"`{' '.join(tool.validator)}`" if tool.validator else ""
        printed = f"`{' '.join(tool.sql.printed_by)}`" if tool.sql.printed_by else "its files" if tool.sql.files else "none"
        cells = (f"`{name}`", f"`{table}`", row, half, f"`{tool.directory}`: {shown}", printed, others, command)
        lines.append(f"| {' | '.join(cell or 'none' for cell in cells)} |")
    return "\n".join(lines) + "\n"


KINDS = ("kind", "manager")  # the key that distinguishes the models of a union


def _section(model: type[BaseModel]) -> str:
    kind = next((f"{key}: {_shown(field.annotation)}" for key, field in model.model_fields.items() if key in KINDS), "")
    described = _described(model)
    lines = [f"### {kind or model.__name__}\n", f"{inspect.getdoc(model)}\n"]
    if about := getattr(model, "about", None):
        undone = "Can be undone." if about.reversible else "Cannot be undone."
        lines.append(f"{about.does} {about.expect} {about.preserves} {undone}\n")
    if requires := getattr(model, "requires", ()):
        lines.append(f"Requires of the plan: {', '.join(f'`{part}`' for part in requires)}.\n")
    lines += ["| Key | Value | Where left out | Meaning |", "|---|---|---|---|"]
    left_out = getattr(model, "left_out", {})
    for name, field in sorted(model.model_fields.items(), key=lambda item: item[0] in left_out):
        if name not in KINDS:
            cells = (f"`{field.alias or name}`", _shown(field.annotation), _default(model, name, field), described[name])
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _default(model: type[BaseModel], name: str, field: FieldInfo) -> str:
    about = getattr(model, "about", None)
    if about and name in ("title", "estimate"):
        return f"`{getattr(about, name)}`"
    if name in (left_out := getattr(model, "left_out", {})):
        return str(left_out[name])
    return "required" if field.is_required() else f"`{field.get_default(call_default_factory=True)!r}`"


def _described(model: type[BaseModel]) -> dict[str, str]:
    """Return what the docstring below each field of a model, or of a class that it is made from, says."""
    found = {}
    for each in reversed([c for c in model.__mro__ if issubclass(c, BaseModel) and c.__module__.startswith("runbook_lib.")]):
        if each.__qualname__ == each.__name__ and each.__module__ != "runbook_lib.documents":
            (body,) = ast.parse(textwrap.dedent(inspect.getsource(each))).body
            assert isinstance(body, ast.ClassDef)
            for field, text in pairwise(body.body):
                if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr):
                    found[ast.unparse(field.target)] = inspect.cleandoc(ast.literal_eval(text.value)).replace("\n", " ")
    return found


def _shown(annotation: Any) -> str:
    """Return a type in words."""
    inner = get_args(annotation)
    match get_origin(annotation):
        case None:
            return NAMES.get(annotation) or str(annotation.__name__)
        case origin if origin is Annotated:
            return _shown(inner[0])
        case origin if origin is Literal:
            return " or ".join(f"`{value}`" for value in inner)
        case origin if origin in (Union, UnionType):
            by_kind = all(not set(KINDS).isdisjoint(getattr(each, "model_fields", ())) for each in inner)
            return "one of the kinds below" if by_kind else " or ".join(map(_shown, inner))
        case origin if origin is list:
            return f"list of {_shown(inner[0])}"
        case origin if origin is dict:
            return f"name → {_shown(inner[1])}"
    return str(annotation)


NAMES = {str: "text", int: "whole number", float: "number", bool: "true or false", NoneType: "null"}


if __name__ == "__main__":
    print(reference(), end="")
