"""Open points of a YAML file: each null that asks a person for a value, as `key: null  # decide: QUESTION`.

The comment may be above the key instead, on several lines.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from runbook_lib.errors import ParametersError

_ASKED = re.compile(r"#\s*decide:\s*(\S.*?)\s*$")
_COMMENT = re.compile(r"^\s*#\s*(.*?)\s*$")


@dataclass(frozen=True)
class OpenPoint:
    """A value that a person has to give: its line, its key, and what is asked."""

    line: int
    key: str
    asked: str

    def __str__(self) -> str:
        return f"line {self.line}, {self.key}: {self.asked}"


def open_points(text: str) -> list[OpenPoint]:
    """Return the open points of a YAML text. Pure."""
    if "decide:" not in text:
        return []
    lines = text.splitlines()
    nulls = _nulls(yaml.compose(text, yaml.SafeLoader), "")
    return [OpenPoint(line + 1, key, asked) for line, key in nulls if (asked := _asked(lines, line))]


def _asked(lines: Sequence[str], line: int) -> str:
    """Return what a comment on a line, or right above it, asks; "" where none does. Pure."""
    if behind := _ASKED.search(lines[line]):
        return behind[1]
    more = list[str]()
    for above in reversed(lines[:line]):
        if found := _ASKED.search(above) if above.lstrip().startswith("#") else None:
            return " ".join([found[1], *more])
        if not (comment := _COMMENT.match(above)):
            break
        more.insert(0, comment[1])
    return ""


def _nulls(node: yaml.Node | None, key: str) -> Iterator[tuple[int, str]]:
    """Return the line and the key of each null. Pure."""
    if isinstance(node, yaml.MappingNode):
        for name, value in node.value:
            yield from _nulls(value, f"{key}.{name.value}".lstrip("."))
    elif isinstance(node, yaml.SequenceNode):
        for number, value in enumerate(node.value):
            yield from _nulls(value, f"{key}.{number}")
    elif node is not None and node.tag == "tag:yaml.org,2002:null":
        yield node.start_mark.line, key


def require_decided(path: Path, text: str) -> None:
    """See that a file has no open point. Pure.

    Raises:
        ParametersError: It has one; each is named with its line and what is asked.
    """
    if found := open_points(text):
        raise ParametersError(
            "\n".join([f"{path} leaves {len(found)} to decide:", *(f"  {each}" for each in found)]),
            state="Nothing was touched.",
            safe_next="Write a value in place of each null, then run the same command again.",
        )
