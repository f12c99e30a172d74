"""Where something is in a JSON answer: a path in a part of JMESPath (https://jmespath.org). Pure.

Dots separate keys, and a key of other characters is in double quotes; `[]` is each element of a list, `[0]` its first,
`*` each value of an object: `data.orders`, `data.orders.edges[].node`, `[0].result.data`.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Annotated, Any

from pydantic import AfterValidator

_KEY, _INDEX = r'(?:[^.\[\]"*\s|?(){}&,`=<>!]+|"[^"]+"|\*)', r"\[(?:-?\d+)?\]"
_STEP = re.compile(r'(?P<key>[^.\[\]"*]+)|"(?P<quoted>[^"]+)"|(?P<values>\*)|\[(?P<index>-?\d*)\]')
_PATH = re.compile(rf"(?:{_KEY}(?:{_INDEX})*|(?:{_INDEX})+)(?:\.{_KEY}(?:{_INDEX})*)*")
ROOTS = ("$", "@")  # of other notations


class _Absent:
    """The value at a path that is not there; it holds nothing."""

    def __bool__(self) -> bool:
        return False


ABSENT = _Absent()


def _path(text: str) -> str:
    if not _PATH.fullmatch(text) or text.split(".")[0] in ROOTS:
        raise ValueError('it must be keys parted by dots, with [] behind a list: data.orders, data.edges[].node, "a.b".c')
    return text


AnswerPath = Annotated[str, AfterValidator(_path)]


def at(value: Any, path: str) -> Any:
    """The value at a path, ABSENT where it is not there; a list of what is there, where the path goes through all of one."""
    return _at(value, _steps(path))


@cache
def _steps(path: str) -> tuple[str | int | type[dict[Any, Any]] | None, ...]:
    """Return the steps of a path: a key, an index, None for each element, `dict` for each value."""
    found: list[Any] = []
    for step in _STEP.finditer(path):
        if (index := step["index"]) is not None:
            found.append(int(index) if index.strip("-") else None)
        else:
            found.append(dict if step["values"] else step["key"] or step["quoted"])
    return tuple(found)


def _at(value: Any, steps: tuple[Any, ...]) -> Any:
    for number, step in enumerate(steps):
        if step is None or step is dict:
            if not isinstance(value, dict if step is dict else list):
                return ABSENT
            each = value.values() if isinstance(value, dict) else value
            found = [_at(one, steps[number + 1 :]) for one in each]
            deeper = any(later is None or later is dict for later in steps[number + 1 :])
            kept = [one for one in found if one is not ABSENT and one is not None]
            return [one for inner in kept for one in inner] if deeper else kept
        if isinstance(step, int):
            if not isinstance(value, list) or not -len(value) <= step < len(value):
                return ABSENT
        elif not isinstance(value, dict) or step not in value:
            return ABSENT
        value = value[step]
    return value


def places(value: Any, path: str) -> list[Any]:
    """What is at each place that a path leads to: of each element of its lists, ABSENT where the rest is not there. Pure."""
    return _places(value, _steps(path))


def _places(value: Any, steps: tuple[Any, ...]) -> list[Any]:
    if not steps:
        return [value]
    step, rest = steps[0], steps[1:]
    if step is None or step is dict:
        if not isinstance(value, dict if step is dict else list):
            return [ABSENT]
        each = value.values() if isinstance(value, dict) else value
        return [found for one in each for found in _places(one, rest)]
    inner = _at(value, (step,))
    return [ABSENT] if inner is ABSENT else _places(inner, rest)


def ways(value: Any, path: str) -> list[dict[str, Any]]:
    """Return the objects that a path goes through, the outermost first; those inside a list are left out. Pure."""
    found = []
    for step in _steps(path):
        if isinstance(value, dict):
            found.append(value)
        if not isinstance(step, str) or not isinstance(value, dict) or step not in value:
            break
        value = value[step]
    return found
