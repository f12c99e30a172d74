"""Reads a YAML file into a strict model, or says which key of which file is wrong and how to correct it."""

import os
import re
from collections.abc import Hashable, Iterable, Mapping, Sequence
from datetime import date
from importlib.resources import files
from pathlib import Path
from typing import Any, Self, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from runbook_lib.errors import ParametersError

PROJECT = "RUNBOOK_PROJECT"  # an environment variable: the project, for a kernel, which starts in its notebook's folder


def project(package: Path, environment: Mapping[str, str], here: Path) -> Path:
    """The folder that relative paths and outputs/ are below: the checkout, or `here` for an installed package. Read-only."""
    checkout = package.parent
    return Path(environment.get(PROJECT) or (checkout if (checkout / "pyproject.toml").is_file() else here))


ROOT = project(Path(__file__).parents[1], os.environ, Path.cwd())
NOTHING_TOUCHED = "Nothing was touched."


MEMBERS = ("str", "int", "float", "constrained-float", "bool")  # of a union of plain values, as pydantic names them
ANY_OF = "text, a number, true, false, null or {column: NAME}"


class Model(BaseModel):
    """A frozen model in which an unknown key or a wrong type is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, defer_build=True)

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Copy it with other values, by the keys that a file gives them. Pure."""
        names = {field.alias: name for name, field in type(self).model_fields.items() if field.alias}
        given = {names.get(key, key): value for key, value in (update or {}).items()}
        return super().model_copy(update=given, deep=deep)


M = TypeVar("M", bound=Model)


class _StrictLoader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]  # the fast one where it is built in
    """YAML in which a key may stand only once."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node)
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"the key {key!r} stands twice", key_node.start_mark)
            seen.add(key)
        mapping: dict[Hashable, Any] = super().construct_mapping(node, deep)
        return mapping


def located(path: Path) -> Path:
    """`path` as it is, or below the project where only that is there. Read-only."""
    return path if path.exists() or not (ROOT / path).exists() else ROOT / path


def load(path: Path, model: type[M], environment: Mapping[str, str] | None = None) -> M:
    """Read `path` as `model`; with an environment, `${NAME}` in a string is taken from it. Read-only.

    Raises:
        ParametersError: The file is missing, is not YAML, or does not fit the model.
    """
    data = read(path)
    if environment is not None:
        data = filled_in(data, environment, path, "")
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise explained(path, problems_of(error), model) from None


def packaged(package: str, name: str) -> dict[str, Any]:
    """Read the keys of a YAML file that comes with this library. Read-only."""
    text = (files(package) / name).read_text(encoding="utf-8")
    data: dict[str, Any] = yaml.load(text, _StrictLoader)  # noqa: S506 - derived from SafeLoader
    return data


def read(path: Path) -> dict[str, Any]:
    """Read the keys of a YAML file. Read-only.

    Raises:
        ParametersError: The file is missing, is not YAML, or holds no keys.
    """
    try:
        data = yaml.load(located(path).read_text(encoding="utf-8"), _StrictLoader)  # noqa: S506 - derived from SafeLoader
    except FileNotFoundError:
        raise ParametersError(
            f"There is no file {path}.",
            state=NOTHING_TOUCHED,
            safe_next=f"Name a file that exists; a relative path starts from {ROOT}.",
        ) from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ParametersError(
            f"{path} cannot be read as YAML: {' '.join(str(error).split())}",
            state=NOTHING_TOUCHED,
            safe_next="Correct the line named.",
        ) from None
    if not isinstance(data, dict):
        raise ParametersError(f"{path} holds no keys.", state=NOTHING_TOUCHED, safe_next="Name a plan or target file.")
    return data


def filled_in(value: Any, environment: Mapping[str, str], path: Path, key: str) -> Any:
    """Replace each `${NAME}` in the strings of a value by what the environment has under that name. Read-only.

    Raises:
        ParametersError: It has nothing under one.
    """
    if isinstance(value, dict):
        return {k: filled_in(v, environment, path, f"{key}.{k}".lstrip(".")) for k, v in value.items()}
    if isinstance(value, list):
        return [filled_in(v, environment, path, f"{key}.{i}") for i, v in enumerate(value)]
    if not isinstance(value, str):
        return value

    def found(match: re.Match[str]) -> str:
        name = match[1]
        if name not in environment:
            raise ParametersError(
                f"The environment has no {name}, which {path} takes its value from.",
                where=f"{path}, key {key}",
                state=NOTHING_TOUCHED,
                safe_next=f"Set {name}, or write the value into the file.",
            )
        return environment[name]

    return re.sub(r"\$\{(\w+)\}", found, value)


def explained(path: Path, problems: Iterable[ErrorDetails], model: type[BaseModel]) -> ParametersError:
    """Name the keys of a file that do not fit a model, each with its line where the file has it. Read-only."""
    lines = []
    for problem in problems:
        key = ".".join(str(part) for part in problem["loc"])
        match problem["type"]:
            case "extra_forbidden":
                text, remedy = "unknown key", "take it out, or correct its spelling"
            case "union_tag_not_found":
                text = "it has no `kind`, which only what the standard plan brings to this plan can do without"
                remedy = "correct its spelling, add the part of the plan that it is for, or add its kind"
            case "missing":
                text, remedy = "missing", "add it"
            case kind:
                text = problem["msg"].removeprefix("Value error, ")
                quoted = kind == "string_type" and not isinstance(problem["input"], dict | list | None)
                remedy = "put quotes around it" if quoted else "correct the value"
                if not isinstance(problem["input"], dict | list):
                    text += f", but the file has {problem['input']!r}"
        place = f"{path}, line {line}" if (line := _line(path, problem["loc"])) else str(path)
        lines.append(": ".join(part for part in (place, key, f"{text}; {remedy}.") if part))
    return ParametersError(
        "\n".join(lines),
        state=NOTHING_TOUCHED,
        safe_next=f"The keys are in docs/parameters.md ({model.__name__}); `python -m runbook_lib.reference` prints them.",
    )


def _line(path: Path, keys: Sequence[int | str]) -> int:
    """The line of the innermost of some keys that the file has, 0 where it has none. Read-only."""
    node, found = yaml.compose(located(path).read_text(encoding="utf-8"), _StrictLoader), 0
    for key in keys:
        if isinstance(node, yaml.MappingNode):
            inner = next(((name, value) for name, value in node.value if name.value == str(key)), None)
            if inner is not None:
                found, node = inner[0].start_mark.line + 1, inner[1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(key, int) and key < len(node.value):
            node = node.value[key]
            found = node.start_mark.line + 1
    return found


def problems_of(error: ValidationError) -> list[ErrorDetails]:
    """The problems of a model, of a value that may be of several types only one. Pure."""
    problems = error.errors(include_url=False)
    unions = {p["loc"][:-1]: p["input"] for p in problems if p["loc"] and p["loc"][-1] in MEMBERS}
    found = []
    for problem in problems:
        union = next((loc for loc in unions if problem["loc"][: len(loc)] == loc), None)
        if union is None:
            found.append(problem)
        elif isinstance(unions[union], dict):  # only a mapping of the wrong keys or values can be meant
            if problem["loc"][len(union)] not in MEMBERS:
                found.append({**problem, "loc": (*union, *problem["loc"][len(union) + 1 :])})
        elif problem["loc"][-1] == "str":
            as_text = isinstance(unions[union], date)
            said = {"type": "string_type"} if as_text else {"type": "union", "msg": f"Input should be {ANY_OF}"}
            found.append({**problem, "loc": union, **said})  # type: ignore[typeddict-item]
    return found


def secret(name: str, where: str, environment: Mapping[str, str] = os.environ) -> str:
    """The secret that the environment holds under `name`. Read-only.

    Raises:
        ParametersError: It is not there, or empty.
    """
    value = environment.get(name, "")
    if not value:
        raise ParametersError(
            f"The secret {name} is not in the environment.",
            where=where,
            state=NOTHING_TOUCHED,
            safe_next=f"Export {name} in the shell that starts the runbook; never write it into a file here.",
        )
    return value
