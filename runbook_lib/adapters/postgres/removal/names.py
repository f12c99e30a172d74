"""The names that a removal uses, and what definitions say by their text: pure."""

import re
from collections.abc import Iterable

LONGEST = 63  # bytes of an identifier

_LITERAL = r"(?:'(?:[^']|'')*'|-?\d+(?:\.\d+)?|true|false|NULL)"
_CONSTANT = re.compile(rf"{_LITERAL}(?:::[\w\s.\"\[\](),]+)?")


def aside(columns: Iterable[str], run: str) -> dict[str, str]:
    """Column -> the name it bears while it is set aside, at most 63 bytes long and each a different one."""
    taken: dict[str, str] = {}
    for column in columns:
        number, name = 1, _shortened(column, f"__removed_{run}")
        while name in taken.values():
            number += 1
            name = _shortened(column, f"_{number}__removed_{run}")
        taken[column] = name
    return taken


def is_constant(default: str | None) -> bool:
    """Whether a column's default is none or a plain literal, so that it gives the same value whenever it is asked."""
    return default is None or _CONSTANT.fullmatch(default) is not None


def concurrently(definition: str) -> str:
    """The definition of an index, as a statement that builds it without keeping writers out."""
    return re.sub(r"^(CREATE (?:UNIQUE )?INDEX) ", r"\1 CONCURRENTLY ", definition)


def _shortened(name: str, suffix: str) -> str:
    return name.encode()[: LONGEST - len(suffix.encode())].decode(errors="ignore") + suffix
