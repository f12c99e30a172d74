"""Write a drafted plan as text: short, and each part with a comment that says where it comes from. Pure."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

WIDTH = 120
DECIDE = "# decide: "  # begins the comment above an open point


@dataclass(frozen=True)
class Part:
    """Some keys of a plan, and where they come from; of a value that is null, what is asked."""

    keys: Mapping[str, Any]
    comment: str = ""


@dataclass(frozen=True)
class Entries:
    """A key of a plan whose entries have a comment each; `asks` where they are null."""

    key: str
    entries: Mapping[str, tuple[Any, str]]
    asks: bool = False


def text(title: str, parts: Sequence[Part | Entries]) -> str:
    """The plan as YAML. Pure."""
    lines = comment(title)
    for part in parts:
        match part:
            case Part():
                lines += [
                    *comment(part.comment),
                    *(line for key, value in part.keys.items() for line in _pair("", key, value)),
                ]
            case Entries():
                lines += [f"{part.key}:"]
                begins = DECIDE if part.asks else "# "
                for name, (value, said) in part.entries.items():
                    lines += [*comment(said, "  ", begins), *_entry(name, value)]
    return "\n".join(lines) + "\n"


def _entry(name: str, value: Any) -> list[str]:
    """An entry on a line, or on one for each of its own where it asks what is to be decided."""
    if not (isinstance(value, Mapping) and "decide" in value):
        return _pair("  ", name, value)
    lines = [f"  {flow(name)}:", "    decide:"]
    for key, asked in value["decide"].items():
        lines += [*comment(asked, "      ", DECIDE), f'      "{key}": null']
    return lines


def _pair(indent: str, key: str, value: Any) -> list[str]:
    """A key with its value, on one line where that is not too long, else each of the value's own on its own."""
    one = f"{indent}{flow(key)}: {flow(value)}"
    asks = isinstance(value, Mapping) and None in value.values()  # below the comment that says what
    if len(one) <= WIDTH or asks or not isinstance(value, Mapping | list):
        return [one]
    if isinstance(value, list):
        return [f"{indent}{flow(key)}:", *(f"{indent}  - {flow(each)}" for each in value)]
    return [f"{indent}{flow(key)}:", *(line for name, inner in value.items() for line in _pair(f"{indent}  ", name, inner))]


def comment(said: str, indent: str = "", begins: str = "# ") -> list[str]:
    """A text as comment lines. Pure."""
    if not said:
        return []
    first, later = indent + begins, f"{indent}#   "
    one = " ".join(said.split())
    return textwrap.wrap(one, WIDTH, initial_indent=first, subsequent_indent=later, break_long_words=False)


def flow(value: Any) -> str:
    """A value on one line. Pure."""
    written: str = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, allow_unicode=True, width=10_000)
    return written.removesuffix("\n").removesuffix("\n...")
