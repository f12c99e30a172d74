"""Write a drafted plan as YAML text: short, with a comment on each part's source. Pure."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

WIDTH = 120
DECIDE = "# decide: "  # starts the comment above an open question


@dataclass(frozen=True)
class Part:
    """Some keys of a plan and their source; for a null value, the question."""

    keys: Mapping[str, Any]
    comment: str = ""


@dataclass(frozen=True)
class Entries:
    """A key of a plan whose entries each have a comment; `asks` holds the questions for null entries."""

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
    """Format an entry on one line, or on one line per question if it has open ones."""
    if not (isinstance(value, Mapping) and "decide" in value):
        return _pair("  ", name, value)
    lines = [f"  {flow(name)}:", "    decide:"]
    for key, asked in value["decide"].items():
        lines += [*comment(asked, "      ", DECIDE), f'      "{key}": null']
    return lines


def _pair(indent: str, key: str, value: Any) -> list[str]:
    """Format a key and its value on one line if short enough, else one line per part of the value."""
    one = f"{indent}{flow(key)}: {flow(value)}"
    asks = isinstance(value, Mapping) and None in value.values()  # an open question is above
    if len(one) <= WIDTH or asks or not isinstance(value, Mapping | list):
        return [one]
    if isinstance(value, list):
        return [f"{indent}{flow(key)}:", *(f"{indent}  - {flow(each)}" for each in value)]
    return [f"{indent}{flow(key)}:", *(line for name, inner in value.items() for line in _pair(f"{indent}  ", name, inner))]


def comment(said: str, indent: str = "", begins: str = "# ") -> list[str]:
    """Format a text as comment lines. Pure."""
    if not said:
        return []
    first, later = indent + begins, f"{indent}#   "
    one = " ".join(said.split())
    return textwrap.wrap(one, WIDTH, initial_indent=first, subsequent_indent=later, break_long_words=False)


def flow(value: Any) -> str:
    """Format a value on one line. Pure."""
    written: str = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, allow_unicode=True, width=10_000)
    return written.removesuffix("\n").removesuffix("\n...")
