"""Reads a YAML file into a strict model, or says which key of which file is wrong and how to correct it."""

import json
import os
import re
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from datetime import date
from importlib.resources import files
from pathlib import Path
from typing import Any, Self, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Discriminator, ValidationError
from pydantic_core import ErrorDetails, PydanticCustomError

from runbook_lib.config.open_points import require_decided
from runbook_lib.errors import ParametersError

PROJECT = "RUNBOOK_PROJECT"  # an environment variable: the project, for a kernel, which starts in its notebook's folder


def project(package: Path, environment: Mapping[str, str], here: Path) -> Path:
    """The folder that relative paths and outputs/ are below: the checkout, or `here` for an installed package. Read-only."""
    checkout = package.parent
    return Path(environment.get(PROJECT) or (checkout if (checkout / "pyproject.toml").is_file() else here))


ROOT = project(Path(__file__).parents[1], os.environ, Path.cwd())
NOTHING_TOUCHED = "Nothing was touched."


MEMBERS = ("str", "int", "float", "constrained-float", "bool")  # of a union of plain values, as pydantic names them
PLAIN = (*MEMBERS, "date", "datetime")
ANY_OF = "text, a number, true, false"
NOT_SHOWN = "not_shown"  # the type of a problem whose value may be a secret
MAPPING = "it must hold keys and values, as {key: value}"
TEXTS = {
    "model_type": MAPPING,
    "model_attributes_type": MAPPING,
    "dict_type": MAPPING,
    "list_type": "it must be a list, as [a, b]",
    "string_too_short": "it must not be empty",
}


class Model(BaseModel):
    """A frozen model in which an unknown key or a wrong type is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, defer_build=True)

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Copy it with other values, by the keys that a file gives them. Pure."""
        names = {field.alias: name for name, field in type(self).model_fields.items() if field.alias}
        given = {names.get(key, key): value for key, value in (update or {}).items()}
        return super().model_copy(update=given, deep=deep)


M = TypeVar("M", bound=Model)


class Misplaced(ValueError):
    """A value does not fit another of the same file; `keys` lead to it."""

    def __init__(self, text: str, *keys: int | str) -> None:
        super().__init__(text)
        self.keys = keys


def like(pattern: str, what: str) -> Callable[[str], str]:
    """Return a validator of texts that match a pattern, which its error calls `what`. Pure."""

    def matching(text: str) -> str:
        if not re.search(pattern, text):
            raise PydanticCustomError("not_like", "it must be {what}", {"what": what})
        return text

    return matching


def by_key(*keys: str) -> Discriminator:
    """Return how members of a union of models differ: by the one key, of these, that a value has; tags are <key>. Pure."""

    def tag(value: Any) -> str | None:
        there = value if isinstance(value, Mapping) else getattr(type(value), "model_fields", ())
        found = [key for key in keys if key in there]
        return f"<{found[0]}>" if len(found) == 1 else None

    said = f"it must hold exactly one of the keys {', '.join(keys)}"
    return Discriminator(tag, custom_error_type="by_key", custom_error_message=said)


class _StrictLoader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]  # the fast one where it is built in
    """A YAML loader that allows each key only once."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node)
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"the key {key!r} is there twice", key_node.start_mark)
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
        text = located(path).read_text(encoding="utf-8")
        data = yaml.load(text, _StrictLoader)  # noqa: S506 - derived from SafeLoader
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
    require_decided(path, text)
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
                where=place(path, [int(each) if each.isdigit() else each for each in key.split(".")]),
                state=NOTHING_TOUCHED,
                safe_next=f"Set {name}, or write the value into the file.",
            )
        return environment[name]

    return re.sub(r"\$\{(\w+)\}", found, value)


def explained(path: Path, problems: Iterable[ErrorDetails], model: type[BaseModel]) -> ParametersError:
    """Name the keys of a file that do not fit a model, each with its line where the file has it. Read-only."""
    root = _root(path)
    lines = []
    for problem in problems:
        elsewhere = getattr(problem.get("ctx", {}).get("error"), "keys", ())  # where a check of the whole file found it
        line, key = _place(root, (*problem["loc"], *elsewhere))
        key = "" if elsewhere else key
        text, remedy = _said(problem)
        place = f"{path}, line {line}" if line else str(path)
        lines.append(": ".join(part for part in (place, key, f"{text}; {remedy}.") if part))
    return ParametersError(
        "\n".join(lines),
        state=NOTHING_TOUCHED,
        safe_next=f"The keys are in docs/parameters.md ({model.__name__}); `python -m runbook_lib.reference` prints them.",
    )


def place(path: Path, keys: Sequence[int | str]) -> str:
    """Return a file, and the line and the key that some keys lead to. Read-only."""
    line, key = _place(_root(path), keys)
    return f"{path}, line {line}: {key}" if line else str(path)


def _said(problem: ErrorDetails) -> tuple[str, str]:
    """Return what is wrong, and how it is corrected. Pure."""
    context, given = problem.get("ctx", {}), problem["input"]
    by = str(context.get("discriminator", "")).strip("'")
    match problem["type"]:
        case "extra_forbidden":
            return "unknown key", "take it out, or correct its spelling"
        case "union_tag_not_found" if problem["loc"][0] in ("steps", "checks"):
            return (
                f"it has no `{by}`, which only what the standard plan brings to this plan can do without",
                f"correct its spelling, add the part of the plan that it is for, or add its {by}",
            )
        case "missing" | "union_tag_not_found":
            return f"it has no `{by}`" if by else "missing", "add it"
        case "union_tag_invalid":
            known = ", ".join(sorted(context["expected_tags"].replace("'", "").split(", ")))
            return f"there is no {by} {context['tag']!r}; known are {known}", "correct the value"
        case kind if kind == NOT_SHOWN:
            return problem["msg"], "correct it"
        case kind:
            text = TEXTS.get(kind, problem["msg"].removeprefix("Value error, ").removesuffix(" after validation, not 0"))
            quoted = kind == "string_type" and not isinstance(given, dict | list | None)
            remedy = "put quotes around it" if quoted else "correct the value"
            return text + ("" if isinstance(given, dict | list) else f", but the file has {_written(given)}"), remedy


def _written(value: Any) -> str:
    """Return a value as a file has it, without what an address has before its host. Pure."""
    if isinstance(value, date):
        return value.isoformat()
    shown = repr(value) if isinstance(value, str | float) else json.dumps(value, default=repr)
    return re.sub(r"//[^/?#\s]*@", "//…@", shown)


def _root(path: Path) -> yaml.Node | None:
    root: yaml.Node | None = yaml.compose(located(path).read_text(encoding="utf-8"), _StrictLoader)
    return root


def _place(node: yaml.Node | None, keys: Sequence[int | str]) -> tuple[int, str]:
    """The line of the innermost of some keys that the file has, 0 where it has none, and the keys without tags. Pure."""
    found, named, tagged = 0, list[str](), False
    for key in keys:
        text = str(key)
        inner = list[tuple[yaml.Node, yaml.Node]](node.value) if isinstance(node, yaml.MappingNode) else []
        if text == "[key]" or text[:1] == "<" or (not tagged and text in _kinds(inner)):
            tagged = True
            continue
        named.append(text)
        tagged = False
        if entry := next((entry for entry in inner if entry[0].value == text), None):
            found, node = entry[0].start_mark.line + 1, entry[1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(key, int) and key < len(node.value):
            node = node.value[key]
            found = node.start_mark.line + 1
    return found, ".".join(named)


def _kinds(entries: list[tuple[yaml.Node, yaml.Node]]) -> list[str]:
    """Return the kinds that a mapping gives: the tags that distinguish them. Pure."""
    return [value.value for name, value in entries if name.value in ("kind", "manager")]


def problems_of(error: ValidationError) -> list[ErrorDetails]:
    """Return the problems of a model, of a value that may be of several types only one. Pure."""
    problems = error.errors(include_url=False)
    unions = {p["loc"][:-1]: p["input"] for p in problems if p["loc"] and p["loc"][-1] in MEMBERS}
    inside = [(loc, p["loc"][len(loc)]) for loc in unions for p in problems if p["loc"][: len(loc)] == loc != p["loc"]]
    with_keys = {loc for loc, member in inside if member not in PLAIN}
    found = []
    for problem in problems:
        union = next((loc for loc in unions if problem["loc"][: len(loc)] == loc), None)
        if union is None:
            found.append(problem)
        elif isinstance(unions[union], dict) and union in with_keys:  # a mapping of the wrong keys or values
            if problem["loc"][len(union)] not in PLAIN:
                found.append({**problem, "loc": (*union, *problem["loc"][len(union) + 1 :])})
        elif problem["loc"][-1] == "str":
            as_text = isinstance(unions[union], date)
            any_of = f"{ANY_OF}, null or {{column: NAME}}" if union in with_keys else f"{ANY_OF} or null"
            said = {"type": "string_type"} if as_text else {"type": "union", "msg": f"Input should be {any_of}"}
            found.append({**problem, "loc": union, **said})  # type: ignore[typeddict-item]
    return found


def secret(name: str, where: str, environment: Mapping[str, str] = os.environ) -> str:
    """Return the secret that the environment holds under `name`. Read-only.

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
