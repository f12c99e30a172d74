"""Keys as YAML with comments: where each value was found, and a question to a person if none was."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

WIDTH = 1000  # a value stays on its line


@dataclass(frozen=True)
class Asked:
    """A value that a person has to give."""

    question: str


@dataclass(frozen=True)
class Known:
    """A value, and where it was found."""

    value: Any
    where: str


def text(keys: Mapping[str, Any], indent: str = "") -> str:
    """Return some keys as YAML. Pure."""
    lines = []
    for key, value in keys.items():
        name = f"{indent}{_flow(key)}:"
        if isinstance(value, Asked):
            lines.append(f"{name} null  # decide: {value.question}")
        elif isinstance(value, Known):
            lines.append(f"{name} {_flow(value.value)}  # {value.where}")
        elif isinstance(value, Mapping) and value:
            lines += [name, text(value, indent + "  ").rstrip("\n")]
        elif isinstance(value, Sequence) and not isinstance(value, str) and any(isinstance(each, Mapping) for each in value):
            lines += [name, *(f"{indent}  - {_flow(each)}" for each in value)]
        else:
            lines.append(f"{name} {_flow(value)}")
    return "\n".join(lines) + "\n"


def _flow(value: Any) -> str:
    written: str = yaml.safe_dump(value, default_flow_style=True, width=WIDTH, allow_unicode=True, sort_keys=False)
    return written.removesuffix("...\n").strip()
